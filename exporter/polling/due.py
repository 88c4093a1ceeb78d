"""Which jobs are to be looked at in this poll (rule R9), and how many records lie around them.

Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from exporter.ledger import UNDATED, Job, Ledger, floor_second
from exporter.units import MINUTE, SECOND

MOST: Final = 5_000
"""Due jobs planned for in one poll."""
WALK: Final = 50_000
"""Entries of the index that one poll turns over at most: the rest waits for the next poll."""
TRIES_PER_OVERLAP: Final = 3
"""How often a missed job is asked for until it is given up (R6)."""
HALF_A_PAGE: Final = 50
"""Records around an open job that was missed: with these one listing proves whether it is there (R9)."""
FAR: Final = 30
"""Minutes before and after it in which they are looked for."""


class Recheck(NamedTuple):
    """One job that is due, or a stretch of time that must be listed anyway. Whole seconds, inclusive."""

    since: int
    until: int
    job_id: str
    """Empty for a stretch."""
    listing_only: bool = False
    """Only a listing will do: it has no id, or it was missed already."""
    seen: int = 0
    """When it was looked at last."""
    uncertain: bool = False
    """The stretch around it may hold more than is known of."""


def due_rechecks(ledger: Ledger, now: int, most: int = MOST) -> list[Recheck]:
    """Open and missed jobs that are due, in order of creation; of more than ``most`` the longest unseen."""
    due = [*_due_open(ledger, now, most), *_due_missed(ledger, now)]
    if len(due) > most:
        due = sorted(due, key=lambda recheck: recheck.seen)[:most]
    return sorted(due)


def _due_open(ledger: Ledger, now: int, most: int) -> Iterator[Recheck]:
    rules, jobs = ledger.rules, ledger.jobs
    walked = found = 0
    waiting: dict[str, int] = {}
    while walked < WALK and found < 4 * most and (taken := jobs.due.take(now, most)):
        walked += len(taken)
        for job_id in taken:
            job = jobs.get(job_id)
            if job is None or not job.open:
                continue
            waiting[job_id] = at = job.due_at(rules.interval, rules.max_job_age)
            found += at <= now
    for job_id, at in waiting.items():
        jobs.due.put(job_id, at)
        if at <= now and (job := jobs.get(job_id)) is not None:
            yield _look(ledger, job_id, job, now)


def _due_missed(ledger: Ledger, now: int) -> Iterator[Recheck]:
    """Finished jobs that were not listed: asked for until they are found or given up."""
    spacing = ledger.rules.overlap // TRIES_PER_OVERLAP
    for job_id in ledger.missing_jobs.blocking:
        job = ledger.jobs.get(job_id)
        if job is not None and not job.open and now >= job.missing_since + job.misses * spacing:
            yield _look(ledger, job_id, job, now)


def _look(ledger: Ledger, job_id: str, job: Job, now: int) -> Recheck:
    since = floor_second(job.created)
    until = since + SECOND
    uncertain = job_id in ledger.missing_jobs.look_up_alone
    listing_only = job_id.startswith("\x00")
    if job.misses and not job.flags & UNDATED:
        # Whether lists show it is the question: an API may find by id what it does not list.
        listing_only = True
        if job.open and not uncertain:
            (since, until), uncertain = _around(ledger, job.created, now), True
    return Recheck(since, until, job_id, listing_only, job.last_checked, uncertain)


def _around(ledger: Ledger, created: int, now: int) -> tuple[int, int]:
    """The stretch around a job that one page holds, as far as is known: what else is listed proves much."""

    def known(minute: int) -> int:
        return ledger.jobs.open_in(minute) + ledger.minutes.density(minute)

    first = last = created // MINUTE
    records = known(first)
    if records > HALF_A_PAGE:
        reach = MINUTE * HALF_A_PAGE // records // 2
        since, until = created - reach, created + reach
    else:
        for _ in range(FAR):
            more = known(first - 1) + known(last + 1)
            if records + more > HALF_A_PAGE:
                break
            first, last, records = first - 1, last + 1, records + more
        since, until = first * MINUTE, (last + 1) * MINUTE
    # Before that nothing is known of what there is.
    since = max(since, min(created, ledger.times.history))
    return floor_second(since), max(floor_second(min(until, now)), floor_second(created) + SECOND)


class RecordCounts:
    """How many records were created between two times: counted up to ``head``, estimated after it.

    To the second as far back as finished jobs are remembered. Before that by minute, and taken to be spread
    evenly within it.
    """

    def __init__(self, ledger: Ledger, since: int, head: int, per_ms: float) -> None:
        self._first = since // MINUTE
        self._head = max(head, since)
        self._remembered = min(max(since, ledger.times.evicted_until), self._head)
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
