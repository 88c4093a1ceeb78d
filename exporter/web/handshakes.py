"""Which TLS handshakes run: at most so many at a time, for each takes 100 KB of memory and 1 ms of CPU.

Knows connections and time; must not know TLS. Connections that wait for their handshake are mere sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from exporter.web.connections import Connection

AT_A_TIME: Final = 128
SLOW_SECONDS: Final = 1.0
"""A handshake that takes longer is ended when others wait."""


class HandshakeQueue:
    """The next handshake is of the client that has the fewest under way; among equals, of who came first."""

    def __init__(self, limit: int = AT_A_TIME) -> None:
        self._limit = limit
        self._under_way: dict[Connection, float] = {}
        """Since when, the longest first."""
        self._waiting: dict[Connection, Callable[[], object]] = {}

    def add(self, connection: Connection, begin: Callable[[], object], now: float) -> None:
        """``begin`` is called when it is this one's turn: perhaps at once."""
        self._waiting[connection] = begin
        self._begin_next(now)

    def remove(self, connection: Connection, now: float) -> None:
        """It is over, however it ended, or the connection is gone. Calling it twice does no harm."""
        self._waiting.pop(connection, None)
        self._under_way.pop(connection, None)
        self._begin_next(now)

    def end_slow(self, now: float) -> None:
        """End as many slow handshakes as others wait."""
        slow = [connection for connection, since in self._under_way.items() if now - since >= SLOW_SECONDS]
        for connection in slow[: len(self._waiting)]:
            connection.close()

    def _begin_next(self, now: float) -> None:
        while self._waiting and len(self._under_way) < self._limit:
            under_way = Counter(connection.client for connection in self._under_way)
            connection = min(self._waiting, key=lambda connection: under_way[connection.client])
            begin = self._waiting.pop(connection)
            self._under_way[connection] = now
            begin()
