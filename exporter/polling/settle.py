"""Settle reads: every record once more, in order of creation (R5, R6 and R8, docs/counting.md).

While far behind, several windows are read at a time. They are recorded and committed one by one and in order
all the same: if one fails, those after it wait until smaller windows have closed the gap. Where reading ends
before that, their answers are awaited and recorded, too, although these windows will be read again: by then a
record may be deleted. Two windows share the second at their edge. A job of that second which ends between
both reads may be counted as ``state_regression``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

from exporter import log
from exporter.errors import ExporterError
from exporter.polling import planner
from exporter.polling.paging import PAGE_LIMIT
from exporter.polling.poll_run import PollRun
from exporter.polling.windows import BudgetSpentError, WindowResult

logger = logging.getLogger(__name__)

EMPTY_AGAIN: Final = 2
"""How often an empty stretch of a backlog is read again before it is believed."""
UNDER_WAY: Final = 3
"""Windows of a backlog that are read at a time: while one is recorded, the API answers for the others."""
WHOLE: Final = 10
"""Requests that nearly every window takes at most: with fewer left, no second one is begun."""


class _Reading(NamedTuple):
    """One window that is being read."""

    window: planner.Window
    now: int
    """The API's time before its first request."""
    pages: int
    """Requests it will take, estimated."""
    task: asyncio.Task[WindowResult]


class Backlog(NamedTuple):
    """Where a catch-up began. Times of the API in milliseconds; ``started`` monotonic, in seconds."""

    started: float
    read_until: int
    now: int

    def seconds_left(self, monotonic: float, read_until: int, now: int) -> int | None:
        """An estimate from the pace so far; ``None`` while there is no progress."""
        passed = monotonic - self.started
        gained = (self.now - self.read_until) - (now - read_until)
        if gained <= 0:
            return None
        return round(max(passed, 1.0) * (now - read_until) / gained)


class SettleReads:
    """Each poll reads on from where the last one ended."""

    def __init__(self, run: PollRun, overlap: int) -> None:
        self._run = run
        self._density = planner.Density(overlap)
        self.read_until = 0
        """Up to where everything was read: "settled until", or later while missing jobs keep that from
        moving."""
        self.gap_until = 0
        """Where the news was read from while far behind: up to there a backlog is read."""
        self._loads = 0
        """How often the ledger had been loaded when reading began from "settled until"."""
        self.reread_at = 0
        """When the stretch before "settled until" was last read again because of a late record."""
        self._unread: tuple[_Reading, WindowResult] | None = None
        """The window whose reading the last poll's budget ended, and what was read of it."""

    def begin(self) -> bool:
        """Before the first read of a poll: begin again at "settled until" if the ledger was loaded since the
        last.

        It is loaded again when a commit failed: what that would have stored must be read once more (R10,
        docs/counting.md). Returns whether reading begins again.
        """
        repository, watermarks = self._run.repository, self._run.ledger.watermarks
        if self._loads != repository.loads or self.read_until < watermarks.evicted_until:
            self._loads, self.read_until, self.reread_at = repository.loads, watermarks.settled_until, 0
            self._unread = None
            return True
        return False

    @property
    def lagging(self) -> bool:
        """Is so much unread that only settle reads make sense (R5, docs/counting.md)?"""
        return self._lagging_at(self.read_until)

    def _lagging_at(self, read_until: int) -> bool:
        far_behind = planner.is_lagging(self._run.ledger, read_until, self._run.now())
        return far_behind or read_until < self.gap_until

    async def read(self, limit: int, head: int) -> None:
        """Read what is due, planned for ``limit`` requests. Up to ``head`` all records are known.

        Raises what ended a read, after recording what was read before it; BudgetSpentError, too, where
        something is due and the poll has no request left.
        """
        under_way: list[_Reading] = []
        try:
            try:
                await self._read_in_order(under_way, limit + self._run.cost.requests, head)
            except ExporterError:
                if self._run.repository.loaded:
                    await self._record_shown(under_way)
                raise
            await self._record_shown(under_way)
        finally:
            await self._drop(under_way)

    async def _read_in_order(self, under_way: list[_Reading], limit: int, head: int) -> None:
        """Read and record windows in order. Leaves those in ``under_way`` whose turn has not come."""
        while True:
            self._read_on(under_way, limit, head)
            if not under_way or under_way[0].window.since > self.read_until:
                return
            reading = under_way.pop(0)
            result = await reading.task
            await self._record(reading, result)
            if not result.complete and not self._run.halve(self._density, reading.window, result):
                return
            if self.read_until < reading.window.since:
                await self._record_shown(under_way)

    def _read_on(self, under_way: list[_Reading], limit: int, head: int) -> None:
        """Begin to read the next windows: a few at a time of a backlog, otherwise one after the other."""
        while len(under_way) < UNDER_WAY:
            place, since, end = self._gap(under_way)
            left = limit - self._run.cost.requests
            left -= sum(reading.pages for reading in under_way if not reading.task.done())
            if under_way and (left < WHOLE or not self._lagging_at(since)):
                return
            if left <= 0 < self._run.budget_left:
                return
            if not under_way and self._go_on(under_way):
                continue
            now, head = self._run.now(), max(head, since)
            window = planner.settle_window(
                self._run.ledger,
                self._density,
                since,
                head,
                now,
                max(1, left) * PAGE_LIMIT,
                lagging=self._lagging_at(since),
            )
            if window is None:
                return
            window = planner.Window(since, min(window.until, end))
            pages = planner.pages((window.until - window.since) * self._density.per_ms)
            reading = _Reading(window, now, pages, asyncio.create_task(self._read(window)))
            under_way.insert(place, reading)

    def _go_on(self, under_way: list[_Reading]) -> bool:
        """Go on with what the last poll's budget ended, if it is the next. Returns whether it is."""
        unread, self._unread = self._unread, None
        if unread is None or unread[0].window.since != self.read_until:
            return False
        reading, result = unread
        task = asyncio.create_task(self._read(reading.window, result))
        under_way.append(reading._replace(task=task))
        return True

    def _gap(self, under_way: list[_Reading]) -> tuple[int, int, int]:
        """The first stretch that is not being read: its place in ``under_way``, its begin and its end."""
        since = self.read_until
        for place, reading in enumerate(under_way):
            if reading.window.since > since:
                return place, since, reading.window.since
            since = reading.window.until
        return len(under_way), since, self._run.now()

    async def _read(self, window: planner.Window, unread: WindowResult | None = None) -> WindowResult:
        """Read a window; in a backlog an empty one again, as no other read would show that it is wrong."""
        reader, deadline = self._run.reader, self._run.deadline
        result = await (reader.go_on(unread, deadline) if unread else reader.read(window, deadline))
        while result.complete and not result.listing and result.repeats < EMPTY_AGAIN:
            if not self._lagging_at(window.since):
                break
            result = await reader.read(window, deadline, repeats=result.repeats + 1)
        return result

    async def _record(self, reading: _Reading, result: WindowResult) -> None:
        await self._run.record(result)
        if result.complete:
            self.read_until = reading.window.until
            self._density.learn(reading.window, len(result.inside))
            self.advance(reading.now)
        elif isinstance(result.error, BudgetSpentError):
            self._unread = reading, result
        elif result.error is not None:
            self._density.shrink(reading.window)  # it may be its size that fails
        await self._run.commit_read(result)

    def advance(self, now: int) -> None:
        """Move "settled until" as far as the reads and the missing jobs allow (R6, docs/counting.md)."""
        ledger = self._run.ledger
        if ledger.missing_jobs.take_shown_after_all():
            self.read_until = min(self.read_until, ledger.watermarks.settled_until)
        if now - self.reread_at >= ledger.settings.overlap and ledger.take_late():
            # When the stretch before "settled until" was read, it lacked this record, and perhaps others.
            self.reread_at, self.read_until = now, ledger.watermarks.evicted_until
        ledger.settle(self.read_until, now)

    async def _record_shown(self, under_way: list[_Reading]) -> None:
        """Record what windows show that will be read again: later, a record may be deleted."""
        while under_way:
            result = await under_way.pop(0).task
            result.complete = False
            await self._run.record(result)
            await self._run.commit()

    async def _drop(self, under_way: list[_Reading]) -> None:
        """Cancel what is still being read: the poll was cancelled, or there is no ledger to record it in."""
        for reading in under_way:
            reading.task.cancel()
        for ended in await asyncio.gather(*(reading.task for reading in under_way), return_exceptions=True):
            if isinstance(ended, Exception):
                log.error(
                    logger,
                    "a read failed by a defect of this program",
                    target=self._run.name,
                    error=ended,
                )
        under_way.clear()
