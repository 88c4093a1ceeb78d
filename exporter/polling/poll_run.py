"""What all reads of a poll share: they record what a window showed, commit it, note errors and count
requests.

Must not know which windows are to be read: that is decided by the poller and its kinds of reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from exporter import log
from exporter.errors import ApiError, ErrorKind, ExporterError
from exporter.ledger import Ledger, MissedBy, has_jumped, identify_anonymous
from exporter.polling.due import Recheck, due_rechecks
from exporter.polling.planner import MIN_AHEAD, Density, Window
from exporter.polling.source import SourceClock
from exporter.polling.windows import BudgetSpentError, LookupIgnoredError, Reader, SeenPage, WindowResult
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
"""Errors of one request: others may succeed all the same."""


class ClockError(ExporterError):
    """The API's answers carry no usable ``Date``."""


class PollCost(NamedTuple):
    """What one poll cost so far, in list requests, and what it is allowed."""

    requests: int
    budget: int


class PollRun:
    """What a poll works with (reader, repository, deadline, budget), and what happened in it so far.

    One object for all polls of a target, one after the other: ``begin`` begins the next.
    """

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
        """The API's time and ours (monotonic) when they were last compared."""
        self.deadline = 0.0
        self.budget = 0
        self._spent = 0
        """Requests made when this poll began."""
        self.reads = 0
        """Reads of this poll that succeeded."""
        self.problem: ExporterError | None = None
        """The first error of this poll that did not keep its other reads from going on; see ``note``."""
        self.missed = False
        """A remembered job was missing from a listing, and we have not asked yet whether any job is
        listed."""
        self.unread: dict[str, WindowResult] = {}
        """Windows whose reading a poll's budget ended, by the kind of read: the next poll goes on with
        them."""
        self.suspicious = False
        """A window could not be listed completely: the next poll probes again what ``count`` means."""
        self._lookups = True
        """Does the API filter by ``job_id``? False once it answered with another job."""
        self._failures: dict[str, int] = {}
        """How many rechecks in a row failed, by job that is still due."""

    def begin(self, deadline: float, budget: int) -> None:
        """Begin the next poll."""
        self.deadline, self.budget, self._spent = deadline, budget, self.reader.requests
        self.reader.last_request = self._spent + budget
        self.reads, self.problem = 0, None

    def note(self, error: ExporterError) -> None:
        """Note that a read failed while the others go on: in the end the poll raises the first error."""
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

    @contextmanager
    def limited(self, requests: int) -> Iterator[None]:
        """A part that makes so many requests at most: what it does not get to is gone on with in the next
        poll.
        """
        reader, last = self.reader, self.reader.last_request
        if last is not None:
            reader.last_request = min(last, reader.requests + requests)
        try:
            yield
        except BudgetSpentError:
            if last is None or reader.requests >= last:
                raise
        finally:
            reader.last_request = last

    def now(self) -> int:
        """A time that is surely not after now, on the API's clock. Raises ClockError."""
        now = self.clock.now_ms()
        if now is None:
            raise ClockError("the API's clock is not known")
        return now

    @property
    def furthest(self) -> int:
        """The latest time in the API's answers, believed or not (R3, docs/counting.md)."""
        return max(self.now(), self.clock.furthest_ms() or 0)

    @property
    def ahead(self) -> int:
        """The latest time at which a record may be said to be created."""
        return self.furthest + max(MIN_AHEAD, self.repository.settings.overlap)

    async def record(self, result: WindowResult) -> None:
        """Hand to the ledger what a window showed and, if it was read completely, which jobs it did not show.

        (R6, docs/counting.md.) After each page other tasks run, so that no scrape waits for a whole window:
        it may have ten pages, and a page takes a millisecond.
        """
        ledger = self.ledger
        self._notice_jump()
        self.check_two_times(result, ledger.watermarks.evicted_until)
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

    def check_two_times(self, result: WindowResult, since: int) -> None:
        """Mark a window as not complete if it holds both times that the text of a record may mean.

        A smaller window will show which of them is meant (docs/counting.md, "When the API behaves
        differently").
        """
        records = (record for record in result.listing if record.other_time is not None)
        filtered = result.complete and result.sighting.since is not None
        if filtered and any(self.ledger.undecided(record, since) for record in records):
            result.complete, result.reason = False, "two hours have the time that is shown (time_zone)"

    def due(self) -> list[Recheck]:
        """The jobs that are due for a recheck: by listing alone for an API that cannot look up."""
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
        """A recheck that keeps failing comes after all others, so that none has to wait for it.

        Listing and lookup take turns: an API may answer a lookup of an id that it does not know with an
        error.
        """
        times = self._failures.get(recheck.job_id, 0)
        if times <= 1:
            return recheck
        listing = recheck.listing_only or times % 2 == 0
        return recheck._replace(seen=now + times, may_hold_many=True, listing_only=listing)

    @property
    def failing(self) -> set[str]:
        """Jobs whose rechecks keep failing: each of them is rechecked by itself."""
        return {job_id for job_id, times in self._failures.items() if times > 1}

    def rechecks_failed(self, job_ids: Iterable[str]) -> None:
        """Note that the rechecks of these jobs failed."""
        for job_id in job_ids:
            self._failures[job_id] = self._failures.get(job_id, 0) + 1

    async def look_up(self, job_id: str) -> None:
        """Ask for one job by its id, and record what was found, or that it is missing."""
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
        """Tell the ledger when the API's time was stale until now (R6, docs/counting.md).

        Jobs are then missing for a shorter time than the difference of the two times.
        """
        now, monotonic = self.now(), self._monotonic()
        if self._last_times is not None:
            gained, passed = now - self._last_times[0], int((monotonic - self._last_times[1]) * SECOND)
            if has_jumped(gained, passed):  # its Date had been stale
                self.ledger.missing_jobs.clock_jumped(gained - passed)
        self._last_times = now, monotonic

    def _miss(self, job_id: str, begun: int, missed_by: MissedBy) -> None:
        self.missed |= not self.ledger.miss(job_id, begun, missed_by, self.now())

    async def ask_for_any(self) -> None:
        """Ask whether the list shows any job at all: a missing job means little while it shows none."""
        self._see(await self.reader.any_job(self.ahead, self.deadline))
        self.missed = False
        await self.commit()

    def _see(self, seen: SeenPage) -> None:
        for record in seen.records:
            self.ledger.see(record, seen.sighting)

    async def commit_read(self, result: WindowResult) -> None:
        """Commit what a read showed; then raise the error that ended it, if one did."""
        self.reads += result.complete
        await self.commit()
        if result.error is not None:
            raise result.error

    async def commit(self) -> None:
        await self.repository.commit(self.now())
        self._committed()

    def halve(self, density: Density, window: Window, result: WindowResult) -> bool:
        """After an incomplete read, make windows smaller. Returns whether that is possible."""
        density.shrink(window, result.count)
        if window.until - window.since > SECOND:
            return True
        self.note_unlistable(result)
        return False

    def note_unlistable(self, result: WindowResult) -> None:
        """Note that a window could not be listed completely in this poll; the other reads go on."""
        self.suspicious = True
        since = result.window.since // SECOND
        problem = f"jobs created at {since} (Unix time) could not be listed completely: {result.reason}"
        self.note(ApiError(ErrorKind.OTHER, problem, operation="list_jobs"))
