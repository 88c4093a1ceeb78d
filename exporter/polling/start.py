"""What comes before the reads of a poll: the API's time, whose books these are, and when counting begins.

Which windows are read then is the poller's business; whether clocks agree is that of ``witnesses.py``.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from exporter import log
from exporter.ledger import Record, Sighting
from exporter.polling.paging import PAGE_LIMIT
from exporter.polling.poll_run import ClockError, PollRun
from exporter.polling.windows import JobSource
from exporter.polling.witnesses import Witnesses
from exporter.units import SECOND

logger = logging.getLogger(__name__)

PROBES: Final = 4
"""Requests in which the API's clock must have been told by two answers."""
MORE_PROBES: Final = 8
"""Further ones, where they disagree with our own clock: a few false answers must not begin the books (R3)."""


class PollStart:
    """See the module. One for the life of a poller."""

    def __init__(self, run: PollRun, source: JobSource, witnesses: Witnesses, *, time_filters: bool) -> None:
        self._run = run
        self._source = source
        self._witnesses = witnesses
        self._time_filters = time_filters
        self._last = 0
        """The API's time in the last poll."""
        self._probed: deque[Record] = deque(maxlen=PAGE_LIMIT)
        """What probes showed and is not booked yet; bounded for an API that never tells its time."""

    async def learn(self) -> None:
        """The API's clock, what ``count`` means, whose books these are: once, and again when unknown."""
        for _ in range(PROBES):
            if self._source.clock.now_ms() is not None and not self._run.suspicious:
                break
            await self._probe()
            self._run.suspicious = False
        if self._source.clock.now_ms() is None:
            raise ClockError("the API's answers carry no usable Date header: nothing can be counted")
        for _ in range(MORE_PROBES):
            if self._run.budget_left <= 1 or not self._source.clock.undecided(
                self._run.repository.rules.overlap / SECOND
            ):
                break
            await self._probe()
        if self._source.project_id:
            self._run.repository.claim_project(self._source.project_id)

    async def _probe(self) -> None:
        self._probed += await self._run.reader.probe(self._run.deadline, time_filters=self._time_filters)

    def book_probed(self) -> None:
        """A probe comes before anything can be booked; its record may be gone when the list is read (R5)."""
        now = self._run.now()
        ended = self._source.clock.latest_ms() or now
        for record in self._probed:
            self._run.repository.ledger.see(record, Sighting(0, ended, None, self._run.ahead))
        self._probed.clear()

    async def begin(self) -> None:
        """R4: the first start, committed before anything is counted. R8: give up what is too far back."""
        ledger = self._run.repository.ledger
        if not ledger.started:
            now, waited = await self._witnesses.begin(), self._witnesses.waited()
            ledger.start(now, waited)
            await self._run.repository.commit(self._run.now())
            log.info(
                logger,
                "counting begins",
                target=self._run.name,
                baseline_ms=ledger.times.baseline,
                since_first_try_seconds=waited // SECOND,
            )
        elif ledger.times.too_far(now := self._run.now(), ledger.rules.max_catch_up):
            if self._witnesses.disagreed and now - self._last > ledger.rules.max_catch_up // 2:
                # No time has passed: a record told that our own clock is wrong (R3).
                self._last = ledger.times.catching_up = now
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
