"""Which handshakes are under way."""

from __future__ import annotations

import pytest

from exporter.web.connections import Connection
from exporter.web.handshakes import SLOW_SECONDS, HandshakeQueue


class Several:
    """HandshakeQueue of these clients, all asked for at 0 seconds; who has begun and who was ended."""

    def __init__(self, *clients: str, limit: int) -> None:
        self.handshakes = HandshakeQueue(limit)
        self.connections = [Connection(client) for client in clients]
        self.begun: list[int] = []
        self.ended: list[int] = []
        for n, connection in enumerate(self.connections):
            connection.close = lambda n=n: self.ended.append(n)  # type: ignore[misc]  # a default's type
            self.handshakes.add(connection, lambda n=n: self.begun.append(n), 0.0)  # type: ignore[misc]


def test_so_many_are_under_way_and_the_others_wait() -> None:
    """The next begins when one is over; twice over is once."""
    several = Several("a", "a", "a", "a", limit=2)
    assert several.begun == [0, 1]
    for _ in range(2):
        several.handshakes.remove(several.connections[1], 1.0)
    assert several.begun == [0, 1, 2]


def test_a_client_with_few_under_way_is_next() -> None:
    """However many of another one's have waited for longer."""
    several = Several(*["a"] * 50, "b", limit=2)
    several.handshakes.remove(several.connections[0], 1.0)
    assert several.begun == [0, 1, 50]


def test_who_has_gone_does_not_begin() -> None:
    """Its place in the queue goes with it."""
    several = Several("a", "a", "a", limit=1)
    several.handshakes.remove(several.connections[1], 1.0)
    several.handshakes.remove(several.connections[0], 1.0)
    assert several.begun == [0, 2]


@pytest.mark.parametrize(
    ("clients", "at", "ended"),
    [
        ("aaa", SLOW_SECONDS, [0]),
        ("aaa", SLOW_SECONDS / 2, []),
        ("aa", SLOW_SECONDS, []),
        ("aaaaa", 9.0, [0, 1]),
    ],
    ids=["one-waits", "not-slow", "nobody-waits", "many-wait"],
)
def test_slow_ones_give_way_to_those_that_wait(clients: str, at: float, ended: list[int]) -> None:
    """As many as wait, and nobody without need."""
    several = Several(*clients, limit=2)
    several.handshakes.end_slow(at)
    assert several.ended == ended
