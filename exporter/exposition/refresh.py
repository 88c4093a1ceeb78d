"""When the text of a scrape is made anew: once for many publications, and not more often than it may cost.

Knows time; must not know what is made. What is published is shown a short while later, together with what
else was published meanwhile, or at once when a scrape asks for it. A refresh that took long is followed by a
rest, in which scrapes get what there is: so however many targets publish, and however often they are scraped,
about a tenth of a core goes to it. A rest has an end, as news must not wait: what takes more than a fifth of
a second, as the first text of hundreds of targets does, may take a larger share.

A scrape waits for a refresh rather than getting the last one at once, because that makes the freshest answer
for the usual few milliseconds. The wait is bounded, because a refresh of hundreds of targets takes longer, as
does any on a machine that has no time, and the last complete one is right: only older. What an operator
changed is waited for longer: who reloads and then looks wants to see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from exporter import log
from exporter.errors import OldMetricsError

logger = logging.getLogger(__name__)

COLLECT_SECONDS: Final = 0.25
"""After a publication nobody waits for: a poll publishes twice or more, and other targets do too."""
WAIT_SECONDS: Final = 0.05
"""How long a scrape waits at most, where there is something older that it can get."""
RELOAD_WAIT_SECONDS: Final = 2.0
"""The same while what an operator changed is not shown yet."""
FREE_SECONDS: Final = 0.005
"""Of CPU: a refresh that took less is followed by no rest."""
REST: Final = 10
"""A rest is so many times as long as the CPU time of the refresh before it, up to ``LONGEST_REST``."""
LONGEST_REST: Final = 2.0
"""Seconds: the first edition of hundreds of targets takes half of one; no news may wait ten times that."""
FAILED_SECONDS: Final = 1.0
"""The rest after a refresh that failed."""
REPORT_SECONDS: Final = 300.0
"""So often it is logged that refreshing still fails."""
TOO_OLD_SECONDS: Final = 300.0
"""What refreshing failed for so long to replace is no longer shown: a scrape that fails raises an alert."""


class Refresher:
    """See the module."""

    def __init__(self, refresh: Callable[[], Awaitable[float]], monotonic: Callable[[], float]) -> None:
        """``refresh`` makes the text of what is published when it begins; returns its CPU time in seconds."""
        self._refresh = refresh
        self._monotonic = monotonic
        self._changed = asyncio.Event()
        self._asked = asyncio.Event()
        self._rest_until = float("-inf")
        self._at_once = False
        """Is no rest to follow the refresh under way?"""
        self._reloaded = False
        """Is something not shown yet that an operator changed?"""
        self._waiting: dict[asyncio.Future[None], bool] = {}
        """Whether it has something older."""
        self._failing_since: float | None = None
        self._report_at = float("-inf")
        """When the next failure is logged."""

    def changed(self) -> None:
        """Something was published: it is shown soon."""
        self._changed.set()

    def end_rest(self) -> None:
        """What changed is to be shown at the next scrape, whatever it costs."""
        self._rest_until = float("-inf")
        self._at_once = self._reloaded = True
        self._changed.set()

    def check(self) -> None:
        """Raises OldMetricsError when what was made last is too old to be shown."""
        if (since := self._failing_since) is not None and (
            failing := self._monotonic() - since
        ) >= TOO_OLD_SECONDS:
            raise OldMetricsError(f"the metrics could not be written for {failing:.0f} s: see the log")

    @property
    def resting(self) -> bool:
        return self._monotonic() < self._rest_until

    async def wait(self, *, bounded: bool) -> None:
        """Until a refresh has ended that began from now on.

        ``bounded``: at most for ``WAIT_SECONDS``, or ``RELOAD_WAIT_SECONDS``, and through no rest.
        """
        seconds = RELOAD_WAIT_SECONDS if self._reloaded else WAIT_SECONDS
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = bounded
        self._changed.set()
        self._asked.set()
        await asyncio.wait((waiter,), timeout=seconds if bounded else None)

    async def run(self) -> None:
        """Refresh whenever it is due, until cancelled."""
        try:
            while True:
                await self._changed.wait()
                await self._collect()
                await self._refresh_once()
        finally:
            _end(self._waiting)

    async def _collect(self) -> None:
        """A short while, or as long as the rest lasts; not when a scrape waits."""
        seconds = max(COLLECT_SECONDS, self._rest_until - self._monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    async def _refresh_once(self) -> None:
        self._changed.clear()
        self._asked.clear()
        waiting, self._waiting = self._waiting, {}
        rest, self._at_once = 0.0, False
        try:
            spent = await self._refresh()
            rest = min(REST * spent, LONGEST_REST) if spent > FREE_SECONDS and not self._at_once else 0.0
            self._succeeded()
        except Exception as error:  # noqa: BLE001 - a defect, or no memory: what was shown last stays
            rest = FAILED_SECONDS
            self._report(error)
        finally:
            self._rest_until = self._monotonic() + rest
            self._reloaded = self._at_once
            if rest:
                waiting |= {waiter: bounded for waiter, bounded in self._waiting.items() if bounded}
                self._waiting = {waiter: False for waiter, bounded in self._waiting.items() if not bounded}
            if not self._waiting:
                self._asked.clear()
            _end(waiting)

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            log.info(logger, "the metrics are written again")
            self._failing_since = None

    def _report(self, error: Exception) -> None:
        """Log a failure: the first one, and then one every few minutes."""
        now = self._monotonic()
        if self._failing_since is None:
            self._failing_since = self._report_at = now
        if now >= self._report_at:
            self._report_at = now + REPORT_SECONDS
            log.error(
                logger,
                "the metrics could not be written",
                kind=type(error).__name__,
                error=error,
                failing_seconds=round(now - self._failing_since),
            )


def _end(waiting: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)
