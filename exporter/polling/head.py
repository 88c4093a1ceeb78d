"""Head reads: news of the newest stretch, in every poll (R5, docs/counting.md).

A read is *wide* at first: it reaches further back than the news, to what is due for a recheck and to what the
same pages show anyway. Where that does not work out, a *narrow* one reads nothing but the news: what was
created since the last head read. News that is too much for one window is read piece by piece.

    state   the read                                        learned                     next
    ------  ----------------------------------------------  --------------------------  ---------------------
    any     complete                                        density; the news is read   next piece, or done
    wide    an error of one request, and further back       the poll's problem          narrow
    any     another error                                   -                           raised
    any     the poll's budget ended a piece                 -                           raised; gone on with
    any     the poll's budget ended it                      to read less at a time      raised
    wide    more records than it may hold, says ``count``   the density of the burst    wide; narrow where
                                                                                        nothing would change
    any     not complete, and further back                  to reach back less          narrow
    any     too large, though two seconds at most           -                           done until next poll
    any     not complete, though two seconds at most        it, as unlistable           done until next poll
    any     not complete                                    to read less at a time      the same state

The first line that fits is taken. *Further back*: the window begins before the news. *Unlistable* is a
window of two seconds that cannot be listed completely (R6, docs/counting.md).

Far behind, the news begins ``overlap`` ago: settle reads close the gap, and what happens now is shown all the
same.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from exporter.errors import ApiError, ExporterError
from exporter.ledger import floor_second
from exporter.polling import planner
from exporter.polling.due import RecordCounts
from exporter.polling.paging import MAX_WINDOW_RECORDS, PAGE_LIMIT, ReadState
from exporter.polling.poll_run import OF_ONE_REQUEST, PollRun
from exporter.polling.windows import BudgetSpentError, WindowResult
from exporter.units import SECOND

HEAD: Final = "head"


class Reach(Enum):
    """How far back the next window reaches."""

    WIDE = auto()
    """To what is due, and to what its pages show anyway."""
    NARROW = auto()
    """Not beyond the news."""
    DONE = auto()
    """There is none: the poll has its news."""


class HeadReads:
    """Each poll reads on from where the last one ended."""

    def __init__(self, run: PollRun, overlap: int) -> None:
        self._run = run
        self.read_until = 0
        """Up to where the news was read."""
        self.gap_until = 0
        """Where the news begins while far behind: before it there are records that were not read; 0 without a
        gap."""
        self._density = planner.Density(overlap)
        """Of the news."""
        self._wide_density = planner.Density(overlap)
        """Of wide windows: how far they may reach."""

    async def read(self, since: int, *, gap: bool = False) -> None:
        """Read the news, which begins at ``since`` at the earliest. Raises what ended a read.

        ``gap``: the records before that may be unread.
        """
        if not gap:
            self.gap_until = 0
        elif self.read_until < since:
            self.gap_until = since
        self.read_until = max(self.read_until, since)
        reach = Reach.WIDE
        while reach is not Reach.DONE:
            reach = await self._read_window(reach)

    async def _read_window(self, reach: Reach) -> Reach:
        run, now = self._run, self._run.now()
        piece = planner.backlog_window(self._density, self.read_until, now)
        unread = run.unread.pop(HEAD, None)
        if unread is not None and unread.window.since != self.read_until:
            unread = None
        piece = piece if unread is None else unread.window
        window = piece or self._newest(now, reach)
        news = planner.Window(self.read_until, min(window.until, floor_second(now) + SECOND))
        most = PAGE_LIMIT if window.until > news.until else MAX_WINDOW_RECORDS
        if unread is None:
            result = await run.reader.read(window, run.deadline, most=most)
        else:
            result = await run.reader.go_on(unread, run.deadline)
        await run.record(result)
        error, further_back = result.error, window.since < news.since
        if error is not None and reach is Reach.WIDE and further_back and _is_of_one_request(error):
            run.note(error)
            await run.commit()
            return Reach.NARROW
        if isinstance(error, BudgetSpentError) and piece is not None:
            run.unread[HEAD] = result
        elif isinstance(error, BudgetSpentError) and result.requests:
            self._density.shrink(news)  # the next poll reads a part of it
        await run.commit_read(result)
        if result.complete:
            self._learn(result, news, now)
            if piece is not None:
                return reach
            self._wide_density.learn(planner.Window(window.since, news.until), 0)
            return Reach.DONE
        if reach is Reach.WIDE and result.count is not None and result.count > most:
            return Reach.WIDE if self._learn_burst(window, news, result.count) else Reach.NARROW
        if further_back:
            self._wide_density.shrink(planner.Window(window.since, news.until))
            return Reach.NARROW
        if news.until - news.since <= 2 * SECOND:
            if result.reason != ReadState.TOO_LARGE.value:
                run.note_unlistable(result)
            return Reach.DONE
        self._density.shrink(news)
        return reach

    def _newest(self, now: int, reach: Reach) -> planner.Window:
        ledger, density, head = self._run.ledger, self._density, self.read_until
        if reach is Reach.NARROW:
            return planner.head_window(ledger, density, head, now, [], self._run.furthest)
        due = [job for job in self._run.due() if not job.may_hold_many and job.since >= self.gap_until]
        window = planner.head_window(ledger, density, head, now, due, self._run.furthest)
        most = min(self._wide_density.most, now - self.gap_until)
        return planner.filled(ledger, density, window, head, now, most)

    def _learn(self, result: WindowResult, news: planner.Window, now: int) -> None:
        self.read_until = max(news.since, min(news.until, floor_second(now)))
        fresh = sum(1 for record in result.listing if (record.create_time or now) > news.since)
        self._density.learn(news, fresh)

    def _learn_burst(self, window: planner.Window, news: planner.Window, count: int) -> bool:
        """Learn that ``window`` holds ``count`` records. Returns whether the next window will differ."""
        known = RecordCounts(self._run.ledger, window.since, news.since, 0.0)(window.since, news.since)
        before = self._density.per_ms
        self._density.found(news, int(count - known))
        return self._density.per_ms > 1.1 * before


def _is_of_one_request(error: ExporterError) -> bool:
    """Is a read of the news alone likely to succeed all the same?"""
    return isinstance(error, ApiError) and error.kind in OF_ONE_REQUEST
