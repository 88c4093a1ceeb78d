"""Every open connection of the server, and which of them are closed when there are too many.

Knows clients, times and numbers; must not know sockets, TLS or HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple


class Limits(NamedTuple):
    """The bounds of a server: numbers, bytes, and seconds. By default, Prometheus gives up after 10 s."""

    connections: int = 512
    requests: int = 40
    """Large responses at a time (of more than one piece, see ``responses.py``); 0: any number."""
    memory: int = 16 * 1024 * 1024
    """Bytes of all response bodies that were made for one client each; beyond, the next one is refused."""
    handshake: float = 5.0
    head: float = 10.0
    """From a connection's start, or a request's first byte, to the end of its head; also for the rest of a
    request body, which nothing here reads."""
    answer: float = 60.0
    """How long a client may read nothing of its response. The whole response may take as long, and another
    second for each ``protocol.SLOWEST`` bytes."""
    keep_alive: int = 75
    """Longer than most scrape intervals, so that Prometheus keeps its connection."""
    head_bytes: int = 16 * 1024
    """Of a request's head; a quarter more may get through."""


class Connection:
    """One accepted connection, from ``accept`` to its end."""

    def __init__(self, client: str, now: float = 0.0) -> None:
        self.client = client
        """Its address, see ``access/clients.py``."""
        self.last_request_at = now
        """When its last request began, or when it was accepted."""
        self.waits_for_us = False
        """Whether the next move is ours: what it sent is not read yet, or its request waits in the queue."""
        self.answered = False
        """Whether a request of its got what it asked for, so that the client is one that may come in."""
        self.close: Callable[[], object] = lambda: None
        """Ends it at once; what that takes depends on how far the connection has come."""


class OpenConnections:
    """All open connections, at most ``limit``.

    One more closes some of the client that has the most, counted separately for connections that have been
    answered and for those that have not. Of the answered ones the newest goes, so that the connection that a
    scraper has kept for long stays. Of the others the one goes first whose client keeps us waiting longest,
    and only then the newest of those that wait for us.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._closed_together = max(1, limit // 32)
        """Finding out whom to close costs more than closing: several go at once."""
        self._new: dict[Connection, None] = {}
        self._answered: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._answered)

    @property
    def crowded(self) -> bool:
        """No room is left, and the next connection would close one that waits for us.

        An eighth may not wait: those whose answers are under way, or that have just come.
        """
        if len(self) < self._limit - self._closed_together:
            return False
        return sum(connection.waits_for_us for connection in self._new) >= len(self._new) * 7 // 8

    def add(self, connection: Connection) -> None:
        if len(self) >= self._limit:
            self.make_room()
        self._new[connection] = None

    def mark_answered(self, connection: Connection) -> None:
        if connection in self._new:
            del self._new[connection]
            self._answered[connection] = None
            connection.answered = True

    def remove(self, connection: Connection) -> None:
        self._new.pop(connection, None)
        self._answered.pop(connection, None)

    def make_room(self) -> None:
        """Close some connections of the clients that have the most."""
        keep_first = [connection for connection in self._new if connection.waits_for_us]
        keep_first += [connection for connection in reversed(self._new) if not connection.waits_for_us]
        ranked = [*_ranked(keep_first), *_ranked(self._answered)]
        ranked.sort(key=lambda entry: entry[:2], reverse=True)
        for _, _, connection in ranked[: self._closed_together]:
            self._close(connection)

    def close_all(self) -> None:
        for connection in [*self._new, *self._answered]:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self.remove(connection)
        connection.close()


def _ranked(connections: Iterable[Connection]) -> Iterator[tuple[int, int, Connection]]:
    """(its number among its client's connections, its place, the connection); the first are kept longest."""
    seen: Counter[str] = Counter()
    for place, connection in enumerate(connections):
        seen[connection.client] += 1
        yield seen[connection.client], place, connection
