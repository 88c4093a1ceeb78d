"""What comes before the reads of a poll: the API's time, whose ledger this is, and when counting begins.

Which windows are read then is decided in ``poller.py``; whether clocks agree is found out in
``clock_check.py``.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from exporter import log
from exporter.ledger import Record, Sighting
from exporter.polling.clock_check import ClockCheck
from exporter.polling.paging import PAGE_LIMIT
from exporter.polling.poll_run import PollRun
from exporter.polling.source import JobSource
from exporter.units import SECOND

logger = logging.getLogger(__name__)

PROBES: Final = 10
"""Requests within which two answers must have carried a usable ``Date``: else our own clock stands in."""
MORE_PROBES: Final = 8
"""Further ones where the answers disagree with our own clock: counting must not begin at a time that a few
false answers gave (R3, docs/counting.md)."""


class PollStart:
    """Called at the begin of every poll; there is one for each poller."""

    def __init__(
        self, run: PollRun, source: JobSource, clock_check: ClockCheck, *, time_filters: bool
    ) -> None:
        self._run = run
        self._source = source
        self._clock_check = clock_check
        self._time_filters = time_filters
        self._last = 0
        """The API's time in the last poll."""
        self._probed: deque[Record] = deque(maxlen=PAGE_LIMIT)
        """Records that probes showed, not counted yet. Bounded, for an API that never sends a usable
        ``Date``."""

    async def learn(self) -> None:
        """Learn the API's time, what ``count`` means and the project; again when in doubt."""
        for _ in range(PROBES):
            if self._source.clock.now_ms() is not None and not self._run.suspicious:
                break
            await self._probe()
            self._run.suspicious = False
        if self._source.clock.now_ms() is None:
            self._source.clock.use_our_clock()
        for _ in range(MORE_PROBES):
            if self._run.budget_left <= 1 or not self._source.clock.undecided(
                self._run.repository.settings.overlap / SECOND
            ):
                break
            await self._probe()
        if self._source.project_id:
            self._run.repository.set_project(self._source.project_id)

    async def _probe(self) -> None:
        self._probed += await self._run.reader.probe(self._run.deadline, time_filters=self._time_filters)

    def record_probed(self) -> None:
        """Record what probes showed before the ledger was ready.

        A job may be deleted before the list is read, and counts all the same (R5, docs/counting.md).
        """
        now = self._run.now()
        ended = self._source.clock.latest_ms() or now
        for record in self._probed:
            self._run.repository.ledger.see(record, Sighting(0, ended, None, self._run.ahead))
        self._probed.clear()

    async def begin(self) -> None:
        """At a first start: begin to count, committed before anything is counted (R4, docs/counting.md).

        Later: skip what is too far back to be read (R8, docs/counting.md).
        """
        ledger = self._run.repository.ledger
        if not ledger.started:
            now, waited = await self._clock_check.begin(), self._clock_check.waited()
            ledger.start(now, waited)
            await self._run.commit()
            log.info(
                logger,
                "counting begins",
                target=self._run.name,
                baseline_ms=ledger.watermarks.baseline,
                since_first_try_seconds=waited // SECOND,
            )
        elif ledger.watermarks.too_far(now := self._run.now(), ledger.settings.max_catch_up):
            if self._clock_check.disagreed and now - self._last > ledger.settings.max_catch_up // 2:
                # No time has passed: a record showed that our own clock is wrong (R3, docs/counting.md).
                self._last = ledger.watermarks.catching_up = now
                return
            await self._probe()
            if skipped := ledger.jump(self._run.now()):
                await self._run.repository.commit(self._run.now())
                log.warn(
                    logger,
                    "a stretch of time will never be read: downtime exceeded poll.max_catch_up",
                    target=self._run.name,
                    skipped_seconds=skipped // SECOND,
                )
        self._last = self._run.now()
