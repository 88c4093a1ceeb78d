"""Answers under way: sent piece by piece as their readers take them, and bounded in number and in memory.

Knows ASGI messages, clients and time; must not know what is sent. What all readers share costs nothing for
one more of them; bodies that were made for one reader are bounded in bytes. A reader that takes something now
and then is never cut off for another one: only who has stalled gives way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

PIECE: Final = 32 * 1024
"""Bytes given to a connection at a time; the next ones when the network has taken these."""
BURST: Final = 16
"""Pieces after which others have their turn, however fast the network takes them."""
STALLED_SECONDS: Final = 0.1
"""Who has taken nothing for so long gives way when there are too many, unless it has paused before."""
SHARED: Final = "exporter.shared"
"""Key of an ASGI start message: whether the body is there already, for all who read it."""

FULL: Final = b"too many requests at a time: see --web.max-requests\n"
LARGE: Final = b"too many large answers made for one client each: ask for fewer name[], or later\n"


class Answer:
    """One that does not fit into one piece."""

    def __init__(
        self,
        client: str,
        known: bool,
        cut: Callable[[], object],
        now: float = 0.0,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        """``known``: this connection has been answered before; ``cut`` ends it; ``waiting`` gives the bytes
        that its client has not acknowledged yet.
        """
        self.client = client
        self.known = known
        self.cut = cut
        self.given = 0
        """Bytes handed to the connection."""
        self.private = 0
        """Bytes in memory for this reader alone."""
        self._waiting = waiting
        self.taken = -waiting()
        """Bytes that its reader has acknowledged, as of the last look; those of earlier answers below 0."""
        self.taken_at = now
        """When it was seen to have taken something."""
        self._patience = STALLED_SECONDS

    def look(self, now: float) -> bool:
        """Whether its reader has taken something since the last look."""
        taken = self.given - self._waiting()
        if taken <= self.taken:
            return False
        self.taken = taken
        self._patience = max(self._patience, 2 * (now - self.taken_at))
        self.taken_at = now
        return True

    def stalled(self, now: float) -> bool:
        """Whether its reader has taken nothing for twice as long as it ever paused before."""
        return not self.look(now) and now - self.taken_at >= self._patience


class Answers:
    """All of them."""

    def __init__(self, limit: int, memory: int) -> None:
        """At most ``limit`` at a time (0: any number); none that has a body of its own while others' take
        ``memory`` bytes, or its client's half as many.

        An eighth of the places is left to other clients, as many to connections that were answered before.
        """
        self._limit = limit
        self._of_one_client = limit - limit // 8
        self._of_its_new_connections = limit - limit // 4
        self._memory = memory
        self._under_way: set[Answer] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, answer: Answer, now: float, *, private: int = 0) -> bytes:
        """Whether there is a place for it: nothing, or what to tell its client. ``private``: see Answer."""
        if private and not self._fits(answer.client):
            return LARGE
        if self._limit and not self._has_place(answer, now):
            return FULL
        answer.private = private
        self._under_way.add(answer)
        return b""

    def end(self, answer: Answer) -> None:
        """It is over, or cut off. Twice does no harm."""
        self._under_way.discard(answer)

    def _fits(self, client: str) -> bool:
        ours = sum(answer.private for answer in self._under_way if answer.client == client)
        return ours < self._memory / 2 and sum(answer.private for answer in self._under_way) < self._memory

    def _has_place(self, newcomer: Answer, now: float) -> bool:
        """Perhaps that of a reader that has stalled: of the largest crowd, the longest."""
        ours = [answer for answer in self._under_way if answer.client == newcomer.client]
        new = [answer for answer in ours if not answer.known]
        if len(self._under_way) >= self._limit:
            rivals = list(self._under_way)
        elif len(ours) >= self._of_one_client:
            rivals = ours
        elif not newcomer.known and len(new) >= self._of_its_new_connections:
            rivals = new
        else:
            return True
        crowds = Counter((answer.client, answer.known) for answer in rivals)
        stalled = [answer for answer in rivals if answer.stalled(now)]
        if not stalled:
            return False
        slowest = min(stalled, key=lambda answer: (-crowds[answer.client, answer.known], answer.taken_at))
        self.end(slowest)
        slowest.cut()
        return True


class PiecewiseSend:
    """An ASGI ``send`` in front of a server's, for one request."""

    def __init__(
        self, scope: Scope, send: Send, answers: Answers, answer: Answer, taken: Callable[[], bool]
    ) -> None:
        """``send`` waits until the network has taken what it was given before; then ``taken`` is called, and
        says whether there is still a connection.
        """
        self._has_body = scope["method"] != "HEAD"
        self._send = send
        self._answers = answers
        self._answer = answer
        self._taken = taken
        self._pieces = 0
        self._refused = False

    async def __call__(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start" and (refusal := self._begin(message)):
            self._refused = True
            await self._refuse(message, refusal)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._has_body:
            await self._send_body(message.get("body", b""), more_body=message.get("more_body", False))
        else:
            await self._send({**message, "body": b""})

    def _begin(self, start: Message) -> bytes:
        """Why there is no place for this answer, if it needs one."""
        size = int(next((value for name, value in start["headers"] if name == b"content-length"), b"0"))
        if not self._has_body or size <= PIECE:
            return b""
        now = asyncio.get_running_loop().time()
        return self._answers.begin(self._answer, now, private=0 if start.get(SHARED) else size)

    async def _send_body(self, body: bytes, *, more_body: bool) -> None:
        view = memoryview(body)
        for begin in range(0, max(1, len(body)), PIECE):
            piece = view[begin : begin + PIECE]
            more = more_body or begin + PIECE < len(body)
            self._answer.given += len(piece)
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
            if not self._taken():
                await asyncio.Event().wait()  # until the end of the connection cancels this
            self._pieces += 1
            if self._pieces % BURST == 0:
                await asyncio.sleep(0)  # a fast reader is not the only one

    async def _refuse(self, start: Message, reason: bytes) -> None:
        headers = MutableHeaders(raw=list(start["headers"]))
        for name in ("content-encoding", "vary"):
            del headers[name]
        headers["content-type"] = "text/plain; charset=utf-8"
        headers["content-length"] = str(len(reason))
        headers["retry-after"] = "1"
        headers["connection"] = "close"
        await self._send({"type": "http.response.start", "status": 503, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": reason})
