"""Classes and templates of a great many messages: what rules make of them before they are in force.

Pure. Bounded by the messages of one ``add``, the rules and ``LEARNED_RULES``, not by all messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import re2

from exporter.failures.builtin import ClassPattern
from exporter.failures.classify import CLASSIFIED_LIMIT, NO_MESSAGE, UNCLASSIFIED, compile_rule, template
from exporter.failures.suggest import Suggestion, suggest

LEARNED_RULES: Final = 2_000
"""Rules that are proposed at most. What none of them matches is counted as ``TallyView.further``."""
ROUND: Final = 200
"""Rules that are learned before the messages that are left are tried with them."""
_SET_MEMORY: Final = 256 << 20
"""RE2 says that nothing matches where a set of rules needs more than this. The default is 8 MiB."""


class RuleMatches(NamedTuple):
    """One rule, and what it matched."""

    class_name: str
    pattern: str
    messages: int
    sample: str
    """The first message that it matched; empty where there is none."""


class Proposal(NamedTuple):
    """Messages that no rule matches and this one would."""

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
    """Unclassified messages beyond the templates that are kept."""


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


class ClassTally:
    """Counts messages by what the rules make of them."""

    def __init__(self, rules: Iterable[ClassPattern]) -> None:
        self._rules = tuple(rules)
        self._set = RuleSet([pattern for _, pattern in self._rules])
        self._matched: list[int] = [0] * len(self._rules)
        self._samples: list[str] = [""] * len(self._rules)
        self._blank = 0
        self._learned: list[Suggestion] = []
        self._rounds: list[tuple[int, RuleSet]] = []
        """Learned rules, a few at a time: where each of these sets begins in ``_learned``, and the set."""
        self._learned_matched: list[int] = []
        self._learned_samples: list[str] = []
        self._further = 0

    def add(self, messages: Mapping[str, int]) -> None:
        """Messages and how often each came."""
        unclassified: list[tuple[str, bytes, int]] = []
        for text, times in messages.items():
            message = text[:CLASSIFIED_LIMIT].encode("utf-8", "replace")
            if not message.strip() and not text.strip():
                self._blank += times
            elif (place := self._set.first(message)) is None:
                unclassified.append((text, message, times))
            else:
                self._matched[place] += times
                self._samples[place] = self._samples[place] or text
        for begin, learned in self._rounds:
            unclassified = self._take_learned(unclassified, begin, learned)
        while unclassified and len(self._learned) < LEARNED_RULES:
            unclassified = self._learn(unclassified)
        self._further += sum(times for _, _, times in unclassified)

    def _take_learned(
        self, messages: list[tuple[str, bytes, int]], begin: int, learned: RuleSet
    ) -> list[tuple[str, bytes, int]]:
        """Count those that a learned rule matches. Returns the others."""
        left = []
        for text, message, times in messages:
            if (place := learned.first(message)) is None:
                left.append((text, message, times))
            else:
                self._learned_matched[begin + place] += times
                self._learned_samples[begin + place] = self._learned_samples[begin + place] or text
        return left

    def _learn(self, messages: list[tuple[str, bytes, int]]) -> list[tuple[str, bytes, int]]:
        """Propose rules for the first messages, and count what these match. Returns the others."""
        begin = len(self._learned)
        templates: dict[str, str] = {}
        for text, _, _ in messages[: 10 * ROUND]:
            templates.setdefault(template(text), text)
            if len(templates) == ROUND:
                break
        proposed = list(dict.fromkeys(suggest(text) for text in templates.values()))
        self._learned += proposed
        self._learned_matched += [0] * len(proposed)
        self._learned_samples += [""] * len(proposed)
        learned = RuleSet([rule.match for rule in proposed])
        self._rounds.append((begin, learned))
        left = self._take_learned(messages, begin, learned)
        if len(left) == len(messages):  # a proposal that does not match its own message: give it up
            self._further += left.pop(0)[2]
        return left

    def view(self) -> TallyView:
        classes: Counter[str] = Counter()
        for (name, _), times in zip(self._rules, self._matched, strict=True):
            classes[name] += times
        classes[NO_MESSAGE] += self._blank
        classes[UNCLASSIFIED] += sum(self._learned_matched) + self._further
        proposals = [
            Proposal(rule, template(sample), times, sample)
            for rule, times, sample in zip(
                self._learned, self._learned_matched, self._learned_samples, strict=True
            )
            if times
        ]
        return TallyView(
            messages=classes.total(),
            classes=dict(classes.most_common()),
            rules=tuple(
                RuleMatches(name, pattern, times, sample)
                for (name, pattern), times, sample in zip(
                    self._rules, self._matched, self._samples, strict=True
                )
            ),
            proposals=tuple(sorted(proposals, key=lambda one: -one.messages)),
            further=self._further,
        )


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
