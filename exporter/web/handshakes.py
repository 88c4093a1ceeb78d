"""TLS handshakes under way: a bounded number, for each takes a hundred kilobytes and a millisecond.

Knows visits and time; must not know TLS. The others wait as mere sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from exporter.web.connections import Visit

AT_A_TIME: Final = 128
SLOW_SECONDS: Final = 1.0
"""Who takes longer for its handshake gives way to those that wait."""


class Handshakes:
    """The next to begin is of the client that has the fewest under way, the first that came of them."""

    def __init__(self, limit: int = AT_A_TIME) -> None:
        self._limit = limit
        self._under_way: dict[Visit, float] = {}
        """Since when, the longest first."""
        self._waiting: dict[Visit, Callable[[], object]] = {}

    def add(self, visit: Visit, begin: Callable[[], object], now: float) -> None:
        """``begin`` is called when it is this one's turn: perhaps at once."""
        self._waiting[visit] = begin
        self._begin(now)

    def remove(self, visit: Visit, now: float) -> None:
        """It is over, however it ended, or nobody waits for it any more. Twice does no harm."""
        self._waiting.pop(visit, None)
        self._under_way.pop(visit, None)
        self._begin(now)

    def hurry(self, now: float) -> None:
        """Those that are slow end, if so many wait."""
        slow = [visit for visit, since in self._under_way.items() if now - since >= SLOW_SECONDS]
        for visit in slow[: len(self._waiting)]:
            visit.end()

    def _begin(self, now: float) -> None:
        while self._waiting and len(self._under_way) < self._limit:
            crowds = Counter(visit.client for visit in self._under_way)
            visit = min(self._waiting, key=lambda visit: crowds[visit.client])
            begin = self._waiting.pop(visit)
            self._under_way[visit] = now
            begin()
