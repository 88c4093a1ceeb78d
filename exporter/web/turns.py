"""In which order requests begin, when more come than can be answered at once.

Knows clients and times; must not know what they ask. One request begins in each round of the event loop, so
that whoever comes is seen at once, however many wait. Turns alternate: one goes to the connection that was
quiet longest, as a scraper's is between two scrapes, the next one to the client that has the fewest waiting.
So neither clients that ask without a pause nor a crowd of new connections keep a scraper waiting, be they at
its own address or at another one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from typing import Final

_Queue = list[tuple[float, int, asyncio.Future[None]]]

_SLACK: Final = 64


class Turns:
    """One turn for each request."""

    def __init__(self) -> None:
        self._by_time: _Queue = []
        self._by_client: _Queue = []
        self._queues = itertools.cycle((self._by_time, self._by_client))
        self._waiting: Counter[str] = Counter()
        """By client."""
        self._numbers = itertools.count()
        self._taken = False
        """Whether somebody has had the turn of this round."""

    def __len__(self) -> int:
        """Requests that wait."""
        return self._waiting.total()

    async def take(self, client: str, quiet_since: float) -> None:
        """Returns when it is this request's turn: at once, unless somebody has had one in this round."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next_round, loop)
            return
        turn: asyncio.Future[None] = loop.create_future()
        number = next(self._numbers)
        self._push(self._by_time, (quiet_since, number, turn))
        self._push(self._by_client, (self._waiting[client], number, turn))
        self._waiting[client] += 1
        try:
            await turn
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def _push(self, queue: _Queue, waiting: tuple[float, int, asyncio.Future[None]]) -> None:
        """Each request is in both queues, and stays in one of them after its turn: now and then they go."""
        if len(queue) > 2 * len(self) + _SLACK:
            queue[:] = [entry for entry in queue if not entry[2].done()]
            heapq.heapify(queue)
        heapq.heappush(queue, waiting)

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        queue = next(self._queues)
        while queue:
            *_, turn = heapq.heappop(queue)
            if not turn.done():
                turn.set_result(None)
                loop.call_soon(self._next_round, loop)
                return
        self._taken = False  # a queue without anybody waiting: so is the other one
