"""Which requests does a poll need? (R5, R8 and R9, docs/counting.md)

A *window* is a stretch of creation time that is listed, 100 records a request; a *lookup* asks for one job by
its id. Windows are cut by the density of records; open jobs are listed or looked up, whichever costs fewer
requests. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from math import ceil, inf, sqrt
from typing import Final, NamedTuple

from exporter.ledger import CLOCKS_DIFFER, WINDOW_MARGIN, Ledger, floor_second
from exporter.polling.due import Recheck, RecordCounts
from exporter.polling.paging import MAX_WINDOW_RECORDS, PAGE_LIMIT
from exporter.units import SECOND

ONE_PAGE: Final = 85
"""Records that a window is planned to hold: it fits on one page, with some room for a burst."""
MOST_PAGES: Final = 9
"""Of the largest window, which holds at most 1,000 records (R6, docs/counting.md)."""
MANY: Final = 850
"""Records that a window of several pages is planned to hold: nine pages at most."""
FULL: Final = MOST_PAGES * (PAGE_LIMIT - 1) + 1
"""Records that ``MOST_PAGES`` pages hold: each begins with the last record of the one before."""
DENSE: Final = 2.0
"""Records per second. Two windows both list the second at their edge: where it holds more records than this,
a few large windows cost fewer requests than many of one page."""
SETTLE_SLACK: Final = 4
"""Room in a settle window for records that appeared after the head read of that time."""
SLACK: Final = 2.0
"""Records that a stretch may hold in addition to those we know of."""
MIN_AHEAD: Final = CLOCKS_DIFFER
"""A head read reaches this far (milliseconds) past now, or ``overlap`` if that is more."""


class Window(NamedTuple):
    """Records with a ``create_time`` in [since, until), whole seconds (milliseconds since 1970).

    Listing it shows more: what is asked for is ``WINDOW_MARGIN`` wider, and includes the end second.
    """

    since: int
    until: int


class RecheckPlan(NamedTuple):
    """How the due jobs are rechecked."""

    steps: tuple[Window | Recheck, ...]
    """Stretches to list and jobs to look up; first what waited longest, as the budget may not suffice for
    all."""

    @property
    def windows(self) -> tuple[Window, ...]:
        return tuple(step for step in self.steps if isinstance(step, Window))

    @property
    def lookups(self) -> tuple[Recheck, ...]:
        return tuple(step for step in self.steps if isinstance(step, Recheck))


class Density:
    """The density of records, learned from complete reads: the next window is cut by it."""

    def __init__(self, overlap: int) -> None:
        self._per_ms: float | None = None
        self._cap = max(2 * overlap, 60 * SECOND)

    def learn(self, window: Window, records: int) -> None:
        """A complete read of ``window``."""
        span = max(SECOND, window.until - window.since)
        now = records / span
        self._per_ms = now if self._per_ms is None else 0.5 * self._per_ms + 0.5 * now
        self._cap = min(2 * self._cap, 365 * 86_400 * SECOND)

    def found(self, window: Window, records: int) -> None:
        """An incomplete read showed that ``window`` holds so many records: this replaces what was learned."""
        self._per_ms = records / max(SECOND, window.until - window.since)

    def shrink(self, window: Window, records: int | None = None) -> None:
        """The read of ``window`` failed: the next one is half as long; or as long as fits its ``records``."""
        too_many = records is not None and records > MAX_WINDOW_RECORDS
        share = MANY / records if too_many and records else 0.5
        self._cap = max(SECOND, floor_second(int((window.until - window.since) * share)))

    @property
    def per_ms(self) -> float:
        return self._per_ms or 0.0

    @property
    def most(self) -> int:
        """How long a window may be (milliseconds), however few records it holds."""
        return self._cap

    def span(self, records: int) -> int:
        """How long a window (milliseconds, whole seconds) with about ``records`` records may be."""
        fitting = self._cap if not self._per_ms else min(self._cap, records / self._per_ms)
        return max(SECOND, floor_second(int(fitting)))


def settle_window(
    ledger: Ledger,
    density: Density,
    since: int,
    head: int,
    now: int,
    most_records: int,
    *,
    lagging: bool,
) -> Window | None:
    """The next settle read, from where the last one ended, or ``None`` while it is not due yet.

    Up to ``head`` all records are known, and the window is cut exactly; after it, by their density.
    """
    end = floor_second(now - ledger.settings.overlap)
    pending = end - since
    if lagging:
        return Window(since, min(end, since + density.span(min(MANY, most_records))))
    if pending < SECOND:
        return None
    if head < end:
        target = min(ONE_PAGE if density.per_ms * SECOND <= DENSE else MANY, most_records)
        until = since + density.span(target)
    else:
        until = _cut(ledger, since, min(end, since + density.most), most_records)
    if until >= end and pending < ledger.settings.overlap // 2:
        return None
    return Window(since, min(end, until))


def _cut(ledger: Ledger, since: int, end: int, most_records: int) -> int:
    """The end of a full window from ``since``; the second at its end is listed, too."""
    created = sorted(job.created for _, job in ledger.jobs.created_in(since - WINDOW_MARGIN, end + SECOND))
    dense = len(created) * SECOND > DENSE * (end - since)
    target = min((FULL if dense else PAGE_LIMIT) - SETTLE_SLACK, most_records)
    if len(created) <= target:
        return end
    return max(since + SECOND, floor_second(created[target]) - SECOND)


def is_lagging(ledger: Ledger, read_until: int, now: int) -> bool:
    """Is so much unread that only settle reads make sense (R5, docs/counting.md)?"""
    return now - read_until > 2 * ledger.settings.overlap


def backlog_window(density: Density, head: int, now: int) -> Window | None:
    """The next piece of what head reads have not reached; ``None`` when one read is enough."""
    span = density.span(MANY)
    return Window(head, head + span) if now - head > span else None


def head_window(
    ledger: Ledger, density: Density, head: int, now: int, due: Sequence[Recheck], furthest: int
) -> Window:
    """The newest stretch, from where the last head read ended, and earlier jobs that are cheaply listed with
    it.

    If it fits on one page, it ends well after now, and after ``furthest`` where that is later: a record there
    shows whose clock is right (R3, docs/counting.md). If it needs several pages, it ends a second before now,
    so that no new record appears while they are read. It begins at ``evicted_until`` at the earliest: no job
    before it is new.
    """
    since = head = max(ledger.watermarks.evicted_until, min(head, floor_second(now)))
    late = max(head + SECOND, floor_second(now) - SECOND)
    if due:
        counts = RecordCounts(ledger, due[0].since - WINDOW_MARGIN, head, density.per_ms)
        gap = Recheck(head, max(late, floor_second(now)), "", listing_only=True)
        rechecks = plan_rechecks([*(recheck for recheck in due if recheck.since < head), gap], counts.before)
        since = min(head, max(rechecks.windows, key=lambda window: window.until).since)
        if counts(since - WINDOW_MARGIN, now) + SLACK > PAGE_LIMIT:
            return Window(since, late)
    return Window(since, floor_second(max(now, furthest, head)) + max(MIN_AHEAD, ledger.settings.overlap))


def filled(ledger: Ledger, density: Density, window: Window, head: int, now: int, most: int) -> Window:
    """The same window, extended back as far as its pages have room for sure.

    It costs no request more, shows late records, and the jobs that it shows are not due for a recheck so
    soon. It begins ``most`` milliseconds before now at the earliest, and not before ``evicted_until``.
    """
    reach = max(ledger.watermarks.evicted_until, floor_second(now) - most)
    if window.since <= reach:
        return window
    counts = RecordCounts(ledger, reach - WINDOW_MARGIN, head, density.per_ms)
    return Window(_fill(counts.before, window.since, now, reach, (now - head) * density.per_ms), window.until)


def widened(window: Window, before: Callable[[int], float], reach: int) -> Window:
    """A stretch to recheck, extended back to ``reach`` at most, as far as its pages have room for sure.

    It costs no request more, and other open jobs that it shows are not due for a recheck so soon.
    """
    return Window(_fill(before, window.since, window.until + SECOND, reach, 0.0), window.until)


def _fill(before: Callable[[int], float], since: int, until: int, reach: int, unknown: float) -> int:
    """The earliest begin, not before ``reach``, with which a stretch takes no more pages than from ``since``.

    Found by halving. ``unknown`` is an estimate of records not counted by ``before``; so much and three times
    its usual error are left free.
    """
    through = before(until)
    full = pages(through - before(since - WINDOW_MARGIN) + SLACK) * (PAGE_LIMIT - 1)
    room = full - SLACK - 3 * sqrt(max(0.0, unknown) + 9)
    low, high = min(reach, since), since
    while high - low > SECOND:
        middle = floor_second((low + high) // 2)
        if through - before(middle - WINDOW_MARGIN) <= room:
            high = middle
        else:
            low = middle
    return low if through - before(low - WINDOW_MARGIN) <= room else high


def history_window(ledger: Ledger, density: Density, start: int, most_records: int) -> Window | None:
    """The next stretch before the baseline, read backwards; ``None`` when all is read."""
    until = ledger.watermarks.history
    if until <= start:
        return None
    return Window(max(start, until - density.span(min(MANY, most_records))), until)


def pages(records: float) -> int:
    """Requests for so many records: each page begins with the last record of the one before."""
    return max(1, ceil((records - 1) / (PAGE_LIMIT - 1)))


def plan_rechecks(
    due: Sequence[Recheck],
    before: Callable[[int], float],
    slack: float = SLACK,
    *,
    alone: Sequence[Recheck] = (),
) -> RecheckPlan:
    """The mix of stretches and lookups that takes the fewest requests for everything due.

    ``due`` is in order of creation; each of ``alone`` is rechecked by itself. ``before(t)`` counts the
    records created before ``t``; a stretch is assumed to hold ``slack`` more, because estimates err.

    Dynamic programming over the due jobs in order of creation. ``best[n]`` is the least number of requests
    for the first n of them. (Jobs of the same second count as one, with as many lookups.) The last of these
    is either looked up, or is the end of a stretch of p pages; that stretch best begins as early as p pages
    allow, at job number s:

        best[n] = min(best[n - 1] + 1,              a lookup
                      best[s - 1] + p  for each p)  a stretch of p pages, from job s to job n

    For example, jobs A, B and C are due. From A to B there are 60 records, from B to C 5,000:

        n  last  a lookup       stretches                               best[n]
        -  ----  -------------  --------------------------------------  ------------------------------
        1  A     0 + 1 = 1      A alone, one page: 0 + 1 = 1            1: look up A
        2  B     1 + 1 = 2      from A to B, one page: 0 + 1 = 1        1: list from A to B
        3  C     1 + 1 = 2      C alone, one page: 1 + 1 = 2;           2: list from A to B, look up C
                                from B to C: more than nine pages

    Of equal costs, a stretch of several jobs is preferred: where the estimate errs, it is by less. The result
    is the minimum for stretches of up to ``MOST_PAGES``; a longer one is only listed where no lookup may be
    used.
    """
    items = _by_second(due)
    starts = [before(item.since - WINDOW_MARGIN) for item in items]
    best = [0.0]
    choice: list[int] = []
    """By item: the first item of the stretch that ends with it, or -1 for lookups."""
    first = [0] * (MOST_PAGES + 1)
    """By pages: the earliest item at which a stretch of so many pages may begin. It never moves back."""
    for end, item in enumerate(items):
        through = before(item.until + SECOND) + slack
        cost, begin = best[end] + item.lookups, -1
        for size in range(1, MOST_PAGES + 1):
            start = first[size]
            while start <= end and pages(through - starts[start]) > size:
                start += 1
            first[size] = start
            if start <= end and (best[start] + size < cost or (best[start] + size == cost and start < end)):
                cost, begin = best[start] + size, start
        if cost == inf:  # more than the largest stretch holds, and no lookup may be used
            cost, begin = best[end] + pages(through - starts[end]), end
        best.append(cost)
        choice.append(begin)
    steps = _chosen(items, choice)
    steps += [(job.seen, Window(job.since, job.until) if job.listing_only else job) for job in alone]
    steps.sort(key=lambda step: step[0])
    return RecheckPlan(tuple(step for _, step in steps))


class _Second(NamedTuple):
    """All due jobs that were created in one second, or one stretch that must be listed."""

    since: int
    until: int
    rechecks: tuple[Recheck, ...]
    lookups: float
    """Requests to look up each of them; ``inf`` when no lookup may be used."""


def _by_second(due: Sequence[Recheck]) -> list[_Second]:
    items = []
    through = 0
    for (since, until), group in groupby(due, key=lambda recheck: (recheck.since, recheck.until)):
        rechecks = tuple(group)
        listing_only = any(recheck.listing_only for recheck in rechecks)
        # What is within a longer stretch is listed together with it, at no further cost.
        through = until = max(until, through)
        items.append(_Second(since, until, rechecks, inf if listing_only else len(rechecks)))
    return items


def _chosen(items: Sequence[_Second], choice: Sequence[int]) -> list[tuple[int, Window | Recheck]]:
    """The stretches and lookups that were chosen, each with the time since which it has waited."""
    steps: list[tuple[int, Window | Recheck]] = []
    end = len(items) - 1
    while end >= 0:
        start = choice[end] if choice[end] >= 0 else end
        if choice[end] < 0:
            steps += [(recheck.seen, recheck) for recheck in items[end].rechecks]
        else:
            seen = min(recheck.seen for item in items[start : end + 1] for recheck in item.rechecks)
            steps.append((seen, Window(items[start].since, items[end].until)))
        end = start - 1
    return steps
