"""Counts by minute of creation: what the gauge of recent jobs and the planner are made from.

Pure. Kept in memory as far back as they are asked for; the store keeps them longer.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from exporter.ledger.record import LabelSet, SeriesLabels, is_anonymous
from exporter.units import MINUTE

MinuteKey = tuple[int, str, str, str, str]
"""(minute since 1970, job_type, tts_service_enum, state, failure class or expiry reason or ``-``)

Of a job that was created before the baseline the last has its text length behind it (``with_length``).
"""

StoredMinute = tuple[int, SeriesLabels, int]
"""A stored count: minute since 1970, (job_type, tts_service_enum, state), jobs"""

SHARED_LABELS: Final = 4096


@lru_cache(SHARED_LABELS)
def series_labels(job_type: str, service: str, state: str) -> SeriesLabels:
    """The same object for the same labels: of stored counts each has some."""
    return job_type, service, state


IDS_MASK: Final = 2**62 - 1
"""Sums of ids are kept modulo 2^62: two of them add up to less than SQLite's largest integer."""


def id_number(job_id: str) -> int:
    """What a job adds to the sum of ids of its minute.

    Who lists the jobs again can compare: a sum that differs by the number of one id names that job.
    """
    return int.from_bytes(blake2b(job_id.encode("utf-8", "replace"), digest_size=8).digest()) & IDS_MASK


UNCOUNTED = "-"
"""In place of the class: finished before the baseline, known to the gauge only."""


def with_length(detail: str, text_length: int) -> str:
    """The detail of a job that was open when counting began, and the length of its text (-1: not known).

    By both ``backfill`` finds which jobs of the past are counted already. No class or reason has an ``@``.
    """
    return f"{detail}@{text_length}"


def split_length(detail: str) -> tuple[str, int | None]:
    """The detail, and the text length where it has one."""
    detail, at, length = detail.partition("@")
    return detail, int(length) if at else None


class MinuteTable:
    """Jobs that are no longer open, by minute of creation, labels and last state."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[array[int], array[int]]] = {}
        """By minute: places of labels, and the jobs of each. A dictionary would take three times as much."""
        self._labels: list[SeriesLabels] = []
        self._places: dict[SeriesLabels, int] = {}
        """Of each in ``_labels``."""
        self._jobs: dict[int, int] = {}
        self.pending: dict[MinuteKey, tuple[int, int]] = {}
        """Increments (jobs, characters) for the next commit."""
        self.pending_ids: dict[MinuteKey, int] = {}
        """For the same commit: what the sum of ids gains; jobs without an id have no part in it."""

    def load(self, counts: Iterable[StoredMinute]) -> None:
        for minute, labels, jobs in counts:
            self._add(minute, labels, jobs)

    def add(
        self,
        created: int,
        label_set: LabelSet,
        state: str,
        detail: str,
        characters: int,
        identity: str | None = None,
    ) -> None:
        """One job finished or expired."""
        minute = created // MINUTE
        job_type, service = label_set
        self._add(minute, (job_type, service, state), 1)
        key = (minute, job_type, service, state, detail)
        jobs, total = self.pending.get(key, (0, 0))
        self.pending[key] = (jobs + 1, total + characters)
        if identity is not None and not is_anonymous(identity):
            self.pending_ids[key] = (self.pending_ids.get(key, 0) + id_number(identity)) & IDS_MASK

    def committed(self) -> None:
        """The store has all increments."""
        self.pending.clear()
        self.pending_ids.clear()

    def add_uncounted(self, created: int, label_set: LabelSet, state: str) -> None:
        """One job that was finished before counting began."""
        self.add(created, label_set, state, UNCOUNTED, 0)

    def _add(self, minute: int, labels: SeriesLabels, jobs: int) -> None:
        place = self._places.get(labels)
        if place is None:
            place = self._places[labels] = len(self._labels)
            self._labels.append(labels)
        row = self._rows.get(minute)
        if row is None:
            row = self._rows[minute] = (array("I"), array("q"))
        places, counts = row
        if place in places:
            counts[places.index(place)] += jobs
        else:
            places.append(place)
            counts.append(jobs)
        self._jobs[minute] = self._jobs.get(minute, 0) + jobs

    def prune(self, before_by_label: int, before: int) -> None:
        """Drop from memory what ended before these times (milliseconds): by label, and altogether."""
        first = before_by_label // MINUTE
        for minute in [minute for minute in self._rows if minute < first]:
            del self._rows[minute]
        first = before // MINUTE
        for minute in [minute for minute in self._jobs if minute < first]:
            del self._jobs[minute]

    def since(self, start: int) -> dict[SeriesLabels, int]:
        """Counts of the minutes from the one holding ``start`` on."""
        counts: dict[int, int] = defaultdict(int)
        for minute, row in self._rows.items():
            if minute >= start // MINUTE:
                for place, jobs in zip(*row, strict=True):
                    counts[place] += jobs
        return defaultdict(int, {self._labels[place]: jobs for place, jobs in counts.items()})

    def of_minute(self, minute: int) -> Iterator[tuple[SeriesLabels, int]]:
        """Counts of one minute, as far back as they are kept by label."""
        places, counts = self._rows.get(minute, ((), ()))
        return zip(map(self._labels.__getitem__, places), counts, strict=True)

    def density(self, minute: int) -> int:
        """Jobs created in that minute that are no longer open."""
        return self._jobs.get(minute, 0)
