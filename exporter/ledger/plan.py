"""Which requests does a poll need? Windows cut to the density of records, looks at open jobs the cheaper way.

Pure. A window is a stretch of creation time that is listed, 100 records a request; a lookup asks for one job.
Rules R5, R8, R9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import ceil
from typing import NamedTuple

from exporter.ledger.jobs import MINUTE, UNLISTED, Job
from exporter.ledger.ledger import Ledger
from exporter.ledger.reading import PAGE_LIMIT
from exporter.ledger.times import SECOND, floor_second

ONE_PAGE = 85
"""Records a window is cut for: it fits one page with some room for a burst."""
CATCH_UP_RECORDS = 800
HEAD_RECORDS = 60
"""How far a head read reaches back: as far as surely fits its page, at no cost."""
TRIES_PER_OVERLAP = 3
"""How often a missed job is asked for until it is given up (R6)."""
MIN_AHEAD = 300_000
"""A head read reaches this far (milliseconds) past now, or ``overlap`` if that is more: clocks differ."""


class Window(NamedTuple):
    """[since, until], both inclusive, whole seconds (milliseconds since 1970)."""

    since: int
    until: int


class Look(NamedTuple):
    """One open job that is due."""

    created: int
    job_id: str
    listing_only: bool
    """A lookup would not settle anything: it has no id, or a lookup has missed it already."""


class Looks(NamedTuple):
    """How the due open jobs are looked at."""

    windows: tuple[Window, ...]
    lookups: tuple[str, ...]


class Density:
    """Records per second, learned from complete reads; sizes the next window (R8)."""

    def __init__(self, overlap: int) -> None:
        self._per_ms: float | None = None
        self._cap = max(2 * overlap, 60 * SECOND)

    def learn(self, window: Window, records: int) -> None:
        """A complete read of ``window``."""
        span = max(SECOND, window.until - window.since)
        now = records / span
        self._per_ms = now if self._per_ms is None else 0.5 * self._per_ms + 0.5 * now
        self._cap = min(2 * self._cap, 365 * 86_400 * SECOND)

    def shrink(self, window: Window) -> None:
        """The read of ``window`` failed, or was too large: halve."""
        self._cap = max(SECOND, floor_second((window.until - window.since) // 2))

    def span(self, records: int) -> int:
        """How long a window (milliseconds, whole seconds) with about ``records`` records may be."""
        fitting = self._cap if not self._per_ms else min(self._cap, records / self._per_ms)
        return max(SECOND, floor_second(int(fitting)))


def settle_window(ledger: Ledger, density: Density, since: int, now: int, most_records: int) -> Window | None:
    """The next settle read, from where the last one ended, or ``None`` while it is not due yet."""
    end = floor_second(now - ledger.rules.overlap)
    pending = end - since
    if is_lagging(ledger, since, now):
        return Window(since, min(end, since + density.span(min(CATCH_UP_RECORDS, most_records))))
    span = density.span(min(ONE_PAGE, most_records))
    if pending < SECOND or pending < min(span, ledger.rules.overlap // 2):
        return None
    return Window(since, min(end, since + span))


def is_lagging(ledger: Ledger, read_until: int, now: int) -> bool:
    """Has so much not been read yet that only settle reads make sense (R5)?"""
    return now - read_until > 2 * ledger.rules.overlap


def head_window(ledger: Ledger, density: Density, head: int, now: int, back: int) -> Window:
    """The next head read: from where the last one ended, up to ``back`` before now if that is further.

    The last one of a poll ends past now, the others are cut for one page.
    """
    span = density.span(ONE_PAGE)
    if now - head > span:
        return Window(head, head + span)
    since = max(ledger.times.forgotten, min(head, floor_second(now) - back))
    return Window(since, floor_second(now) + max(MIN_AHEAD, ledger.rules.overlap))


def history_window(ledger: Ledger, density: Density, start: int, most_records: int) -> Window | None:
    """The next stretch before the baseline, read backwards (R4); ``None`` when all is read."""
    until = ledger.times.history
    if until <= start:
        return None
    return Window(max(start, until - density.span(min(CATCH_UP_RECORDS, most_records))), until)


def due_jobs(ledger: Ledger, now: int) -> list[Look]:
    """Open and missed jobs whose next look is due before the next poll, in order of creation (R9)."""
    half, due = ledger.rules.interval // 2, []
    deadline_age = ledger.rules.max_job_age
    for job_id, job in ledger.jobs.open_items():
        unseen = now - max(job.looked, job.created)
        deadline = job.created + deadline_age
        if unseen >= job.spacing(now, ledger.rules.interval) - half or job.looked < deadline <= now:
            due.append(Look(job.created, job_id, _listing_only(job_id, job)))
    for job_id in ledger.holds:
        missed = ledger.jobs.get(job_id)
        if missed is not None and not missed.open:
            next_try = missed.missing_since + missed.misses * ledger.rules.overlap // TRIES_PER_OVERLAP
            if now >= next_try:
                due.append(Look(missed.created, job_id, _listing_only(job_id, missed)))
    due.sort()
    return due


def longest_unseen(ledger: Ledger, due: list[Look], most: int) -> list[Look]:
    """The ``most`` looks that waited longest, in order of creation; the others wait for the next poll."""
    if len(due) <= most:
        return due

    def seen(look: Look) -> int:
        job = ledger.jobs.get(look.job_id)
        return job.looked if job else 0

    return sorted(sorted(due, key=seen)[:most])


def _listing_only(job_id: str, job: Job) -> bool:
    return job_id.startswith("\x00") or (job.misses > 0 and not job.flags & UNLISTED)


class RecordCounts:
    """How many records were created between two times, estimated from the counts by minute."""

    def __init__(self, ledger: Ledger, since: int, until: int) -> None:
        self._first = since // MINUTE
        minutes = range(self._first, until // MINUTE + 2)
        counts = (ledger.jobs.open_in(minute) + ledger.minutes.density(minute) for minute in minutes)
        self._before = list(accumulate(counts, initial=0))

    def __call__(self, since: int, until: int) -> int:
        return ceil(self._until(until) - self._until(since))

    def _until(self, time: int) -> float:
        minute = time // MINUTE - self._first
        share = time % MINUTE / MINUTE
        return self._before[minute] * (1 - share) + self._before[minute + 1] * share


def plan_looks(due: Sequence[Look], records: Callable[[int, int], int]) -> Looks:
    """The cheapest mix of listed stretches and lookups that looks at every due job.

    Dynamic programming over the jobs in order of creation: the cost of the first n is the least of a lookup
    for the n-th, or a stretch that ends with it. A stretch that costs more requests
    than there are jobs before its end is never worth it, which bounds the search.
    """
    best: list[int] = [0]
    choice: list[int] = []
    """Per job: the first job of the stretch that ends with it, or -1 for a lookup."""
    for end, look in enumerate(due):
        cost, first = (best[end] + 1, -1) if not look.listing_only else (1 << 60, -1)
        for start in range(end, -1, -1):
            pages = max(1, -(-records(due[start].created, look.created + SECOND) // (PAGE_LIMIT - 1)))
            if best[start] + pages < cost:
                cost, first = best[start] + pages, start
            if pages > cost:
                break
        best.append(cost)
        choice.append(first)
    windows, lookups = [], []
    end = len(due) - 1
    while end >= 0:
        if choice[end] < 0:
            lookups.append(due[end].job_id)
            end -= 1
        else:
            start = choice[end]
            windows.append(Window(floor_second(due[start].created), floor_second(due[end].created) + SECOND))
            end = start - 1
    return Looks(tuple(reversed(windows)), tuple(reversed(lookups)))
