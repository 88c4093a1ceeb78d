"""What is replaced in a text, and where a long one is cut."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from exporter.log import REDACTED, Redactor

LETTERS = st.text("ab<", max_size=12)


@given(text=LETTERS, size=st.integers(1, 12), secrets=st.lists(LETTERS), others=st.lists(LETTERS))
@example(text="aab<", size=3, secrets=["aab", "b<"], others=[])
def test_the_beginning_is_as_in_the_whole_text(
    text: str, size: int, secrets: list[str], others: list[str]
) -> None:
    """No cut goes through a secret: of one that begins the text and does not end in time, nothing is left."""
    redactor = Redactor(secrets, Redactor(others))
    beginning = redactor.redact_beginning(text, size)
    assert beginning == REDACTED or redactor.redact(text).startswith(beginning)
    assert beginning or not text


def test_a_cut_takes_no_more_than_it_must() -> None:
    """Without a secret across it, the text is cut where it was asked for."""
    redactor = Redactor(["secret"])
    assert [redactor.redact_beginning("a secret and", size) for size in (1, 4, 7, 8, 9)] == [
        "a", "a ", "a ", "a ***", "a *** ",
    ]  # fmt: skip
    assert redactor.redact_beginning("secrets", 3) == "***"


def test_secrets_that_others_learn_later_are_replaced() -> None:
    """Also one that is renewed."""
    others = Redactor()
    redactor = Redactor(["own"], others)
    others.add("lasting")
    others.add_renewed("renewed")
    assert redactor.redact("own lasting renewed") == "*** *** ***"
    assert others.redact("own") == "own"
