"""Large responses: sent piece by piece as their readers take them, and bounded in number and in memory.

Knows ASGI messages, clients and time; must not know what is sent. A body that all clients share, such as the
metrics, costs no memory for one reader more; bodies that were made for one client each are bounded in bytes.
When there are too many responses, one whose reader has stalled is cut off; a reader that takes something now
and then never is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

PIECE_BYTES: Final = 32 * 1024
"""Handed to a connection at a time; the next piece when the network has taken this one."""
PIECES_IN_A_ROW: Final = 16
"""Then other connections have their turn, however fast the network takes pieces."""
STALLED_SECONDS: Final = 0.1
"""A reader that has taken nothing for so long counts as stalled, unless it has paused for longer before."""
SHARED_BODY: Final = "exporter.shared_body"
"""Key of an ASGI start message: true when the body is one object that all clients' responses share."""

TOO_MANY: Final = b"too many requests at a time: see --web.max-requests\n"
TOO_LARGE: Final = b"too many large answers made for one client each: ask for fewer name[], or later\n"


class LargeResponse:
    """One response of more than one piece, and how far its reader is."""

    def __init__(
        self,
        client: str,
        answered_before: bool,
        abort: Callable[[], object],
        now: float = 0.0,
        unacknowledged: Callable[[], int] = lambda: 0,
    ) -> None:
        """``answered_before``: an earlier request of this connection was answered; ``abort`` ends the
        connection; ``unacknowledged`` gives the bytes that the client has not acknowledged yet.
        """
        self.client = client
        self.answered_before = answered_before
        self.abort = abort
        self.sent = 0
        """Bytes handed to the connection."""
        self.private = 0
        """Bytes in memory for this response alone."""
        self._unacknowledged = unacknowledged
        self.taken = -unacknowledged()
        """Bytes that the reader had acknowledged at the last check; those of earlier responses: below 0."""
        self.taken_at = now
        """When a check last found that it had taken something."""
        self._patience = STALLED_SECONDS

    def has_progressed(self, now: float) -> bool:
        """Whether its reader has taken something since the last check."""
        taken = self.sent - self._unacknowledged()
        if taken <= self.taken:
            return False
        self.taken = taken
        self._patience = max(self._patience, 2 * (now - self.taken_at))
        self.taken_at = now
        return True

    def has_stalled(self, now: float) -> bool:
        """Whether its reader has taken nothing for twice as long as it ever paused before."""
        return not self.has_progressed(now) and now - self.taken_at >= self._patience


class LargeResponses:
    """All large responses that are being sent."""

    def __init__(self, limit: int, memory: int) -> None:
        """At most ``limit`` at a time (0: any number). None more with a body of its own while such bodies
        take ``memory`` bytes, or those of the same client half as many.

        One client gets seven eighths of the places at most, its new connections three quarters.
        """
        self._limit = limit
        self._for_one_client = limit - limit // 8
        self._for_its_new_connections = limit - limit // 4
        self._memory = memory
        self._under_way: set[LargeResponse] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, response: LargeResponse, now: float, *, private: int = 0) -> bytes:
        """Take a place for it. Returns nothing, or why it is refused. ``private``: see LargeResponse."""
        if private and not self._fits_in_memory(response.client):
            return TOO_LARGE
        if self._limit and not self._finds_place(response, now):
            return TOO_MANY
        response.private = private
        self._under_way.add(response)
        return b""

    def end(self, response: LargeResponse) -> None:
        """It is over, or cut off. Calling it twice does no harm."""
        self._under_way.discard(response)

    def _fits_in_memory(self, client: str) -> bool:
        of_client = sum(response.private for response in self._under_way if response.client == client)
        of_all = sum(response.private for response in self._under_way)
        return of_client < self._memory / 2 and of_all < self._memory

    def _finds_place(self, newcomer: LargeResponse, now: float) -> bool:
        """If need be that of a stalled one, which is cut off: the longest of whoever has the most places."""
        of_client = [response for response in self._under_way if response.client == newcomer.client]
        new = [response for response in of_client if not response.answered_before]
        if len(self._under_way) >= self._limit:
            rivals = list(self._under_way)
        elif len(of_client) >= self._for_one_client:
            rivals = of_client
        elif not newcomer.answered_before and len(new) >= self._for_its_new_connections:
            rivals = new
        else:
            return True
        places = Counter((response.client, response.answered_before) for response in rivals)
        stalled = [response for response in rivals if response.has_stalled(now)]
        if not stalled:
            return False
        slowest = min(
            stalled,
            key=lambda response: (-places[response.client, response.answered_before], response.taken_at),
        )
        self.end(slowest)
        slowest.abort()
        return True


class PiecewiseSend:
    """An ASGI ``send`` for one request: passes large bodies on to the server's ``send`` piece by piece."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        responses: LargeResponses,
        response: LargeResponse,
        still_connected: Callable[[], bool],
    ) -> None:
        """``send`` waits until the network has taken what it was given before. ``still_connected`` is asked
        after each piece.
        """
        self._has_body = scope["method"] != "HEAD"
        self._send = send
        self._responses = responses
        self._response = response
        self._still_connected = still_connected
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
        """Why there is no place for this response, if it is large."""
        size = int(next((value for name, value in start["headers"] if name == b"content-length"), b"0"))
        if not self._has_body or size <= PIECE_BYTES:
            return b""
        now = asyncio.get_running_loop().time()
        return self._responses.begin(self._response, now, private=0 if start.get(SHARED_BODY) else size)

    async def _send_body(self, body: bytes, *, more_body: bool) -> None:
        view = memoryview(body)
        for begin in range(0, max(1, len(body)), PIECE_BYTES):
            piece = view[begin : begin + PIECE_BYTES]
            more = more_body or begin + PIECE_BYTES < len(body)
            self._response.sent += len(piece)
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
            if not self._still_connected():
                await asyncio.Event().wait()  # until the end of the connection cancels this
            self._pieces += 1
            if self._pieces % PIECES_IN_A_ROW == 0:
                await asyncio.sleep(0)

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
