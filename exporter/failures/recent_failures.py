"""Recent failures, for the status page: classes by minute, and the texts of unclassified messages.

Pure. Kept in memory only, and bounded: no counter depends on it. A failure is shown only once it is
committed.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from exporter.failures.classify import UNCLASSIFIED, template
from exporter.failures.suggest import as_yaml, suggest
from exporter.units import MINUTE

KEPT_MINUTES: Final = 60
KEPT_TEMPLATES: Final = 200
"""Of one more, the rarest is dropped."""
SHOWN: Final = 10
SAMPLE_LIMIT: Final = 1024


class _Messages:
    """Messages that one rule would match: how many, when last, and the first of them."""

    __slots__ = ("jobs", "last", "sample")

    def __init__(self, sample: str) -> None:
        self.sample = sample
        self.jobs = 0
        self.last = 0


class RecentFailures:
    """Failures of one target, as this process saw them."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, str, str]] = []
        self.minutes: dict[int, Counter[str]] = {}
        """By minute: how many FAILED jobs of each class were seen."""
        self.templates: dict[str, _Messages] = {}
        """By suggested rule: messages that differ only in a small number are one template."""

    def failed(self, at: int, fail_class: str, message: str) -> None:
        """A FAILED job was seen at ``at``."""
        self._pending.append((at, fail_class, message[:SAMPLE_LIMIT] if fail_class == UNCLASSIFIED else ""))

    def committed(self) -> None:
        for at, fail_class, message in self._pending:
            self.minutes.setdefault(at // MINUTE, Counter())[fail_class] += 1
            if fail_class == UNCLASSIFIED:
                self._remember(at, message)
        self._pending.clear()
        for minute in sorted(self.minutes)[:-KEPT_MINUTES]:
            del self.minutes[minute]

    def dropped(self) -> None:
        """The commit failed: these failures will be seen again."""
        self._pending.clear()

    def reclassify(self, classify: Callable[[str], str]) -> None:
        """The rules changed: drop the messages that have a class now."""
        self.templates = {
            name: seen for name, seen in self.templates.items() if classify(seen.sample) == UNCLASSIFIED
        }

    def _remember(self, at: int, message: str) -> None:
        name = as_yaml(suggest(message))
        if name not in self.templates:
            if len(self.templates) >= KEPT_TEMPLATES:
                rarest = min(self.templates, key=lambda name: self._rank(name))
                del self.templates[rarest]
            self.templates[name] = _Messages(message)
        seen = self.templates[name]
        seen.jobs += 1
        seen.last = max(seen.last, at)

    def _rank(self, name: str) -> tuple[int, int]:
        seen = self.templates[name]
        return seen.jobs, seen.last

    def failures(self, now: int) -> dict[str, int]:
        """FAILED jobs seen in the last hour, by class, most frequent first."""
        counts: Counter[str] = Counter()
        for minute, classes in self.minutes.items():
            if minute > now // MINUTE - KEPT_MINUTES:
                counts.update(classes)
        return dict(counts.most_common())

    def unclassified(self) -> tuple[UnclassifiedTemplate, ...]:
        """The most frequent templates, with a rule for each."""
        rules = heapq.nlargest(SHOWN, self.templates, key=self._rank)
        return tuple(self._shown(rule, self.templates[rule]) for rule in rules)

    @staticmethod
    def _shown(rule: str, seen: _Messages) -> UnclassifiedTemplate:
        return UnclassifiedTemplate(template(seen.sample), seen.jobs, seen.last, rule)


class UnclassifiedTemplate(msgspec.Struct, frozen=True):
    """Failure messages that no rule knows and one would match."""

    template: str
    """Untrusted text: one line, bounded, with placeholders for what varies."""
    jobs: int
    last_seen: int
    """Milliseconds since 1970 UTC."""
    rule: str
    """An entry of ``fail_msg_classes`` for it, as YAML."""
