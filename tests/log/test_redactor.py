"""What is replaced in a text, and where a long one is cut."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
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


def lower(text: str) -> str:
    """A URL's escapes as many programs write them."""
    return re.sub("%..", lambda escape: escape[0].lower(), text)


def each(text: str, write: Callable[[str], str]) -> str:
    """All but letters and digits written so."""
    return "".join(char if char.isascii() and char.isalnum() else write(char) for char in text)


def units(char: str, form: str) -> str:
    """JSON's numbers of a character: two beyond the first 65,536."""
    code = char.encode("utf-16-be")
    return "".join(rf"\u{format(int.from_bytes(code[at : at + 2]), form)}" for at in range(0, len(code), 2))


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "url": lambda text: quote(text, safe=""),
    "url, lower case": lambda text: lower(quote(text, safe="")),
    "url, path": quote,
    "form": quote_plus,
    "form, lower case": lambda text: lower(quote_plus(text)),
    "url in a url": lambda text: quote(quote(text, safe=""), safe=""),
    "json": in_json,
    "json, utf-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json, slashes": lambda text: in_json(text).replace("/", r"\/"),
    "json, for html": lambda text: in_json(text).replace("&", r"\u0026").replace("<", r"\u003c"),
    "json, numbers": lambda text: each(text, lambda char: units(char, "04x")),
    "json, upper case": lambda text: each(text, lambda char: units(char, "04X")),
    "json in json": lambda text: in_json(in_json(text)),
    "python": lambda text: repr(text)[1:-1],
    "python, ascii": lambda text: ascii(text)[1:-1],
    "python, bytes": lambda text: repr(text.encode())[2:-1],
    "html": html.escape,
    "html, no quotes": lambda text: html.escape(text, quote=False),
    "html, numbers": lambda text: each(text, lambda char: f"&#{ord(char)};"),
    "html, hexadecimal": lambda text: each(text, lambda char: f"&#x{ord(char):X};"),
    "html in html": lambda text: html.escape(html.escape(text)),
}
_SECRETS = st.text("aZ0n+/=-_.~%& \"'<>\\\n\té€😀", min_size=1, max_size=8) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="[]"), min_size=1, max_size=8
)


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(max_examples=30)
@given(secret=_SECRETS)
@example(secret='a"/+ b')
def test_a_secret_is_found_in_every_spelling(spelling: str, secret: str) -> None:
    """Whoever writes it into whatever: the whole of it is replaced, and nothing around it."""
    redactor, text = Redactor([secret]), f"[{SPELLINGS[spelling](secret)}]"
    assert redactor.redact(text) == "[***]"
    assert redactor.redact_beginning(text, 2) in ("[", "[***")


def test_half_a_character_is_a_secret_too() -> None:
    """From an environment variable that is no UTF-8."""
    assert Redactor(["key\udce9"]).redact("key\udce9 key\\udce9 key%3F") == "*** *** ***"
