"""The fewest requests that the rules force on a planner in each poll: an optimum that knows every record.

Independent of the exporter's own planner: it knows the true jobs, exact counts, and pays for a fraction of a
page only a fraction of a request. Counted are, a poll: one head request; every record once as new and once
as settled (at least once per ``overlap``), 100 a request; every recheck that is due of an open job (R9) by
the cheaper of a listed stretch and a lookup. A stretch that is listed shows all its jobs, which puts off
their next rechecks; a page that is paid for is filled. The least over all polls may be less still: rechecking
early at what is not due is never bought, only taken along.

Rule R9 stands in docs/counting.md.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from exporter.simulator.job import SimulatedJob
from exporter.simulator.world import World

SECOND = 1000
PAGE = 100


class Bound:
    """Lives beside the poller, poll by poll, and adds up what was forced."""

    def __init__(self, world: World, *, interval: int, overlap: int, max_age: int) -> None:
        self._world = world
        self._interval = interval
        self._overlap = overlap
        self._max_age = max_age
        self._open: dict[int, tuple[SimulatedJob, int]] = {}
        """Number -> job, and when it was checked last."""
        self._read_until = int(world.start * SECOND)
        self._settled = self._read_until
        self._settled_at = self._read_until

    @property
    def open_jobs(self) -> int:
        return len(self._open)

    def poll(self, now: int) -> float:
        """The requests that a poll at ``now`` (milliseconds) cannot do without."""
        lagging = now - self._read_until > 2 * self._overlap
        settle = self._settle(now)
        new = self._records(self._read_until + 1, now)
        due = sorted(
            {job.created_ms for job, checked in self._open.values() if self._is_due(job, checked, now)}
        )
        stretches = [] if lagging else [(self._read_until + 1, now)]
        cost, listed = cheapest([*((at, at) for at in due), *stretches], self._records, bool(stretches))
        self._take(self._records_of(self._read_until + 1, now), now)
        if lagging:  # every record of the backlog is read once: that settles it, and is news
            cost = max(1.0, cost + new / PAGE)
            self._settled = max(self._settled, now - self._overlap)
        self._read_until = now
        for since, until in listed:
            self._check(since, until, now)
        return max(1.0, cost) + settle

    def _is_due(self, job: SimulatedJob, checked: int, now: int) -> bool:
        spacing = max(self._interval, (now - job.created_ms) // 20)
        return now - max(checked, job.created_ms) >= spacing - self._interval // 2

    def _settle(self, now: int) -> float:
        """What is old enough is read a second time, a page at a time, or once per ``overlap``."""
        until = min(now - self._overlap, self._read_until)
        if until <= self._settled:
            return 0.0
        records = self._records(self._settled + 1, until)
        if records < PAGE and now - self._settled_at < self._overlap:
            return 0.0
        self._check(self._settled + 1, until, now)
        self._settled, self._settled_at = until, now
        return max(1.0, records / PAGE)

    def _records(self, since: int, until: int) -> int:
        listing = self._world.listing
        low = bisect_left(listing, since, key=_created)
        return max(0, bisect_right(listing, until, key=_created) - low)

    def _records_of(self, since: int, until: int) -> Sequence[SimulatedJob]:
        listing = self._world.listing
        low = bisect_left(listing, since, key=_created)
        return listing[low : bisect_right(listing, until, key=_created)]

    def _take(self, jobs: Sequence[SimulatedJob], now: int) -> None:
        for job in jobs:
            if job.finished * SECOND > now:
                self._open[job.number] = (job, now)

    def _check(self, since: int, until: int, now: int) -> None:
        """A page that is paid for is filled, with what was created before: that puts off more rechecks."""
        listing = self._world.listing
        end = bisect_right(listing, until, key=_created)
        if end:
            since = min(since, listing[max(0, end - PAGE)].created_ms)
        for number, (job, _) in list(self._open.items()):
            if since <= job.created_ms <= until:
                if job.finished * SECOND <= now or now >= job.created_ms + self._max_age:
                    del self._open[number]
                else:
                    self._open[number] = (job, now)


class _Best(NamedTuple):
    cost: float
    first: int
    """The first item of the stretch that ends here."""


def cheapest(
    items: Sequence[tuple[int, int]], records: Callable[[int, int], int], last_is_listed: bool
) -> tuple[float, list[tuple[int, int]]]:
    """The least cost of checking every item (a stretch of time), in order, and the stretches chosen.

    A lookup costs 1, a listed stretch ``max(1, records / 100)``. A lookup shows what its item covers, too.
    Exact: of all stretches that end with an item and hold up to 100 records the longest is best, and of the
    others the one with the least (cost before it - records before it).
    """
    if not items:
        return 0.0, []
    origin = items[0][0]
    before = [records(origin, since - 1) if since > origin else 0 for since, _ in items]
    through = [records(origin, until) for _, until in items]
    best, choice = [0.0], []
    short, cheapest_start = 0, -1
    for end in range(len(items)):
        while through[end] - before[short] > PAGE and short < end:
            if cheapest_start < 0 or _start_cost(best, before, short) < _start_cost(
                best, before, cheapest_start
            ):
                cheapest_start = short
            short += 1
        size = through[end] - before[short]
        options = [_Best(best[short] + max(1.0, size / PAGE), short)]
        if cheapest_start >= 0:
            options.append(
                _Best(_start_cost(best, before, cheapest_start) + through[end] / PAGE, cheapest_start)
            )
        if end < len(items) - 1 or not last_is_listed:
            options.append(_Best(best[end] + 1.0, end))
        chosen = min(options)
        best.append(chosen.cost)
        choice.append(chosen.first)
    stretches, end = [], len(items) - 1
    while end >= 0:
        stretches.append((items[choice[end]][0], items[end][1]))
        end = choice[end] - 1
    return best[-1], stretches


def _start_cost(best: Sequence[float], before: Sequence[int], start: int) -> float:
    return best[start] - before[start] / PAGE


def _created(job: SimulatedJob) -> int:
    return job.created_ms
