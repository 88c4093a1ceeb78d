"""Which jobs are due for a recheck in this poll (R9, docs/counting.md), and how many records are around them.

A *recheck* asks what became of one job: by a listing of the stretch of time around its creation, or by a
lookup of its id. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from exporter.ledger import UNDATED, Job, Ledger, floor_second, is_anonymous
from exporter.units import MINUTE, SECOND

MOST: Final = 5_000
"""Due jobs planned for in one poll."""
MOST_EXAMINED: Final = 50_000
"""Entries of the index of due times that one poll examines at most: the rest waits for the next poll."""
TRIES_PER_OVERLAP: Final = 3
"""How often a missing job is rechecked within ``overlap``, until it is given up (R6, docs/counting.md)."""
HALF_A_PAGE: Final = 50
"""Records to list around an open job that is missing: a listing that shows them, but not the job, proves that
it is gone (R9, docs/counting.md). As many fit on one page with room to spare."""
NEIGHBOUR_MINUTES: Final = 30
"""Minutes before and after a missing job from which those records may be."""


class Recheck(NamedTuple):
    """One job that is due, or a stretch of time that must be listed anyway. Whole seconds, inclusive."""

    since: int
    until: int
    job_id: str
    """Empty for a stretch."""
    listing_only: bool = False
    """No lookup may be used: the job has no id, or it was missed already."""
    seen: int = 0
    """When it was last checked."""
    may_hold_many: bool = False
    """The stretch around it may hold more records than we know of."""


def due_rechecks(ledger: Ledger, now: int, most: int = MOST) -> list[Recheck]:
    """Open and missing jobs that are due, in order of creation: of too many, those checked longest ago."""
    due = [*_due_open(ledger, now, most), *_due_missed(ledger, now)]
    if len(due) > most:
        due = sorted(due, key=lambda recheck: recheck.seen)[:most]
    return sorted(due)


def _due_open(ledger: Ledger, now: int, most: int) -> Iterator[Recheck]:
    settings, jobs = ledger.settings, ledger.jobs
    walked = found = 0
    waiting: dict[str, int] = {}
    while walked < MOST_EXAMINED and found < 4 * most and (taken := jobs.due.take(now, most)):
        walked += len(taken)
        for job_id in taken:
            job = jobs.get(job_id)
            if job is None or not job.open:
                continue
            waiting[job_id] = at = job.due_at(settings.interval, settings.max_job_age)
            found += at <= now
    for job_id, at in waiting.items():
        jobs.due.put(job_id, at)
        if at <= now and (job := jobs.get(job_id)) is not None:
            yield _recheck_of(ledger, job_id, job, now)


def _due_missed(ledger: Ledger, now: int) -> Iterator[Recheck]:
    """Finished jobs that are missing from listings: rechecked until they are found or given up."""
    spacing = ledger.settings.overlap // TRIES_PER_OVERLAP
    for job_id in ledger.missing_jobs.blocking:
        job = ledger.jobs.get(job_id)
        if job is not None and not job.open and now >= job.missing_since + job.misses * spacing:
            yield _recheck_of(ledger, job_id, job, now)


def _recheck_of(ledger: Ledger, job_id: str, job: Job, now: int) -> Recheck:
    since = floor_second(min(job.created, now))
    until = since + SECOND
    may_hold_many = job_id in ledger.missing_jobs.look_up_alone
    listing_only = is_anonymous(job_id)
    if job.misses and not job.flags & UNDATED:
        # The question is whether listings show it: an API may find by id what it does not list.
        listing_only = True
        if job.open and not may_hold_many:
            (since, until), may_hold_many = _around(ledger, job.created, now), True
    return Recheck(since, until, job_id, listing_only, job.last_checked, may_hold_many)


def _around(ledger: Ledger, created: int, now: int) -> tuple[int, int]:
    """The stretch around a job that fits on one page, by what we know: others on it prove that it is gone."""

    def known(minute: int) -> int:
        return ledger.jobs.open_in(minute) + ledger.minutes.density(minute)

    first = last = created // MINUTE
    records = known(first)
    if records > HALF_A_PAGE:
        reach = MINUTE * HALF_A_PAGE // records // 2
        since, until = created - reach, created + reach
    else:
        for _ in range(NEIGHBOUR_MINUTES):
            more = known(first - 1) + known(last + 1)
            if records + more > HALF_A_PAGE:
                break
            first, last, records = first - 1, last + 1, records + more
        since, until = first * MINUTE, (last + 1) * MINUTE
    # Of the time before ``history`` we do not know how many records there are.
    since = max(since, min(created, ledger.watermarks.history))
    return floor_second(since), max(floor_second(min(until, now)), floor_second(created) + SECOND)


class RecordCounts:
    """How many records were created between two times: counted up to ``head``, estimated after it.

    Exact as far back as finished jobs are remembered. Before that they are counted by minute, as if the
    records of a minute were spread evenly over it.
    """

    def __init__(self, ledger: Ledger, since: int, head: int, per_ms: float) -> None:
        self._first = since // MINUTE
        self._head = max(head, since)
        self._remembered = min(max(since, ledger.watermarks.evicted_until), self._head)
        self._per_ms = per_ms
        minutes = range(self._first, self._remembered // MINUTE + 1)
        counts = (ledger.jobs.open_in(minute) + ledger.minutes.density(minute) for minute in minutes)
        self._before = list(accumulate(counts, initial=0))
        jobs = ledger.jobs.created_in(self._remembered, self._head)
        self._created = sorted(job.created for _, job in jobs)

    def __call__(self, since: int, until: int) -> float:
        return self.before(until) - self.before(since)

    def before(self, time: int) -> float:
        """Records from the beginning up to ``time``."""
        counted = self._by_minute(min(time, self._remembered)) + bisect_left(self._created, time)
        return counted + max(0, time - self._head) * self._per_ms

    def _by_minute(self, time: int) -> float:
        minute = time // MINUTE - self._first
        if minute < 0:
            return 0.0
        # The newest minute has been read only as far as ``head``.
        begin = (self._first + minute) * MINUTE
        share = (time - begin) / max(1, min(MINUTE, self._head - begin))
        return self._before[minute] + (self._before[minute + 1] - self._before[minute]) * share
