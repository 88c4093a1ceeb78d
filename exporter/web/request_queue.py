"""In which order requests begin, when more come than can be answered at once.

Knows clients and times; must not know what the requests ask for. One request begins in each round of the
event loop, so that a request that comes in is noticed at once, however many wait. Two orders alternate: first
the request of the connection that was idle longest, as a scraper's is between two scrapes; then that of the
client with the fewest requests waiting. So neither clients that ask without a pause nor a crowd of new
connections keep a scraper waiting, be they at its own address or at another one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple


class _Request(NamedTuple):
    """What a waiting request is ordered by."""

    last_request_at: float
    """Of its connection."""
    of_client_before: int
    """How many requests of its client were waiting when it came."""


_ORDERS: Final[tuple[Callable[[_Request], float], ...]] = (
    lambda request: request.last_request_at,
    lambda request: request.of_client_before,
)
"""The request with the least of it begins first."""


class RequestQueue:
    """Each request waits here for its turn to begin."""

    def __init__(self) -> None:
        self._requests: dict[asyncio.Future[None], _Request] = {}
        """Those that wait, in the order in which they came: as many at most as there are connections."""
        self._orders = itertools.cycle(_ORDERS)
        self._waiting: Counter[str] = Counter()
        """By client."""
        self._busy = False
        """Whether a request has begun in this round of the event loop."""

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._requests)

    async def wait_turn(self, client: str, last_request_at: float) -> None:
        """Returns when it is this request's turn: at once, unless another has begun in this round."""
        loop = asyncio.get_running_loop()
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next_round, loop)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._requests[turn] = _Request(last_request_at, self._waiting[client])
        self._waiting[client] += 1
        try:
            await turn
        finally:
            self._requests.pop(turn, None)
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        order = next(self._orders)
        waiting = [turn for turn in self._requests if not turn.done()]  # not those that were cancelled
        self._busy = bool(waiting)
        if waiting:
            turn = min(waiting, key=lambda turn: order(self._requests[turn]))
            del self._requests[turn]
            turn.set_result(None)
            loop.call_soon(self._next_round, loop)
