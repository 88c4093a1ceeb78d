"""Answers under way: sent piece by piece as their readers take them, and bounded in number and in memory.

Knows ASGI messages, clients and time; must not know what is sent. A body that many are reading is one object
in memory, however many they are, and counts once. A reader that takes nothing gives way to one that asks.
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
BURST: Final = 16 * PIECE
"""Bytes after which others have their turn, however fast the network takes them."""
STALLED_SECONDS: Final = 0.1
"""Who has taken nothing for so long gives way when there are too many."""

FULL: Final = b"too many requests at a time: see --web.max-requests\n"


class Answer:
    """One that does not fit into one piece."""

    def __init__(self, client: str, known: bool, cut: Callable[[], object], now: float = 0.0) -> None:
        """``known``: this connection has been answered before; ``cut`` ends it."""
        self.client = client
        self.known = known
        self.cut = cut
        self.taken_at = now
        """When its reader last took something."""
        self.body: bytes | None = None


class Answers:
    """All of them. Who asks while there are too many takes the place of the one whose reader takes least."""

    def __init__(self, limit: int, memory: int) -> None:
        """At most ``limit`` at a time (0: any number), with at most ``memory`` bytes of different bodies."""
        self._limit = limit
        self._memory = memory
        self._under_way: set[Answer] = set()
        self._readers: Counter[int] = Counter()
        """By the identity of a body, which lives as long as its readers."""
        self._held = 0

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def held(self) -> int:
        """Bytes of all bodies that are being sent."""
        return self._held

    def begin(self, answer: Answer) -> bool:
        """Whether there is a place for it."""
        if self._limit and len(self._under_way) >= self._limit and not self._give_way_to(answer):
            return False
        self._under_way.add(answer)
        return True

    def hold(self, answer: Answer, body: bytes) -> None:
        """From now on this is what it sends. While all bodies together are too large, stalled readers go."""
        self._release(answer)
        self._under_way.add(answer)
        answer.body = body
        self._readers[id(body)] += 1
        if self._readers[id(body)] == 1:
            self._held += len(body)
        while self._held > self._memory:
            stalled = [
                other
                for other in self._under_way
                if other.body is not None
                and other.body is not body
                and answer.taken_at - other.taken_at >= STALLED_SECONDS
            ]
            if not stalled:
                return
            self._cut(min(stalled, key=lambda other: other.taken_at))

    def end(self, answer: Answer) -> None:
        """It is over, or cut off. Twice does no harm."""
        self._release(answer)
        self._under_way.discard(answer)

    def _give_way_to(self, newcomer: Answer) -> bool:
        """Cut off the slowest of the client that has the most; not if that is this one's own and reading."""
        crowds = Counter((answer.client, answer.known) for answer in self._under_way)
        crowds[newcomer.client, newcomer.known] += 1
        slowest = min(
            self._under_way, key=lambda answer: (-crowds[answer.client, answer.known], answer.taken_at)
        )
        ours = (slowest.client, slowest.known) == (newcomer.client, newcomer.known)
        if ours and newcomer.taken_at - slowest.taken_at < STALLED_SECONDS:
            return False
        self._cut(slowest)
        return True

    def _cut(self, answer: Answer) -> None:
        self.end(answer)
        answer.cut()

    def _release(self, answer: Answer) -> None:
        body, answer.body = answer.body, None
        if body is not None:
            self._readers[id(body)] -= 1
            if not self._readers[id(body)]:
                del self._readers[id(body)]
                self._held -= len(body)


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
        self._begun = False
        self._refused = False

    async def __call__(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start" and self._is_large(message) and not self._begin():
            self._refused = True
            await self._refuse(message)
        elif message["type"] == "http.response.body" and len(message.get("body", b"")) > PIECE:
            await self._send_body(message["body"], more_body=message.get("more_body", False))
        else:
            await self._send(message)

    def _is_large(self, start: Message) -> bool:
        length = next((value for name, value in start["headers"] if name == b"content-length"), b"0")
        return self._has_body and int(length) > PIECE

    def _begin(self) -> bool:
        self._begun = self._begun or self._answers.begin(self._answer)
        return self._begun

    async def _send_body(self, body: bytes, *, more_body: bool) -> None:
        if not self._has_body:
            await self._send({"type": "http.response.body", "body": b"", "more_body": more_body})
            return
        self._answers.hold(self._answer, body)
        view = memoryview(body)
        for begin in range(0, len(body), PIECE):
            end = begin + PIECE
            more = more_body or end < len(body)
            await self._send({"type": "http.response.body", "body": view[begin:end], "more_body": more})
            if not self._taken():
                await asyncio.Event().wait()  # until the end of the connection cancels this
            if end % BURST == 0:
                await asyncio.sleep(0)  # a fast reader is not the only one

    async def _refuse(self, start: Message) -> None:
        headers = MutableHeaders(raw=list(start["headers"]))
        for name in ("content-encoding", "vary"):
            del headers[name]
        headers["content-type"] = "text/plain; charset=utf-8"
        headers["content-length"] = str(len(FULL))
        headers["retry-after"] = "1"
        headers["connection"] = "close"
        await self._send({"type": "http.response.start", "status": 503, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": FULL})
