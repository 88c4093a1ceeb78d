"""Which requests does a poll need? Windows cut to the density of records, looks at open jobs the cheaper way.

Pure. A window is a stretch of creation time that is listed, 100 records a request; a lookup asks for one job.
Rules R5, R8, R9.
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
"""Records a window is cut for: it fits one page with some room for a burst."""
MOST_PAGES: Final = 9
"""The largest window (R6: at most 1,000 records)."""
MANY: Final = 850
"""Records a window is cut for when it is paged anyway: nine pages at most."""
FULL: Final = MOST_PAGES * (PAGE_LIMIT - 1) + 1
"""Records that so many pages hold: each begins with its predecessor's last."""
EDGE: Final = 2.0
"""Windows share their edge seconds. Where one holds more records than this, one page is the dear way."""
SETTLE_SLACK: Final = 4
"""Room in a settle window for records that were listed after the head had passed."""
SLACK: Final = 2.0
"""Records that a stretch may hold beyond what is known of it."""
MIN_AHEAD: Final = CLOCKS_DIFFER
"""A head read reaches this far (milliseconds) past now, or ``overlap`` if that is more."""


class Window(NamedTuple):
    """Records with a ``create_time`` in [since, until), whole seconds (milliseconds since 1970).

    Listing it shows more: what is asked for is ``WINDOW_MARGIN`` wider, and includes the end second.
    """

    since: int
    until: int


class RecheckPlan(NamedTuple):
    """How the due jobs are looked at."""

    steps: tuple[Window | Recheck, ...]
    """Stretches to list and jobs to look up, what has waited longest first: the budget may not do for all."""

    @property
    def windows(self) -> tuple[Window, ...]:
        return tuple(step for step in self.steps if isinstance(step, Window))

    @property
    def lookups(self) -> tuple[Recheck, ...]:
        return tuple(step for step in self.steps if isinstance(step, Recheck))


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

    def found(self, window: Window, records: int) -> None:
        """``window`` was seen to hold so many records, unexpectedly."""
        self._per_ms = records / max(SECOND, window.until - window.since)

    def shrink(self, window: Window, records: int | None = None) -> None:
        """The read of ``window`` failed: halve. Or it holds too many ``records``: as many as fit."""
        too_many = records is not None and records > MAX_WINDOW_RECORDS
        share = MANY / records if too_many and records else 0.5
        self._cap = max(SECOND, floor_second(int((window.until - window.since) * share)))

    @property
    def per_ms(self) -> float:
        return self._per_ms or 0.0

    @property
    def most(self) -> int:
        """How long a window may be, whatever it holds."""
        return self._cap

    def span(self, records: int) -> int:
        """How long a window (milliseconds, whole seconds) with about ``records`` records may be."""
        fitting = self._cap if not self._per_ms else min(self._cap, records / self._per_ms)
        return max(SECOND, floor_second(int(fitting)))


def settle_window(
    ledger: Ledger, density: Density, since: int, head: int, now: int, most_records: int
) -> Window | None:
    """The next settle read, from where the last one ended, or ``None`` while it is not due yet.

    Up to ``head`` all records are known, so that windows are cut exactly; beyond it by density.
    """
    end = floor_second(now - ledger.rules.overlap)
    pending = end - since
    if is_lagging(ledger, since, now):
        return Window(since, min(end, since + density.span(min(MANY, most_records))))
    if pending < SECOND:
        return None
    if head < end:
        target = min(ONE_PAGE if density.per_ms * SECOND <= EDGE else MANY, most_records)
        until = since + density.span(target)
    else:
        until = _cut(ledger, since, min(end, since + density.most), most_records)
    if until >= end and pending < ledger.rules.overlap // 2:
        return None
    return Window(since, min(end, until))


def _cut(ledger: Ledger, since: int, end: int, most_records: int) -> int:
    """Where the window from ``since`` is full; its end second is part of it."""
    created = sorted(job.created for _, job in ledger.jobs.created_in(since - WINDOW_MARGIN, end + SECOND))
    dense = len(created) * SECOND > EDGE * (end - since)
    target = min((FULL if dense else PAGE_LIMIT) - SETTLE_SLACK, most_records)
    if len(created) <= target:
        return end
    return max(since + SECOND, floor_second(created[target]) - SECOND)


def is_lagging(ledger: Ledger, read_until: int, now: int) -> bool:
    """Has so much not been read yet that only settle reads make sense (R5)?"""
    return now - read_until > 2 * ledger.rules.overlap


def backlog_window(density: Density, head: int, now: int) -> Window | None:
    """A part of what head reads have not reached yet, when that is too much for one read."""
    span = density.span(MANY)
    return Window(head, head + span) if now - head > span else None


def head_window(
    ledger: Ledger, density: Density, head: int, now: int, due: Sequence[Recheck], furthest: int = 0
) -> Window:
    """The newest stretch, from where the last head read ended, and what is cheaply listed with it.

    One page is read to beyond now, and ``furthest`` where that is later: a record there tells whose clock is
    right (R3). More pages end a second before now: nothing may appear between them. Nothing before K is new.
    """
    since = head = max(ledger.times.evicted_until, min(head, floor_second(now)))
    late = max(head + SECOND, floor_second(now) - SECOND)
    if due:
        counts = RecordCounts(ledger, due[0].since - WINDOW_MARGIN, head, density.per_ms)
        gap = Recheck(head, max(late, floor_second(now)), "", listing_only=True)
        rechecks = plan_rechecks([*(recheck for recheck in due if recheck.since < head), gap], counts.before)
        since = min(head, max(rechecks.windows, key=lambda window: window.until).since)
        if counts(since - WINDOW_MARGIN, now) + SLACK > PAGE_LIMIT:
            return Window(since, late)
    return Window(since, floor_second(max(now, furthest, head)) + max(MIN_AHEAD, ledger.rules.overlap))


def filled(ledger: Ledger, density: Density, window: Window, head: int, now: int, most: int) -> Window:
    """The same window, reaching further back as far as its pages surely have room, but not before K.

    Costs nothing, shows late records, and puts off the next looks. ``most`` milliseconds back from now.
    """
    reach = max(ledger.times.evicted_until, floor_second(now) - most)
    if window.since <= reach:
        return window
    counts = RecordCounts(ledger, reach - WINDOW_MARGIN, head, density.per_ms)
    return Window(_fill(counts.before, window.since, now, reach, (now - head) * density.per_ms), window.until)


def widened(window: Window, before: Callable[[int], float], reach: int) -> Window:
    """The stretch of a look, reaching further back as far as its pages surely have room.

    Costs nothing, and puts off the looks at other open jobs.
    """
    return Window(_fill(before, window.since, window.until + SECOND, reach, 0.0), window.until)


def _fill(before: Callable[[int], float], since: int, until: int, reach: int, unknown: float) -> int:
    """How far back of ``since``, but not of ``reach``, the same number of pages reaches for sure."""
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
    """The next stretch before the baseline, read backwards (R4); ``None`` when all is read."""
    until = ledger.times.history
    if until <= start:
        return None
    return Window(max(start, until - density.span(min(MANY, most_records))), until)


def pages(records: float) -> int:
    """Requests that a window with so many records takes: each page begins with its predecessor's last."""
    return max(1, ceil((records - 1) / (PAGE_LIMIT - 1)))


def plan_rechecks(
    due: Sequence[Recheck],
    before: Callable[[int], float],
    slack: float = SLACK,
    *,
    alone: Sequence[Recheck] = (),
) -> RecheckPlan:
    """The cheapest mix of listed stretches and lookups for everything due; each of ``alone`` by itself.

    ``due`` is in order of creation; ``before(t)`` counts the records created before ``t``; a stretch is taken
    to hold ``slack`` more than that, because estimates err. Dynamic programming over the items in order:
    the cost of the first n is the least of lookups for the n-th, or of a stretch of p pages that ends with
    it, which then best begins as early as p pages allow. Exact for stretches of up to ``MOST_PAGES``; of
    equal costs the longer stretch is taken, which errs less.
    """
    items = _by_second(due)
    starts = [before(item.since - WINDOW_MARGIN) for item in items]
    best = [0.0]
    choice: list[int] = []
    """Per item: the first item of the stretch that ends with it, or -1 for lookups."""
    first = [0] * (MOST_PAGES + 1)
    """By pages: the earliest item at which so large a stretch may begin; it only moves on."""
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
        if cost == inf:  # more than the largest stretch holds, and no lookup will do
            cost, begin = best[end] + pages(through - starts[end]), end
        best.append(cost)
        choice.append(begin)
    steps = _chosen(items, choice)
    steps += [(job.seen, Window(job.since, job.until) if job.listing_only else job) for job in alone]
    steps.sort(key=lambda step: step[0])
    return RecheckPlan(tuple(step for _, step in steps))


class _Second(NamedTuple):
    """Everything due that was created in one second, or one stretch that must be listed."""

    since: int
    until: int
    rechecks: tuple[Recheck, ...]
    lookups: float
    """What looking each of them up would cost; ``inf`` when only a listing will do."""


def _by_second(due: Sequence[Recheck]) -> list[_Second]:
    items = []
    through = 0
    for (since, until), group in groupby(due, key=lambda recheck: (recheck.since, recheck.until)):
        rechecks = tuple(group)
        listing_only = any(recheck.listing_only for recheck in rechecks)
        # What lies within a longer stretch is listed with it for nothing.
        through = until = max(until, through)
        items.append(_Second(since, until, rechecks, inf if listing_only else len(rechecks)))
    return items


def _chosen(items: Sequence[_Second], choice: Sequence[int]) -> list[tuple[int, Window | Recheck]]:
    """The stretches and lookups, with the time since when each has waited."""
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
