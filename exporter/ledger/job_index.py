"""The remembered jobs of a target: every open one, and the finished ones that may be listed again.

Pure. Indexed by id and by time of creation, so that a window finds its jobs without a walk over all.

Rule R9 stands in docs/counting.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from exporter.ledger.record import OPEN_STATES, Anomaly, LabelSet, SeriesLabels
from exporter.units import MINUTE

EXPIRED: Final = "expired"

SLOT: Final = 10_000
"""Milliseconds of creation that share a slot of the index: about as long as a page of a busy target."""

DUE_WIDTH: Final = 5_000
"""Milliseconds that share a bucket of the index of due jobs."""

NEVER: Final = -1
FLAGS: Final = {anomaly: 1 << place for place, anomaly in enumerate(Anomaly)}
UNDATED: Final = 1 << 20
"""The record has no usable create_time: ``created`` is the end of the window that showed it, perhaps minutes
from now. It is exact about one thing: the job was not created later."""
EXEMPT: Final = 1 << 21
"""Windows are complete without this missing job (``missing.py``)."""
MISSED_IN_LISTING: Final = 1 << 22
"""At least one of the misses was a listing, not a lookup. (An undated record has no place in a listing.)"""
CORROBORATED: Final = 1 << 23
"""A listing missed this open job and showed others: misses are counted from that one on."""


class Job(msgspec.Struct, gc=False, array_like=True):
    """One remembered job. It can be part of no cycle, so the garbage collector need not track it.

    In JSON it is an array of its fields in this order.
    """

    created: int
    state: str
    """Present state; ``expired`` when given up."""
    job_type: str
    tts_service_enum: str
    """The labels it is counted under at present."""
    text_length: int = NEVER
    """The text length that was counted."""
    last_checked: int = NEVER
    """When the request was made that last showed it open, or should have."""
    misses: int = 0
    """Misses in a row: answers that should have shown it and did not."""
    missing_since: int = 0
    flags: int = 0

    @property
    def open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def label_set(self) -> LabelSet:
        return self.job_type, self.tts_service_enum

    @property
    def labels(self) -> SeriesLabels:
        return self.job_type, self.tts_service_enum, self.state

    @property
    def last_seen(self) -> int:
        """When it was certainly there, and as it is: at its creation, or when it was checked last."""
        return self.last_checked if self.flags & UNDATED else max(self.last_checked, self.created)

    def spacing(self, now: int, interval: int) -> int:
        """How often it must be checked, in milliseconds: max(interval, age/20) (R9, docs/counting.md)."""
        return max(interval, (now - self.created) // 20)

    def due_at(self, interval: int, max_age: int) -> int:
        """From when on it is due for a recheck (R9): when ``spacing`` is nearly over, and at its deadline.

        Half an interval early, so that the poll nearest to that time takes it.
        """
        seen, half = self.last_seen, interval // 2
        # The least t with t - seen >= (t - created) // 20 - half.
        spaced = (20 * (seen - half - 1) - self.created) // 19 + 1
        due = max(seen + interval - half, spaced)
        deadline = self.created + max_age
        return min(due, deadline) if self.last_checked < deadline else due


class DueIndex:
    """Open jobs by the time from which on a recheck may be due: a poll need not walk over all of them.

    One entry a job, moved only when its time has come: checks put it off, nothing brings it forward.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, list[str]] = {}

    def put(self, job_id: str, at: int) -> None:
        self._buckets.setdefault(at // DUE_WIDTH, []).append(job_id)

    def take(self, now: int, enough: int) -> list[str]:
        """Remove and return the entries up to ``now``, earliest first, and not many more than enough."""
        taken: list[str] = []
        for bucket in sorted(bucket for bucket in self._buckets if bucket <= now // DUE_WIDTH):
            taken += self._buckets.pop(bucket)
            if len(taken) >= enough:
                break
        return taken


class JobIndex:
    """All remembered jobs of one target, and which of them changed since the last commit."""

    def __init__(self, jobs: dict[str, Job] | None = None) -> None:
        self._jobs = dict(jobs or {})
        self.slots: dict[int, dict[str, Job]] = {}
        """By time of creation, see ``SLOT``; none is empty."""
        self.open_by_minute: dict[int, dict[SeriesLabels, int]] = {}
        """Open jobs by minute of creation and (job_type, tts_service_enum, state)."""
        self.open_count = 0
        self.due = DueIndex()
        self.dirty: set[str] = set()
        self.evicted: set[tuple[str, int]] = set()
        """Since the last commit: id and time of creation."""
        self._index(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def items(self) -> Iterator[tuple[str, Job]]:
        return iter(self._jobs.items())

    def add(self, job_id: str, job: Job) -> None:
        self._jobs[job_id] = job
        self._index({job_id: job})
        self.dirty.add(job_id)
        self.evicted.discard((job_id, job.created))

    def _index(self, jobs: dict[str, Job]) -> None:
        """One job, or all of them: a start waits for this, so the loop avoids every needless call."""
        slots, put_due, count_open = self.slots, self.due.put, self._count_open
        for job_id, job in jobs.items():
            created = job.created
            slot = created // SLOT
            in_slot = slots.get(slot)
            if in_slot is None:
                in_slot = slots[slot] = {}
            in_slot[job_id] = job
            if job.state in OPEN_STATES:
                count_open(job, 1)
                # A lower bound of when it is due, whatever the interval.
                seen = job.last_seen
                put_due(job_id, seen + (seen - created) // 40)

    def changed(self, job_id: str) -> None:
        self.dirty.add(job_id)

    def changes(self) -> dict[str, Job]:
        """The remembered jobs that changed since the last commit."""
        jobs = self._jobs
        return {job_id: jobs[job_id] for job_id in self.dirty if job_id in jobs}

    def relabel(self, job: Job, label_set: LabelSet, state: str) -> None:
        """An open job shows other labels, or another state."""
        self._count_open(job, -1)
        (job.job_type, job.tts_service_enum), job.state = label_set, state
        self._count_open(job, 1)

    def close(self, job_id: str, job: Job, state: str) -> None:
        """From open to final."""
        self._count_open(job, -1)
        job.state = state
        self.dirty.add(job_id)

    def _count_open(self, job: Job, change: int) -> None:
        self.open_count += change
        minute, labels = job.created // MINUTE, (job.job_type, job.tts_service_enum, job.state)
        counts = self.open_by_minute.get(minute)
        if counts is None:
            counts = self.open_by_minute[minute] = {}
        left = counts.get(labels, 0) + change
        if left:
            counts[labels] = left
            return
        del counts[labels]
        if not counts:
            del self.open_by_minute[minute]

    def evict(self, job_id: str) -> None:
        job = self._jobs.pop(job_id)
        slot = job.created // SLOT
        jobs = self.slots[slot]
        del jobs[job_id]
        if not jobs:
            del self.slots[slot]
        self.dirty.discard(job_id)
        self.evicted.add((job_id, job.created))

    def evict_finals(self, since: int, until: int) -> None:
        """Evict the final jobs created in [since, until)."""
        gone = [job_id for job_id, job in self.created_in(since, until) if not job.open]
        for job_id in gone:
            self.evict(job_id)

    def created_in(self, since: int, until: int) -> Iterator[tuple[str, Job]]:
        """Jobs created in [since, until)."""
        first, last = since // SLOT, until // SLOT
        slots: Iterator[int] | range = range(first, last + 1)
        if last - first > len(self.slots):
            slots = (slot for slot in self.slots if first <= slot <= last)
        for slot in slots:
            for job_id, job in self.slots.get(slot, {}).items():
                if since <= job.created < until:
                    yield job_id, job

    def open_in(self, minute: int) -> int:
        """How many jobs created in that minute are open."""
        counts = self.open_by_minute.get(minute)
        return sum(counts.values()) if counts else 0

    def open_between(self, since: int, until: int) -> int:
        """How many jobs are open that were created in the minutes of [since, until]."""
        return sum(self.open_in(minute) for minute in range(since // MINUTE, until // MINUTE + 1))

    def since(self, default: int) -> int:
        """No remembered job was created before this time, to the slot. ``default`` where there is none."""
        return min(self.slots) * SLOT if self.slots else default

    def oldest_open(self) -> dict[SeriesLabels, int]:
        """Creation time of the oldest open job by (job_type, tts_service_enum, state)."""
        oldest: dict[SeriesLabels, int] = {}
        for minute in sorted(self.open_by_minute):
            if self.open_by_minute[minute].keys() <= oldest.keys():
                continue
            in_minute: dict[SeriesLabels, int] = {}
            for _, job in self.created_in(minute * MINUTE, (minute + 1) * MINUTE):
                if job.open:
                    in_minute[job.labels] = min(in_minute.get(job.labels, job.created), job.created)
            oldest = in_minute | oldest
        return oldest
