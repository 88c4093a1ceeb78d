"""Classes and templates of a great many messages: what rules make of them before they are in force.

Pure. Bounded by the messages of one ``add``, the rules and ``COUNTED_FORMS``, not by all messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import re2

from exporter.failures.builtin import ClassPattern
from exporter.failures.classify import (
    CLASSIFIED_LIMIT,
    NO_MESSAGE,
    UNCLASSIFIED,
    compile_rule,
    form,
    template,
)
from exporter.failures.recent_failures import SAMPLE_LIMIT
from exporter.failures.suggest import Suggestion, suggest

COUNTED_FORMS: Final = 1_000
"""Forms of unclassified messages that are counted; of twice as many, the rarer half is dropped."""
_SET_MEMORY: Final = 64 << 20
"""Bytes that RE2 takes at most for a set of rules; where that is not enough for a single message, it says
that nothing matches. Two thousand rules of a hundred characters fit.
"""


class RuleMatches(NamedTuple):
    """One rule, and what it matched."""

    class_name: str
    pattern: str
    messages: int
    sample: str
    """The first message that it matched; empty where there is none."""


class Proposal(NamedTuple):
    """Messages that no rule matches, and which differ only in what varies: this rule matches them."""

    rule: Suggestion
    template: str
    messages: int
    sample: str


class TallyView(NamedTuple):
    """What was counted."""

    messages: int
    classes: dict[str, int]
    """Most frequent first."""
    rules: tuple[RuleMatches, ...]
    """In their order, also those that matched nothing."""
    proposals: tuple[Proposal, ...]
    """Most frequent first."""
    further: int
    """Other unclassified messages: of rare forms, beyond those that are counted, or with nothing to be seen
    in them."""


class RuleSet:
    """Many rules that are tried at once. Ordinary text takes 2 us, a hostile one 20 ms (``Classifier``: 30
    us and 0.3 ms): for messages that are waited for by a person, not for a poll.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """ValueError for a pattern that RE2 refuses."""
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = _SET_MEMORY
        self._set: Any = None
        """``None`` without patterns: RE2 cannot make an empty set."""
        if patterns:
            self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            compile_rule(pattern)  # says why it is refused
            self._set.Add(pattern.encode())
        if patterns:
            self._set.Compile()

    def first(self, message: bytes) -> int | None:
        """The place of the first rule that matches."""
        found = None if self._set is None else self._set.Match(message)
        return min(found) if found else None


class FormCount:
    """Unclassified messages of one form: how many, and the first of them."""

    __slots__ = ("messages", "sample")

    def __init__(self, sample: str) -> None:
        self.sample = sample
        self.messages = 0


class ClassTally:
    """Counts messages by what the rules make of them."""

    def __init__(self, rules: Iterable[ClassPattern]) -> None:
        self._rules = tuple(rules)
        self._set = RuleSet([pattern for _, pattern in self._rules])
        self._matched: list[int] = [0] * len(self._rules)
        self._samples: list[str] = [""] * len(self._rules)
        self._blank = 0
        self.forms: dict[str, FormCount] = {}
        """Of unclassified messages; at most twice ``COUNTED_FORMS``."""
        self._further = 0

    def add(self, messages: Mapping[str, int]) -> None:
        """Messages and how often each came."""
        for whole, times in messages.items():
            text = whole[:CLASSIFIED_LIMIT]
            if not text.strip():
                self._blank += times
            elif (place := self._set.first(text.encode("utf-8", "replace"))) is None:
                self._count_form(text[:SAMPLE_LIMIT], times)
            else:
                self._matched[place] += times
                self._samples[place] = self._samples[place] or text

    def _count_form(self, text: str, times: int) -> None:
        key = form(text)
        seen = self.forms.get(key)
        if seen is None:
            if not template(text):  # nothing can be seen in it, so no rule for it would be of use
                self._further += times
                return
            if len(self.forms) >= 2 * COUNTED_FORMS:
                self._drop_rare()
            seen = self.forms[key] = FormCount(text)
        seen.messages += times

    def _drop_rare(self) -> None:
        """Keep the ``COUNTED_FORMS`` most frequent ones."""
        ordered = sorted(self.forms.items(), key=lambda item: -item[1].messages)
        self.forms = dict(ordered[:COUNTED_FORMS])
        self._further += sum(seen.messages for _, seen in ordered[COUNTED_FORMS:])

    def _proposals(self) -> tuple[Proposal, ...]:
        self._drop_rare()
        found = [
            Proposal(suggest(seen.sample), template(seen.sample), seen.messages, seen.sample)
            for seen in self.forms.values()
        ]
        while len(fewer := _without_shadowed(found)) < len(found):
            found = sorted(fewer, key=lambda one: -one.messages)
        return tuple(found)

    def view(self) -> TallyView:
        classes: Counter[str] = Counter()
        for (name, _), times in zip(self._rules, self._matched, strict=True):
            classes[name] += times
        classes[NO_MESSAGE] += self._blank
        proposals = self._proposals()
        classes[UNCLASSIFIED] += self._further + sum(one.messages for one in proposals)
        return TallyView(
            messages=classes.total(),
            classes=dict(classes.most_common()),
            rules=tuple(
                RuleMatches(name, pattern, times, sample)
                for (name, pattern), times, sample in zip(
                    self._rules, self._matched, self._samples, strict=True
                )
            ),
            proposals=proposals,
            further=self._further,
        )


def _without_shadowed(proposals: Iterable[Proposal]) -> list[Proposal]:
    """Those that take anything when rules are tried in this order, each with all that it takes."""
    left: list[tuple[Any, Proposal]] = []
    for one in proposals:
        message = one.sample.encode("utf-8", "replace")
        for place, (rule, other) in enumerate(left):
            if rule.search(message):
                left[place] = rule, other._replace(messages=other.messages + one.messages)
                break
        else:
            left.append((compile_rule(one.rule.match), one))
    return [one for _, one in left]


def matched_part(pattern: str, text: str) -> tuple[str, str, str]:
    """The text before, in and after what the pattern matches first."""
    message = text[:CLASSIFIED_LIMIT].encode("utf-8", "replace")
    found: Any = compile_rule(pattern).search(message)
    begin, end = found.span() if found else (0, 0)
    parts = message[:begin], message[begin:end], message[end:]
    return (
        parts[0].decode(errors="replace"),
        parts[1].decode(errors="replace"),
        parts[2].decode(errors="replace"),
    )


class Comparison:
    """What would move between classes under other rules."""

    def __init__(self, rules: Iterable[ClassPattern], others: Iterable[ClassPattern]) -> None:
        self._before, self._after = _Classes(rules), _Classes(others)
        self.moves: dict[tuple[str, str], tuple[int, str]] = {}
        """(class before, class after) -> messages, and the first of them."""

    def add(self, messages: Mapping[str, int]) -> None:
        for text, times in messages.items():
            move = self._before.of(text), self._after.of(text)
            if move[0] != move[1]:
                known, sample = self.moves.get(move, (0, text))
                self.moves[move] = known + times, sample


class _Classes:
    def __init__(self, rules: Iterable[ClassPattern]) -> None:
        rules = tuple(rules)
        self._names = [name for name, _ in rules]
        self._set = RuleSet([pattern for _, pattern in rules])

    def of(self, text: str) -> str:
        if not text.strip():
            return NO_MESSAGE
        place = self._set.first(text[:CLASSIFIED_LIMIT].encode("utf-8", "replace"))
        return UNCLASSIFIED if place is None else self._names[place]
