"""Totals: what has been counted, by label, as integers that only grow.

Pure. A histogram is one total per bucket plus one for its sum, so that everything that is counted is stored,
published and compared in one form.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec

from exporter.ledger.record import JOB_TYPES, OTHER, TTS_SERVICES, LabelSet, SeriesLabels


class Exemplar(msgspec.Struct, frozen=True, gc=False):
    """The latest job behind a number."""

    job_id: str
    """As the API sent it: untrusted text."""
    value: int
    """What it added: 1 for a count; for an observation its value, in the unit of the histogram's bounds."""
    at: int
    """When it was seen so, on the API's clock."""


NONE_SHOWN: Final[Mapping[int, Exemplar]] = MappingProxyType({})


class Histogram(msgspec.Struct, frozen=True, gc=False):
    """Observations by bucket. Of hundreds of targets there are thousands: none is searched for cycles."""

    bounds: tuple[float, ...]
    """Upper bounds, ascending, without +Inf: characters or milliseconds of jobs, seconds of requests."""
    counts: tuple[int, ...]
    """Observations per bucket, not cumulated; one longer than ``bounds``: the last one is +Inf."""
    sum: float
    """In the unit of ``bounds``."""
    exemplars: Mapping[int, Exemplar] = NONE_SHOWN
    """By place of the bucket in ``counts``; only since this process started."""


TotalKey = tuple[str, str, str, str]
"""(name, job_type, tts_service_enum, detail); the two labels are empty for a total without job labels"""

CREATED: Final = "created"
FINISHED: Final = "finished"
FAILURES: Final = "failures"
EXPIRATIONS: Final = "expired"
SYNTHESIZED: Final = "synthesized"
TEXT_LENGTH: Final = "text_length"
DURATION_UPPER: Final = "duration_upper"
DURATION_LOWER: Final = "duration_lower"
ANOMALIES: Final = "anomalies"
SKIPPED_MS: Final = "skipped_ms"
FOLDED: Final = "folded"
POLLS: Final = "polls"
POLL_DURATION: Final = "poll_duration"
AS_OF_MS: Final = "as_of_ms"
"""When the last commit was made, on the API's clock: tells what is newer of what several replicas show."""

POLL_BUCKETS: Final = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000)
"""Of ``POLL_DURATION``, in milliseconds."""

INF: Final = "+Inf"
SUM: Final = "sum"
FOLDED_LABEL_SET: Final[LabelSet] = (OTHER, OTHER)
NO_EXEMPLARS: Final[Mapping[SeriesLabels, Exemplar]] = MappingProxyType({})


SHARED_KEYS: Final = 16_384


@lru_cache(SHARED_KEYS)
def total_key(name: str, job_type: str, service: str, detail: str) -> TotalKey:
    """The same object for the same names: hundreds of targets have the same keys, a hundred KiB each."""
    return name, job_type, service, detail


class _Values(dict[TotalKey, int]):
    """By a key of ``total_key``; what has no value yet begins at 0."""

    def __missing__(self, key: TotalKey) -> int:
        self[total_key(*key)] = 0
        return 0


class Totals:
    """All totals of one target, and which of them changed since the last commit."""

    def __init__(self, values: dict[TotalKey, int] | None = None) -> None:
        """``values`` has keys of ``total_key``."""
        self.values: dict[TotalKey, int] = _Values(values or {})
        self.dirty: set[TotalKey] = set()
        self._sums: dict[str, int] = defaultdict(int)
        for key, value in self.values.items():
            self._sums[key[0]] += value

    def add(self, name: str, label_set: LabelSet, detail: str = "", amount: int = 1) -> TotalKey:
        """Add to a total. Returns which one."""
        key = (name, label_set[0], label_set[1], detail)
        self.values[key] += amount
        self.dirty.add(key)
        self._sums[name] += amount
        return key

    def add_plain(self, name: str, detail: str = "", amount: int = 1) -> None:
        """Add to a total that has no job labels."""
        self.add(name, ("", ""), detail, amount)

    def observe(self, name: str, label_set: LabelSet, bounds: tuple[int, ...], value: int) -> TotalKey:
        """Put ``value`` into the first bucket whose upper bound is not below it. Returns its total."""
        # The two calls of ``add``, written out: three of four additions are made here.
        index = bisect_left(bounds, value)
        job_type, service = label_set
        bucket = (name, job_type, service, str(bounds[index]) if index < len(bounds) else INF)
        total = (name, job_type, service, SUM)
        values, dirty = self.values, self.dirty
        values[bucket] += 1
        values[total] += value
        dirty.add(bucket)
        dirty.add(total)
        self._sums[name] += 1 + value
        return bucket

    def count_poll(self, outcome: str, milliseconds: int) -> None:
        """A poll ended."""
        self.add_plain(POLLS, outcome)
        self.observe(POLL_DURATION, ("", ""), POLL_BUCKETS, milliseconds)

    def reach(self, name: str, value: int) -> None:
        """Bring a total without labels to at least ``value``."""
        if (missing := value - self.plain(name)) > 0:
            self.add_plain(name, amount=missing)

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

    def grouped(self) -> dict[str, dict[SeriesLabels, int]]:
        """By name: (job_type, tts_service_enum, detail) and value."""
        groups: dict[str, dict[SeriesLabels, int]] = defaultdict(dict)
        for (name, job_type, service, detail), value in self.values.items():
            groups[name][job_type, service, detail] = value
        return groups

    def sum(self, name: str) -> int:
        """Over all labels."""
        return self._sums[name]


def histograms(
    values: Mapping[SeriesLabels, int],
    bounds: tuple[int, ...],
    exemplars: Mapping[SeriesLabels, Exemplar] = NO_EXEMPLARS,
) -> dict[LabelSet, Histogram]:
    """The histogram of every label set that has one."""
    places = {str(bound): place for place, bound in enumerate(bounds)} | {INF: len(bounds)}
    counts: dict[LabelSet, list[int]] = defaultdict(lambda: [0] * len(places))
    sums: dict[LabelSet, int] = {}
    shown: dict[LabelSet, dict[int, Exemplar]] = defaultdict(dict)
    for (job_type, service, detail), value in values.items():
        buckets = counts[job_type, service]
        if detail in places:
            buckets[places[detail]] = value
        elif detail == SUM:
            sums[job_type, service] = value
    for (job_type, service, detail), exemplar in exemplars.items():
        if detail in places:
            shown[job_type, service][places[detail]] = exemplar
    return {
        label_set: Histogram(bounds, tuple(buckets), sums.get(label_set, 0), shown.get(label_set, NONE_SHOWN))
        for label_set, buckets in counts.items()
    }


class LabelSets:
    """Which label sets have series of their own: first come, first served, up to a limit."""

    def __init__(self, documented: Iterable[LabelSet], seen: Iterable[LabelSet], limit: int) -> None:
        self._known: dict[LabelSet, bool] = dict.fromkeys(documented, False)
        """Whether it was seen."""
        self._known.update(dict.fromkeys(seen, True))
        self._limit = limit
        self.added: list[LabelSet] = []
        """Seen for the first time since the last commit."""

    def fit(self, label_set: LabelSet) -> LabelSet:
        """The label set to count under: itself, or other/other once the limit is reached."""
        known = self._known
        if label_set not in known and len(known) - (FOLDED_LABEL_SET in known) >= self._limit:
            label_set = FOLDED_LABEL_SET
        if not known.get(label_set):
            known[label_set] = True
            self.added.append(label_set)
        return label_set

    @property
    def known(self) -> tuple[LabelSet, ...]:
        """The documented ones, seen or not, then the others that were seen."""
        return tuple(self._known)

    @property
    def seen(self) -> tuple[LabelSet, ...]:
        return tuple(label_set for label_set, seen in self._known.items() if seen)


def documented_label_sets(job_type: str | None, service: str | None) -> tuple[LabelSet, ...]:
    """The documented label sets that the target's filters let through."""
    return tuple(
        (documented_type, documented_service)
        for documented_type in ((job_type,) if job_type else JOB_TYPES)
        for documented_service in ((service,) if service else TTS_SERVICES)
    )
