"""One target's cycle: read what is due, record it in the ledger, commit, publish.

Start at ``Poller.poll``. Decides which kinds of reads a poll makes, and in which order (R4, R5, R8 and R9,
docs/counting.md). How a window is read is decided in ``windows.py``, what its records mean in the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, Literal
from weakref import WeakMethod

import msgspec
from msgspec.structs import replace

from exporter import log
from exporter.errors import ApiError, ExporterError, StoreError, StoreUnavailableError, StoreVersionError
from exporter.ledger import LastPoll, TargetView, Uptime, floor_second, history_start
from exporter.polling import planner
from exporter.polling.budget import Budget
from exporter.polling.clock_check import ClockCheck
from exporter.polling.head import HeadReads
from exporter.polling.history import read_history
from exporter.polling.poll_run import PollRun
from exporter.polling.recheck import recheck
from exporter.polling.settle import Backlog, SettleReads
from exporter.polling.source import JobSource
from exporter.polling.start import PollStart
from exporter.polling.windows import BudgetSpentError, Reader
from exporter.process import exhausted
from exporter.store import LedgerRepository
from exporter.units import SECOND

logger = logging.getLogger(__name__)

EVERYTHING: Final = "everything"
NEVER: Final = float("-inf")
PUBLISH_EVERY: Final = 1.0
"""Seconds between two publications within one poll."""
QUICK: Final = 0.25
"""Seconds: a poll that takes no longer publishes at its end only. While far behind it publishes at once,
since it will take longer.
"""

NEWS_FAR_BEHIND: Final = 3600.0
"""Seconds at most for which news is read while far behind: its jobs stay in memory until the reads that
settle reach them, and those may be stuck."""

Outcome = Literal["complete", "partial", "failed"]


class PollSettings(msgspec.Struct, frozen=True):
    """Seconds; ``budget`` is requests a poll, of all targets with the same credentials together."""

    interval: float
    timeout: float
    budget: int
    time_filters: bool


class Poller:
    """Polls one target until it is cancelled."""

    def __init__(
        self,
        name: str,
        settings: PollSettings,
        *,
        source: JobSource,
        reader: Reader,
        repository: LedgerRepository,
        budget: Budget,
        publish: Callable[[TargetView], None],
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        uptime: Callable[[], Uptime],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._name = name
        self._settings = settings
        self._source, self._reader, self._repository = source, reader, repository
        self._budget = budget
        self._budget.join(name, settings.budget)
        self._publish_view = publish
        self._monotonic, self._wall, self._sleep = monotonic, wall, sleep
        self._history_density = planner.Density(repository.settings.overlap)
        self._backlog: Backlog | None = None
        self._first_kind = 0
        """The kind of reads that comes first in the next poll, because the last one had no request left for
        it."""
        self._loads = 0
        """How often the ledger had been loaded when the reading of the whole list began."""
        self._whole_list = 0
        """Requests that the whole list took, for an API without time filters."""
        self._held_until = NEVER
        """Until then no commit is published by itself; the first of all is, as soon as counting begins."""
        self._store_problem = ""
        """What was wrong with the store at the end of the last poll."""
        self._run = PollRun(
            name,
            clock=source.clock,
            reader=reader,
            repository=repository,
            monotonic=monotonic,
            committed=_weak(self._publish_sometimes),
        )
        self._clock_check = ClockCheck(self._run, wall, uptime, time_filters=settings.time_filters)
        self._start = PollStart(self._run, source, self._clock_check, time_filters=settings.time_filters)
        self._head_reads = HeadReads(self._run, repository.settings.overlap)
        self.settle_reads = SettleReads(self._run, repository.settings.overlap)

    # --- the cycle ------------------------------------------------------------------------------------

    async def run(self, first_poll: float | None = None) -> None:
        """One poll every interval; one that is due while another runs is skipped.

        The first one comes at ``first_poll`` on the monotonic clock, or at once.
        """
        self._budget.join(self._name, self._settings.budget)
        now, interval = self._monotonic(), self._settings.interval
        next_poll = now if first_poll is None else first_poll
        if next_poll > now:
            await self._note_first_start()
        while True:
            await self._sleep(max(0.0, next_poll - self._monotonic()))
            await self.poll()
            next_poll += interval * max(1, -(-(self._monotonic() - next_poll) // interval))

    async def _note_first_start(self) -> None:
        """Counting begins now, though the first poll comes later (R4, docs/counting.md)."""
        if self._repository.loaded:
            with suppress(ExporterError, RuntimeError, MemoryError):  # the first poll meets it, too
                await self._clock_check.ledger_loaded()

    async def poll(self) -> Outcome:
        """Read what is due, record and publish it. Never raises but for cancellation and its like."""
        started, answers = self._monotonic(), self._reader.answers
        self._run.begin(started + self._settings.timeout, self._budget.grant(self._name))
        if self._held_until > NEVER and self._backlog is None:
            self._held_until = started + QUICK
        outcome: Outcome = "complete"
        problem = ""
        try:
            await self._cycle()
        except StoreError as error:
            problem, outcome = str(error), "failed"
            self._store_failed(problem, error)
        except ExporterError as error:
            problem = str(error)
            ended = isinstance(error, BudgetSpentError) and self._reader.answers > answers
            outcome = "partial" if self._run.reads or ended else "failed"
            log.warn(logger, f"poll {outcome}", target=self._name, error=error)
        except Exception as error:  # noqa: BLE001 - a defect ends neither the program nor the other targets
            # The ledger in memory may be wrong now: it is loaded again from the store.
            outcome = "failed"
            self._repository.drop()
            if missing := exhausted(error):
                problem = missing
                log.error(logger, "poll failed", target=self._name, error=missing)
            else:
                kind = type(error).__name__
                problem = f"defect of this program: {kind}"
                log.error(
                    logger,
                    "poll failed by a defect of this program",
                    target=self._name,
                    kind=kind,
                    error=error,
                )
        seconds, up = self._monotonic() - started, self._reader.answers > answers
        await self._finish(outcome, seconds, problem, up=up)
        return outcome

    async def _finish(self, outcome: Outcome, seconds: float, problem: str, *, up: bool) -> None:
        wall = int(self._wall() * SECOND)
        self._budget.spent(self._name, self._run.cost.requests)
        self._repository.poll_ended(outcome, int(seconds * SECOND), wall)
        self._repository.problem = problem
        try:
            if not self._repository.loaded:
                await self._repository.load(wall)
            await self._repository.commit(self._now())
            self._clock_check.compare()
            self._store_problem = ""
        except (ExporterError, RuntimeError, MemoryError) as error:
            # RuntimeError: a stored ledger that does not balance, or no thread to write in.
            self._repository.problem = exhausted(error) or str(error)
            self._store_failed(self._repository.problem, error)
        self._publish(up=up)

    def _store_failed(self, problem: str, error: BaseException) -> None:
        """Log a problem of the store once until it changes: it will be the same in many polls.

        What concerns all targets has been logged once for them: a database that does not answer, or whose
        tables are those of a newer version.
        """
        if problem != self._store_problem:
            self._store_problem = problem
            if not isinstance(error, StoreUnavailableError | StoreVersionError):
                log.error(logger, "the books could not be read or written", target=self._name, error=problem)

    async def _cycle(self) -> None:
        if not self._repository.loaded:
            await self._repository.load(int(self._wall() * SECOND))
        await self._clock_check.ledger_loaded()
        await self._start.learn()
        await self._start.begin()
        self._start.record_probed()
        if self._settings.time_filters:
            await self._read_windows()
        else:
            await self._read_everything()
        if self._run.problem is not None:
            raise self._run.problem

    async def _read_windows(self) -> None:
        """All kinds of reads in turn; first the one for which the last poll had no request left."""
        if self.settle_reads.begin():
            self._head_reads.read_until = self._head_reads.gap_until = self.settle_reads.gap_until = 0
            self._run.unread.clear()
        history = partial(read_history, self._run, self._history_density)
        news = (self._read_head_far_behind, self._catch_up, self._read_head, self._read_settled)
        kinds = (*news, self._recheck, history, self._ask_for_any)
        first, self._first_kind = self._first_kind, 0
        spent: BudgetSpentError | None = None
        starved: list[int] = []
        for kind in [*range(first, len(kinds)), *range(first)]:
            before = self._reader.requests
            try:
                await kinds[kind]()
            except BudgetSpentError as error:
                spent = error
                if self._reader.requests == before:
                    starved.append(kind)
        if spent is not None:
            self._first_kind = starved[0] if starved else 0
            raise spent

    # --- steps ----------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """While far behind: settle reads in order of time, within half the budget."""
        if not self.settle_reads.lagging:
            self._backlog = None
            return
        now, goes_on = self._run.now(), self._backlog is not None
        backlog = self._backlog or Backlog(self._monotonic(), self.settle_reads.read_until, now)
        self._backlog = backlog
        await self._settle(max(1, self._run.budget_left // 2))
        lagging = self.settle_reads.lagging
        if not lagging:
            self._backlog = None
            if not goes_on:
                return  # within one poll, as every poll does where overlap is as short as the interval
        now, read_until = self._run.now(), self.settle_reads.read_until
        log.info(
            logger,
            "catching up" if lagging else "caught up",
            target=self._name,
            behind_seconds=(now - read_until) // SECOND,
            seconds_left=backlog.seconds_left(self._monotonic(), read_until, now),
        )

    async def _settle(self, limit: int) -> None:
        """Settle reads. If one fails, open jobs are rechecked all the same."""
        try:
            await self.settle_reads.read(limit, self._head_reads.read_until)
        except ApiError as error:
            self._run.note(error)

    async def _read_settled(self) -> None:
        if not self.settle_reads.lagging:
            await self._settle(self._run.budget_left)

    async def _recheck(self) -> None:
        try:
            await recheck(self._run, max(self._head_reads.read_until, self.settle_reads.read_until))
        finally:
            if self._repository.loaded:
                self.settle_reads.advance(self._run.now())

    async def _ask_for_any(self) -> None:
        """If a job is missing: does the API list any job at all at present?"""
        if self._run.missed:
            await self._run.ask_for_any()

    async def _read_head(self) -> None:
        if not self.settle_reads.lagging:
            await self._read_news(self.settle_reads.read_until, gap=False)

    async def _read_head_far_behind(self) -> None:
        """News of the last ``overlap`` and later, within half the budget."""
        started = self._backlog.started if self._backlog else self._monotonic()
        if self.settle_reads.lagging and self._monotonic() - started < NEWS_FAR_BEHIND:
            since = floor_second(self._run.now() - self._repository.settings.overlap)
            try:
                with self._run.limited(max(1, self._run.budget_left // 2)):
                    await self._read_news(since, gap=True)
            except ApiError as error:  # backlog and open jobs are read all the same
                self._run.note(error)

    async def _read_news(self, since: int, *, gap: bool) -> None:
        try:
            await self._head_reads.read(since, gap=gap)
        finally:
            self.settle_reads.gap_until = self._head_reads.gap_until

    async def _read_everything(self) -> None:
        """For an API that ignores the time filters: the whole list is one window (R7, docs/counting.md).

        Where it takes more requests than a poll may make, the next poll goes on. When it ends, all that was
        listed when it began is settled.
        """
        if self._loads != self._repository.loads:
            self._loads = self._repository.loads
            self._run.unread.clear()
        ledger = self._repository.ledger
        result = self._run.unread.pop(EVERYTHING, None)
        if result is not None:
            await self._reader.go_on(result, self._run.deadline)
        else:
            result = await self._reader.read_everything(self._run.ahead, self._run.deadline)
        await self._run.record(result)
        if result.complete:
            now = result.begun
            if result.requests > 2 * self._whole_list:
                self._whole_list = result.requests
                message = "without time filters every poll lists everything: consider a longer poll.interval"
                log.warn(logger, message, target=self._name, requests=result.requests)
            start = history_start(ledger, now)
            if ledger.watermarks.history > start:
                ledger.see_history(result.listing, start, result.sighting)
            self.settle_reads.read_until = floor_second(now - ledger.settings.overlap)
            self.settle_reads.advance(now)
        elif isinstance(result.error, BudgetSpentError):
            self._run.unread[EVERYTHING] = result
        await self._run.commit_read(result)
        if not result.complete:
            self._run.note_unlistable(result)

    def _publish_sometimes(self) -> None:
        """After a commit: what is new is not held back until the poll ends."""
        if self._monotonic() >= self._held_until:
            self._publish(up=True)

    # --- small things ---------------------------------------------------------------------------------

    def _publish(self, *, up: bool) -> None:
        self._held_until = self._monotonic() + PUBLISH_EVERY
        wall, now = self._wall(), self._now()
        skew = self._source.clock.skew(wall)
        cost = self._run.cost
        last_poll = LastPoll(
            up=up,
            clock_skew_ms=None if skew is None else round(skew * SECOND),
            believed_skew_ms=None if now is None else now - round(wall * SECOND),
            clocks_disagree=self._clock_check.disagreed,
            problem=self._repository.problem,
            requests=cost.requests,
            budget=cost.budget,
        )
        self._publish_view(replace(self._repository.snapshot(now), last_poll=last_poll))

    def _now(self) -> int | None:
        return self._source.clock.now_ms()


def _weak(method: Callable[[], None]) -> Callable[[], None]:
    """Calls a method without keeping its object alive, so that its parts may hold it without a cycle."""
    reference = WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call
