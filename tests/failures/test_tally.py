"""Many messages at once: classes, templates and proposals, as one message at a time would have them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.failures import (
    BUILTIN_RULES,
    NO_MESSAGE,
    UNCLASSIFIED,
    Classifier,
    ClassTally,
    Comparison,
    matched_part,
)
from exporter.failures import tally as tally_module
from exporter.failures.classify import form, without_parts
from exporter.failures.recent_failures import SAMPLE_LIMIT
from exporter.failures.suggest import Suggestion, suggest
from exporter.simulator.messages import MESSAGES

RULES: Final = (("quux", "quux"), *BUILTIN_RULES)


def made_up(seed: int, number: int) -> list[str]:
    """Messages of every class and of none, with ids, numbers, times and odd text."""
    draw = random.Random(seed)
    forms = [form for forms in MESSAGES.values() for form in forms]
    forms += [
        "quux {n}",
        "",
        "  ",
        "\u3000",
        " " * 5000 + "zork",
        "zork {n} fell off",
        "zork {uuid} bled",
        "\ud800 zork",
        "a\nb zork",
        "x" * 5000,
    ]

    def variable() -> str:
        return f"{draw.getrandbits(128):032x}" if draw.random() < 0.5 else str(draw.randrange(10**9))

    return [
        draw.choice(forms)
        .replace("{n}", variable())
        .replace("{n2}", str(draw.randrange(100)))
        .replace("{hex}", variable())
        .replace("{uuid}", variable())
        for _ in range(number)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_those_that_one_message_at_a_time_gets(seed: int) -> None:
    """Rules that are tried at once decide as rules that are tried in order."""
    messages = made_up(seed, 2000)
    tally, classifier = ClassTally(RULES), Classifier(RULES)
    for begin in range(0, len(messages), 300):
        tally.add(Counter(messages[begin : begin + 300]))
    view = tally.view()
    expected = Counter(classifier.classify(message) for message in messages)
    assert {name: number for name, number in view.classes.items() if number} == dict(expected)
    assert view.messages == len(messages)
    assert sum(rule.messages for rule in view.rules) == sum(
        number for name, number in expected.items() if name not in (UNCLASSIFIED, NO_MESSAGE)
    )


@pytest.mark.slow
def test_proposed_rules_take_exactly_what_they_say() -> None:
    """Put behind the rules in force, the proposals classify every unclassified message, in these numbers."""
    messages = made_up(7, 2000)
    tally = ClassTally(RULES)
    tally.add(Counter(messages))
    view = tally.view()
    proposed = tuple((f"p{place}", one.rule.match) for place, one in enumerate(view.proposals))
    counts = Counter(Classifier((*RULES, *proposed)).classify(message) for message in messages)
    assert view.proposals
    assert counts[UNCLASSIFIED] == view.further == 0
    assert [counts[name] for name, _ in proposed] == [one.messages for one in view.proposals]


def test_templates_beyond_the_limit_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages without a common template cost bounded memory, and none is lost."""
    monkeypatch.setattr(tally_module, "COUNTED_FORMS", 20)
    letters = "bcdghjkl"
    tally = ClassTally(())
    tally.add(Counter(f"zork {a}{b}{c}q" for a in letters for b in letters for c in letters))
    view = tally.view()
    assert len(view.proposals) <= 20
    assert view.further == 8**3 - sum(one.messages for one in view.proposals) > 0


@pytest.mark.slow
def test_rubbish_costs_bounded_work_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three megabytes of random bytes: one set of rules, and a suggestion for each form kept, no more."""
    sets, suggested = [], []

    class CountedSet(tally_module.RuleSet):
        def __init__(self, patterns: Sequence[str]) -> None:
            sets.append(len(patterns))
            super().__init__(patterns)

    def counted_suggest(message: str) -> Suggestion:
        suggested.append(len(message))
        return suggest(message)

    monkeypatch.setattr(tally_module, "RuleSet", CountedSet)
    monkeypatch.setattr(tally_module, "suggest", counted_suggest)
    monkeypatch.setattr(tally_module, "COUNTED_FORMS", 200)
    lines = random.Random(1).randbytes(3_000_000).decode("utf-8", "replace").split("\n")
    tally = ClassTally(RULES)
    most = 0
    for begin in range(0, len(lines), 1000):
        tally.add(Counter(lines[begin : begin + 1000]))
        most = max(most, len(tally.forms))
    view = tally.view()
    assert sets == [len(RULES)]
    assert len(suggested) <= 200
    assert max(suggested) <= SAMPLE_LIMIT
    assert 200 < most <= 400
    assert view.messages == len(lines)


def test_a_frequent_message_is_found_behind_rubbish(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes first does not take the place of what comes often."""
    monkeypatch.setattr(tally_module, "COUNTED_FORMS", 20)
    tally = ClassTally(())
    letters = "bcdghjkl"
    tally.add(Counter(f"zork {a}{b}{c}q" for a in letters for b in letters for c in letters))
    tally.add({f"quux {number} fell": 1 for number in range(50)})
    first = tally.view().proposals[0]
    assert (first.template, first.messages) == ("quux 0 fell", 50)


def test_messages_without_visible_text_get_no_rule() -> None:
    """A rule for them would be as empty as they are; the sum is that of all messages."""
    tally = ClassTally(RULES)
    tally.add({"\x00\x01": 3, "\u200b": 2, "\x07" * 2000 + "zork": 1, "zork fell": 4})
    view = tally.view()
    assert [one.template for one in view.proposals] == ["zork fell"]
    assert view.further == 6
    assert view.classes[UNCLASSIFIED] == view.messages == 10


@pytest.mark.parametrize("seed", range(3))
def test_messages_of_one_form_get_one_rule(seed: int) -> None:
    """Also where they differ in blanks or hold what looks like a placeholder."""
    rules: dict[str, set[Suggestion]] = {}
    odd = ["zork <number>", "zork 1234567", "zork\t12", "zork 12", "at https://x/1?y=2 now", "x://", "<url>"]
    for message in (*made_up(seed, 2000), *odd):
        text = message[:SAMPLE_LIMIT]
        rules.setdefault(form(text), set()).add(suggest(text))
    assert max(map(len, rules.values())) == 1


_PIECES: Final = (
    "<time>", "<uuid>", "http://a1/0b", "://", "2026-01-02T03:04:05Z", "2026-01-02 ", "deadbeef", "12345678-",
    " abcdefab-abcd-abcd-abcd-abcdefabcdef", " 0123abcd", "=ab12cd34", "(1234567a", "a" * 32, " 0" + "a" * 33,
)  # fmt: skip


@given(
    st.lists(
        st.one_of(
            st.sampled_from(_PIECES),
            st.text("0129abfABFxyz-:/ .T年月日,Z+<>…\n=\"'([\ud800", max_size=4),
        ),
        max_size=12,
    ).map("".join)
)
@settings(max_examples=1000)
def test_a_form_is_found_as_by_looking_for_its_parts(text: str) -> None:
    """That digits are alike and whole ids are one, so that forms can be remembered, changes none of them."""
    assert form(text) == without_parts(text)


def test_a_comparison_names_every_move_and_nothing_else() -> None:
    """A rule that comes first takes messages from the classes behind it."""
    comparison = Comparison((("a", "x"), ("b", "y")), (("c", "y"), ("a", "x")))
    comparison.add({"x": 3, "y": 2, "xy": 5, "z": 1, "": 1})
    assert comparison.moves == {("b", "c"): (2, "y"), ("a", "c"): (5, "xy")}


@pytest.mark.parametrize(
    ("pattern", "text", "parts"), [("b+", "abbc", ("a", "bb", "c")), ("色", "音色x", ("音", "色", "x"))]
)
def test_the_matched_part_is_where_the_rule_matched(
    pattern: str, text: str, parts: tuple[str, str, str]
) -> None:
    """RE2 counts bytes, people read characters."""
    assert matched_part(pattern, text) == parts


def test_a_wrong_pattern_is_refused_with_the_reason() -> None:
    """As by the classifier."""
    with pytest.raises(ValueError, match="missing"):
        ClassTally((("a", "("),))
