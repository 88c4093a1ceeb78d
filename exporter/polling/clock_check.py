"""Do the API's clock and ours agree? When does counting begin if not? (R3 and R4, docs/counting.md)

Knows the poll's clock and reader. Must not know how a time is learned from answers: that is done in
``exporter/cloud/clock.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from exporter import log
from exporter.ledger import Uptime, floor_second, note_try, waited, was_tried
from exporter.polling.poll_run import PollRun
from exporter.polling.windows import BudgetSpentError
from exporter.units import SECOND

logger = logging.getLogger(__name__)

_KEPT_WAITING: Final = SECOND
"""Milliseconds. A first poll whose first good answer came later than this counts as having failed before (R4,
docs/counting.md)."""


class ClockCheck:
    """Compares the API's clock and ours in every poll."""

    def __init__(
        self,
        run: PollRun,
        wall: Callable[[], float],
        uptime: Callable[[], Uptime],
        *,
        time_filters: bool,
    ) -> None:
        self._run = run
        self._wall = wall
        self._uptime = uptime
        self._time_filters = time_filters
        self.disagreed = False
        """Did the clocks disagree at the end of the last poll?"""
        self._on_our_clock = False
        """Did our clock stand in for the API's then?"""
        self._tried_before = False
        """Was a first start tried before this poll?"""

    async def ledger_loaded(self) -> None:
        """Before the first request of a poll: the stored times are a lower bound of the API's time.

        At a first start, note in the ledger when it was tried first.
        """
        ledger = self._run.ledger
        if ledger.started:
            self._run.clock.note_passed(ledger.watermarks.settled_until)
            return
        self._tried_before = was_tried(ledger.totals)
        self._try_start()
        if not self._tried_before:
            await self._run.repository.commit(None)  # so that a restart does not move it

    def _try_start(self) -> None:
        note_try(self._run.ledger.totals, int(self._wall() * SECOND), self._uptime())

    def waited(self) -> int:
        """Milliseconds since a first start was tried and failed, or was kept waiting (R4, docs/counting.md).

        A wall clock that is set makes it no longer: the baseline must not reach back to before the first try.
        """
        self._try_start()
        passed = waited(self._run.ledger.totals)
        return passed if self._tried_before or passed >= _KEPT_WAITING else 0

    def _disagree(self) -> bool:
        """Do they differ by more than ``overlap``, or is "settled until" later than every answer?"""
        skew, ledger = self._run.clock.skew(self._wall()), self._run.ledger
        if skew is None:
            return False
        ahead = ledger.started and ledger.watermarks.settled_until > self._run.furthest
        return ahead or abs(skew) * SECOND > ledger.settings.overlap

    def compare(self) -> None:
        """Log when they begin to disagree, and when they agree again."""
        run, wall = self._run, self._wall()
        if run.clock.on_our_clock != self._on_our_clock:
            self._on_our_clock = run.clock.on_our_clock
            if self._on_our_clock:
                message = "the API's answers carry no usable Date header: counting goes by our own clock"
                log.warn(logger, message, target=run.name)
            else:
                log.info(logger, "the API's answers carry a Date header", target=run.name)
        skew, disagree = run.clock.skew(wall), self._disagree()
        if skew is None or disagree == self.disagreed:
            return
        self.disagreed = disagree
        if not disagree:
            log.info(logger, "the API's clock and ours agree again", target=run.name)
            return
        log.warn(
            logger,
            "the API's clock and ours differ by more than poll.overlap, or the books are ahead of both:"
            " counting goes by the earliest that records do not refute",
            target=run.name,
            api_minus_ours_seconds=round(skew),
            believed_minus_ours_seconds=round(run.now() / SECOND - wall),
        )

    async def begin(self) -> int:
        """The time at which counting begins: now (R4, docs/counting.md).

        Where the clocks disagree, it is later than the newest job: the jobs that exist already are old ones.
        So it is where our clock is the only one: it may be slow.
        """
        run = self._run
        now, furthest, settings = run.now(), run.furthest, run.repository.settings
        if run.clock.on_our_clock:
            furthest += settings.max_catch_up
        elif furthest - now <= settings.overlap and not self._disagree():
            return now
        until = min(max(furthest, int(self._wall() * SECOND)), furthest + settings.max_catch_up)
        if self._time_filters:
            most = max(0, run.budget_left - 1)
            newest = await run.reader.newest(floor_second(now), until, run.deadline, most)
        else:
            whole = await run.reader.read_everything(run.ahead, run.deadline)
            if whole.error is not None and not isinstance(whole.error, BudgetSpentError):
                raise whole.error  # the newest of a part may be old: the next poll begins
            times = (record.create_time or 0 for page in whole.pages for record in page.records)
            newest = max(times, default=0)
        after = min(floor_second(newest) + SECOND, until) if newest else 0
        return max(run.now(), after)
