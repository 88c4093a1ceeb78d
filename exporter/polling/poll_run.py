"""Reads windows of one target, books what they show, commits it, and counts what a poll spends on that.

Knows nothing of which windows are wanted: that is the poller's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from exporter import log
from exporter.errors import ApiError, ErrorKind, ExporterError
from exporter.ledger import Ledger, MissedBy, identify_anonymous
from exporter.polling.due import Recheck, due_rechecks
from exporter.polling.planner import MIN_AHEAD, Density, Window
from exporter.polling.windows import LookupIgnoredError, Reader, SeenPage, SourceClock, WindowResult
from exporter.store import LedgerRepository
from exporter.units import SECOND

logger = logging.getLogger(__name__)


OF_ONE_REQUEST: Final = (
    ErrorKind.CLIENT,
    ErrorKind.SERVER,
    ErrorKind.DECODE,
    ErrorKind.TOO_LARGE,
    ErrorKind.OTHER,
)
"""Errors that another request need not meet."""

JUMP: Final = 10 * SECOND
FASTEST: Final = 10
"""A ``Date`` had been stale where the API's time gains more than that of a clock so many times as fast as
ours, and ``JUMP`` (milliseconds) beyond."""


class ClockError(ExporterError):
    """The API's answers do not tell the time."""


class PollCost(NamedTuple):
    """What one poll cost so far, in list requests, and what it is allowed."""

    requests: int
    budget: int


class PollRun:
    """The means of a poll: reader, books, deadline, budget; and what happened in it so far."""

    def __init__(
        self,
        name: str,
        *,
        clock: SourceClock,
        reader: Reader,
        repository: LedgerRepository,
        monotonic: Callable[[], float],
        committed: Callable[[], None],
    ) -> None:
        self.name = name
        self.clock = clock
        self.reader = reader
        self.repository = repository
        self._monotonic = monotonic
        self._committed = committed
        self._last_times: tuple[int, float] | None = None
        """The API's time and ours (monotonic) at the last answer that was looked at."""
        self.deadline = 0.0
        self.budget = 0
        self._spent = 0
        """Requests made when this poll began."""
        self.reads = 0
        """Reads of this poll that succeeded."""
        self.problem: ExporterError | None = None
        """The first error of this poll that did not keep its other reads from going on; see ``note``."""
        self.missed = False
        """A remembered job was not listed, and is waited for: it is not asked yet if anything is listed."""
        self.unread: dict[str, WindowResult] = {}
        """Windows that a poll's budget ended, by what they were read for: they are gone on with first."""
        self.suspicious = False
        """Something did not add up: learn anew what ``count`` means."""
        self._lookups = True
        """Does the API look up by ``job_id``? Until it is caught ignoring it."""
        self._failures: dict[str, int] = {}
        """Looks in a row that an error ended, by job that is still due."""

    def begin(self, deadline: float, budget: int) -> None:
        """A poll begins."""
        self.deadline, self.budget, self._spent = deadline, budget, self.reader.requests
        self.reader.last_request = self._spent + budget
        self.reads, self.problem = 0, None

    def note(self, error: ExporterError) -> None:
        """A read failed and the others go on: the poll ends with its first error when they are done."""
        if self.problem is None:
            self.problem = error

    @property
    def ledger(self) -> Ledger:
        return self.repository.ledger

    @property
    def cost(self) -> PollCost:
        return PollCost(self.reader.requests - self._spent, self.budget)

    @property
    def budget_left(self) -> int:
        return self.budget - (self.reader.requests - self._spent)

    def now(self) -> int:
        """A time that is surely not after now, on the API's clock. Raises ClockError."""
        now = self.clock.now_ms()
        if now is None:
            raise ClockError("the API's clock is not known")
        return now

    @property
    def furthest(self) -> int:
        """The latest time that the API's answers tell; later than ``now`` where that is not believed (R3)."""
        return max(self.now(), self.clock.furthest_ms() or 0)

    @property
    def ahead(self) -> int:
        """The latest believable time of creation."""
        return self.furthest + max(MIN_AHEAD, self.repository.rules.overlap)

    async def book(self, result: WindowResult) -> None:
        """Book what a window showed and, when it was read to its end, what it should have shown (R6).

        Between two pages, scrapes have their turn: a window may have ten pages, a page takes a millisecond.
        """
        ledger = self.ledger
        self._notice_jump()
        self.doubt_times(result, ledger.times.evicted_until)
        while result.pages:
            self._see(result.pages.pop(0))
            await asyncio.sleep(0)
        if not result.complete:
            return
        shown = {record.job_id for record in result.listing if record.job_id is not None}
        for name, record in identify_anonymous(result.inside, ledger.jobs):
            shown.add(name)
            ledger.see_as(name, record, result.sighting)
        missed_by = MissedBy.LISTING if result.listing else MissedBy.EMPTY_LISTING
        for job_id in ledger.missing(result.window.since, result.window.until, shown):
            self._miss(job_id, result.begun, missed_by)
        for job_id in ledger.missing_jobs.take_exempt():
            log.warn(logger, "a job is no longer listed", target=self.name, job_id=job_id)

    def doubt_times(self, result: WindowResult, since: int) -> None:
        """A window that has both times that a record may mean is not complete: a smaller one tells which."""
        records = (record for record in result.listing if record.other_time is not None)
        filtered = result.complete and result.sighting.since is not None
        if filtered and any(self.ledger.undecided(record, since) for record in records):
            result.complete, result.reason = False, "two hours have the time that is shown (time_zone)"

    def due(self) -> list[Recheck]:
        """The jobs that are due to be looked at: by listing alone for an API that cannot look up."""
        now = self.now()
        due = due_rechecks(self.ledger, now)
        if not self._lookups:
            due = [recheck._replace(listing_only=True) for recheck in due]
        failures = self._failures
        self._failures = {
            recheck.job_id: failures[recheck.job_id] for recheck in due if recheck.job_id in failures
        }
        return [self._put_back(recheck, now) for recheck in due] if self._failures else due

    def _put_back(self, recheck: Recheck, now: int) -> Recheck:
        """Looks that fail come last and in turns: one that always fails must keep no other waiting.

        By listing and by id in turn: an API may answer an id that it does not know with an error.
        """
        times = self._failures.get(recheck.job_id, 0)
        if times <= 1:
            return recheck
        listing = recheck.listing_only or times % 2 == 0
        return recheck._replace(seen=now + times, uncertain=True, listing_only=listing)

    @property
    def failing(self) -> set[str]:
        """Jobs of which looks fail again and again: they are asked for alone."""
        return {job_id for job_id, times in self._failures.items() if times > 1}

    def rechecks_failed(self, job_ids: Iterable[str]) -> None:
        """Errors ended the looks at these jobs."""
        for job_id in job_ids:
            self._failures[job_id] = self._failures.get(job_id, 0) + 1

    async def look_up(self, job_id: str) -> None:
        """Ask for one job and book what is found, or that it is not."""
        try:
            seen = await self.reader.lookup(job_id, self.deadline)
        except LookupIgnoredError:
            self._lookups = False
            log.warn(logger, "the API ignores job_id: open jobs are listed instead", target=self.name)
            raise
        self._see(seen)
        if not seen.records:
            self._notice_jump()
            self._miss(job_id, seen.sighting.begun, MissedBy.LOOKUP)
        self.reads += 1

    def _notice_jump(self) -> None:
        """Where the API's time was stale until now, what was measured with it was shorter by as much (R6)."""
        now, monotonic = self.now(), self._monotonic()
        if self._last_times is not None:
            gained, passed = now - self._last_times[0], int((monotonic - self._last_times[1]) * SECOND)
            if gained > JUMP + FASTEST * passed:
                self.ledger.missing_jobs.clock_jumped(gained - passed)
        self._last_times = now, monotonic

    def _miss(self, job_id: str, begun: int, missed_by: MissedBy) -> None:
        self.missed |= not self.ledger.miss(job_id, begun, missed_by, self.now())

    async def ask_for_any(self) -> None:
        """Is there any job at all in the list? Tells jobs that are not listed from a list that is silent."""
        self._see(await self.reader.any_job(self.ahead, self.deadline))
        self.missed = False
        await self.commit()

    def _see(self, seen: SeenPage) -> None:
        for record in seen.records:
            self.ledger.see(record, seen.sighting)

    async def commit_read(self, result: WindowResult) -> None:
        """Commit what a read brought, also one that an error, or the budget, ended. Raises that then."""
        self.reads += result.complete
        await self.commit()
        if result.error is not None:
            raise result.error

    async def commit(self) -> None:
        await self.repository.commit(self.now())
        self._committed()

    def halve(self, density: Density, window: Window, result: WindowResult) -> bool:
        """After an incomplete read: try a smaller window. Returns whether there is one (R6, R8)."""
        density.shrink(window, result.count)
        if window.until - window.since > SECOND:
            return True
        self.doubt(result)
        return False

    def doubt(self, result: WindowResult) -> None:
        """A read that could not be made complete in this poll; the other reads go on."""
        self.suspicious = True
        since = result.window.since // SECOND
        problem = f"jobs created at {since} (Unix time) could not be listed completely: {result.reason}"
        self.note(ApiError(ErrorKind.OTHER, problem, operation="list_jobs"))
