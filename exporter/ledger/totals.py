"""Totals: what has been counted, by label, as integers that only grow.

Pure. A total is addressed by (name, job_type, tts_service_enum, detail); a histogram is one total per bucket
plus one for its sum, so that everything that is counted is stored, published and compared in one form.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from exporter.ledger.record import JOB_TYPES, OTHER, TTS_SERVICES
from exporter.ledger.snapshot import Exemplar, Histogram, Labels, Pair

Key = tuple[str, str, str, str]

CREATED: Final = "created"
FINISHED: Final = "finished"
FAILURES: Final = "failures"
EXPIRED: Final = "expired"
SYNTHESIZED: Final = "synthesized"
TEXT_LENGTH: Final = "text_length"
DURATION_UPPER: Final = "duration_upper"
DURATION_LOWER: Final = "duration_lower"
ANOMALIES: Final = "anomalies"
SKIPPED_MS: Final = "skipped_ms"
FIRST_TRIED_MS: Final = "first_tried_ms"
"""When a first start was first tried, by our own clock, since 1970 (R4)."""
FOLDED: Final = "folded"
POLLS: Final = "polls"
POLL_DURATION: Final = "poll_duration"

INF: Final = "+Inf"
SUM: Final = "sum"
FOLDED_PAIR: Final[Pair] = (OTHER, OTHER)
NO_EXEMPLARS: Final[Mapping[Labels, Exemplar]] = MappingProxyType({})


class Totals:
    """All totals of one target, and which of them changed since the last commit."""

    def __init__(self, values: dict[Key, int] | None = None) -> None:
        self.values: dict[Key, int] = dict(values or {})
        self.dirty: set[Key] = set()
        self._sums: dict[str, int] = defaultdict(int)
        for key, value in self.values.items():
            self._sums[key[0]] += value

    def add(self, name: str, pair: Pair, detail: str = "", amount: int = 1) -> Key:
        """Add to a total. Returns which one."""
        key = (name, pair[0], pair[1], detail)
        values = self.values
        values[key] = values.get(key, 0) + amount
        self.dirty.add(key)
        self._sums[name] += amount
        return key

    def add_plain(self, name: str, detail: str = "", amount: int = 1) -> None:
        """Add to a total that has no job labels."""
        self.add(name, ("", ""), detail, amount)

    def observe(self, name: str, pair: Pair, bounds: tuple[int, ...], value: int) -> Key:
        """Put ``value`` into the first bucket whose upper bound is not below it. Returns its total."""
        # The two calls of ``add``, written out: three of four additions are made here.
        index = bisect_left(bounds, value)
        job_type, service = pair
        bucket = (name, job_type, service, str(bounds[index]) if index < len(bounds) else INF)
        total = (name, job_type, service, SUM)
        values, dirty = self.values, self.dirty
        values[bucket] = values.get(bucket, 0) + 1
        values[total] = values.get(total, 0) + value
        dirty.add(bucket)
        dirty.add(total)
        self._sums[name] += 1 + value
        return bucket

    def drop(self, name: str) -> None:
        """Start the histogram ``name`` anew: its buckets were configured differently."""
        for key in [key for key in self.values if key[0] == name]:
            del self.values[key]
            self.dirty.add(key)
        self._sums.pop(name, None)

    def plain(self, name: str, detail: str = "") -> int:
        return self.values.get((name, "", "", detail), 0)

    def by_detail(self, name: str) -> dict[str, int]:
        return {key[3]: value for key, value in self.values.items() if key[0] == name}

    def grouped(self) -> dict[str, dict[Labels, int]]:
        """By name: (job_type, tts_service_enum, detail) and value."""
        groups: dict[str, dict[Labels, int]] = defaultdict(dict)
        for (name, job_type, service, detail), value in self.values.items():
            groups[name][job_type, service, detail] = value
        return groups

    def sum(self, name: str) -> int:
        """Over all labels."""
        return self._sums[name]


def by_pair(values: dict[Labels, int]) -> dict[Pair, int]:
    """Totals without a further label."""
    return {(job_type, service): value for (job_type, service, _), value in values.items()}


def histograms(
    values: Mapping[Labels, int], bounds: tuple[int, ...], exemplars: Mapping[Labels, Exemplar] = NO_EXEMPLARS
) -> dict[Pair, Histogram]:
    """The histogram of every pair that has one."""
    details = [str(bound) for bound in bounds] + [INF]
    pairs = {(job_type, service) for job_type, service, _ in values}
    return {
        pair: Histogram(
            bounds,
            tuple(values.get((*pair, detail), 0) for detail in details),
            values.get((*pair, SUM), 0),
            {
                place: exemplars[*pair, detail]
                for place, detail in enumerate(details)
                if (*pair, detail) in exemplars
            },
        )
        for pair in pairs
    }


class LabelSets:
    """Which (job_type, tts_service_enum) pairs have series of their own: first come, up to a limit."""

    def __init__(self, documented: Iterable[Pair], seen: Iterable[Pair], limit: int) -> None:
        self._pairs: dict[Pair, None] = dict.fromkeys(documented)
        self._pairs.update(dict.fromkeys(seen))
        self._limit = limit
        self.added: list[Pair] = []

    def fit(self, pair: Pair) -> Pair:
        """The pair to book under: itself, or other/other once the limit is reached."""
        if pair in self._pairs:
            return pair
        if len(self._pairs) - (FOLDED_PAIR in self._pairs) >= self._limit:
            pair = FOLDED_PAIR
        if pair not in self._pairs:
            self._pairs[pair] = None
            self.added.append(pair)
        return pair

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(self._pairs)


def documented_pairs(job_type: str | None, service: str | None) -> tuple[Pair, ...]:
    """The documented pairs that the target's filters let through."""
    return tuple(
        (documented_type, documented_service)
        for documented_type in ((job_type,) if job_type else JOB_TYPES)
        for documented_service in ((service,) if service else TTS_SERVICES)
    )
