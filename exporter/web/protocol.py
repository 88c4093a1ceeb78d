"""One connection as an HTTP server sees it: how long a request's head and a response may take.

Knows uvicorn's protocol; must not know what is asked or answered. Whatever a client sends or does not send,
its connection ends in time, and costs nothing from then on.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import sys
import termios
from typing import Any, Final, NamedTuple

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.web.access import NETWORK, Tls
from exporter.web.connections import Connection, Limits, OpenConnections
from exporter.web.request_queue import RequestQueue
from exporter.web.request_validation import MAX_HEADER_LINES
from exporter.web.responses import LargeResponse, LargeResponses, PiecewiseSend

READ_BYTES: Final = 4 * 1024
"""Read from a connection at a time. h11 refuses a long head only while it is incomplete, so it must not come
all at once; and a client that sends requests without end gets no further ahead of us than this."""

MAX_DROPPED: Final = 64 * 1024
"""Bytes that a client may send on after its request's head, before nothing more is read from it."""
LINGER_SECONDS: Final = 1.0
"""How long such a client's connection stays open for it to read its response: closed with more to read, the
response would be lost."""
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")

SLOWEST: Final = 1024
"""Bytes a second, on average, below which a reader is cut off in the end: slower than any network."""


def unacknowledged_in_kernel(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not acknowledged yet, where the system says so (Linux); else 0."""
    sock = transport.get_extra_info("socket")
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # closed, or another system
        return 0


class ServerContext(NamedTuple):
    """What the connections of a server have in common."""

    connections: OpenConnections
    queue: RequestQueue
    responses: LargeResponses
    limits: Limits
    buffer: memoryview
    """Every connection reads into it, and uses what it has read at once."""


class HttpProtocol(H11Protocol, asyncio.BufferedProtocol):
    """uvicorn's protocol, with a bound for every wait, and with responses that are sent as they are read."""

    def __init__(
        self,
        context: ServerContext,
        connection: Connection,
        tls: Tls | None,
        **uvicorn: Any,  # noqa: ANN401  # uvicorn's own
    ) -> None:
        super().__init__(**uvicorn)
        self._context = context
        self._connection = connection
        self._tls = tls
        self._network: asyncio.Transport
        """The transport of the connection itself: with TLS the one below."""
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._asked_at = 0.0
        self._responding_to: object = None
        """uvicorn's cycle of the request whose response is under way."""
        self._status = 0
        self._resting = False
        """Between two requests."""
        self._response: LargeResponse | None = None
        """The latest one, until the connection ends."""
        self._task: asyncio.Task[None] | None = None
        self._lost = False
        self._lines = 0
        """Of the head that is being received."""
        self._dropping = False
        """Whatever else the client sends is read and dropped; its connection ends with the response."""
        self._dropped = 0
        """Bytes."""

    @property
    def app(self) -> ASGIApp:
        """What uvicorn runs for a request. A property, as an attribute would make a reference cycle."""
        return self._respond

    @app.setter
    def app(self, application: ASGIApp) -> None:
        self._application = application

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        super().connection_made(transport)
        self._network = transport.get_extra_info(NETWORK) or transport
        self._connection.close = self._network.abort
        transport.set_write_buffer_limits(high=1, low=0)
        self._end_within(self._context.limits.head)
        if self._tls is not None and not self._tls.admits(transport.get_extra_info("peercert")):
            self._network.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._context.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.transport.is_closing():
            return
        if self._dropping:
            self._drop(nbytes)
            return
        if self._resting:
            self._resting = False
            self._end_within(self._context.limits.head)
        head, rest = self._split(bytes(self._context.buffer[:nbytes]))
        if self._lines > MAX_HEADER_LINES + 2:  # the request line, and the empty one at the end
            self._refuse_head()
            return
        if not head:
            return
        self._receive(head, rest)
        self._connection.waits_for_us = self.cycle is not None and not self.cycle.response_started
        self._set_deadline()

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """What belongs to a head and what comes after its end. Empty lines before a request are dropped.

        Its lines are counted before it is parsed: of thousands of them h11 makes 250 KB of objects.
        """
        if self.conn.their_state is not h11.IDLE:
            return data, b""
        before = self.conn.trailing_data[0][-3:]
        if not before:
            data = data.lstrip(b"\r\n")
        found = _END_OF_HEAD.search(before + data)
        end = len(data) if found is None else found.end() - len(before)
        self._lines += data.count(b"\n", 0, end)
        return data[:end], data[end:]

    def _receive(self, head: bytes, rest: bytes) -> None:
        """Parse a head, and what came with it, but for a body in chunks: all else of a body is dropped.

        None of our paths reads a body, and h11 needs a thousand times as long for one-byte chunks as for the
        same bytes in one piece.
        """
        self.data_received(head)
        if self.conn.their_state is not h11.IDLE:
            self._lines = 0
        in_chunks = self.conn.their_state is h11.SEND_BODY and self._is_chunked()
        if rest and not in_chunks:
            self.data_received(rest)
        self._dropping = self.conn.their_state is h11.SEND_BODY
        if self.cycle is not None:
            self.cycle.body.clear()

    def _is_chunked(self) -> bool:
        return any(name == b"transfer-encoding" for name, _ in self.headers)

    def _drop(self, nbytes: int) -> None:
        self._dropped += nbytes
        if self._dropped <= MAX_DROPPED:
            return
        if self.cycle is None or self.cycle.response_complete:
            self._network.abort()
        else:
            self.flow.pause_reading()

    def _refuse_head(self) -> None:
        text = f"bad request: more than {MAX_HEADER_LINES} header lines\n".encode()
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)
        )
        self._dropping = True
        self._finish()

    def _finish(self) -> None:
        """The response is complete, but the client may still be sending."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._end_within(LINGER_SECONDS)
        else:
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's returns nothing
        """A client that sends nothing more may still read a response that has begun."""
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        return self._tls is None

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the request turned out to be malformed: nobody gets its response
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self._network.abort()
        if (error := sys.exception()) is not None:
            error.with_traceback(None)  # by it h11's error refers to itself, and to this connection

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._lines = 0
        self._unset_keepalive_if_required()  # the only timer is ours
        if self._status < 400:
            self._context.connections.mark_answered(self._connection)
        if self._dropping and not self.unsent() and not self.transport.is_closing():
            self._finish()
        else:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._response = None  # they refer to each other
        self._stop_timer()
        self._unset_keepalive_if_required()
        self._context.connections.remove(self._connection)
        super().connection_lost(exc)
        if self._task is not None:
            self._task.cancel()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, as uvicorn runs it for one request. It ends with the connection."""
        if self._lost:
            return
        connection = self._connection
        self._task = asyncio.current_task()
        last_request_at, connection.last_request_at = connection.last_request_at, self.loop.time()
        response = self._response = LargeResponse(
            connection.client,
            connection.answered,
            self._network.abort,
            self.loop.time(),
            self._unacknowledged,
        )

        def still_connected() -> bool:
            if self._responding_to is not None:  # the last piece has not been given
                self._extend_deadline()
            return not self.transport.is_closing()

        async def send_noting_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            await send(message)

        piecewise = PiecewiseSend(
            scope, send_noting_status, self._context.responses, response, still_connected
        )
        try:
            connection.waits_for_us = True
            # One with more lines is refused now: in the queue it would take memory.
            if len(scope["headers"]) <= MAX_HEADER_LINES:
                await self._context.queue.wait_turn(connection.client, last_request_at)
            connection.waits_for_us = False
            response.taken_at = self.loop.time()
            await self._application(scope, receive, piecewise)
        except asyncio.CancelledError:
            if not self._lost:
                raise
        finally:
            self._context.responses.end(response)
            self._task = None

    # --- what this connection waits for, and how long -------------------------------------------------

    def _set_deadline(self) -> None:
        """Until when what this connection waits for now must have come."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._responding_to is not self.cycle:
                self._responding_to = self.cycle
                self._asked_at = self.loop.time()
                self._end_within(self._context.limits.answer)
        elif self._responding_to is not None:
            self._responding_to = None
            if self.unsent():
                self._end_within(self._context.limits.answer)
            elif self._is_idle():
                self._rest()
            else:
                self._end_within(self._context.limits.head)

    def _is_idle(self) -> bool:
        """Between two requests, with nothing yet of the next."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _rest(self) -> None:
        self._resting = True
        self._end_within(self._context.limits.keep_alive)

    def unsent(self) -> int:
        """Bytes that the network has not taken yet."""
        unsent: int = self._network.get_write_buffer_size()
        if self._network is not self.transport and not self.transport.is_closing():
            unsent += self.transport.get_write_buffer_size()
        return unsent

    def _unacknowledged(self) -> int:
        """Bytes that the client has not acknowledged: those of ``unsent``, and those in the kernel."""
        return self.unsent() + unacknowledged_in_kernel(self._network)

    def _extend_deadline(self) -> bool:
        """Give the client more time, if it has taken something of its response. Says whether it has."""
        now, patience = self.loop.time(), self._context.limits.answer
        if self._response is None or not self._response.has_progressed(now):
            return False
        in_all = self._asked_at + patience + self._response.taken / SLOWEST
        self._end_at(min(now + patience, in_all))
        return now < in_all

    def _end_within(self, seconds: float) -> None:
        self._end_at(self.loop.time() + seconds)

    def _end_at(self, deadline: float) -> None:
        """Moving it further away, as every piece of a response does, costs no new timer."""
        self._deadline = deadline
        if self._timer is not None and self._timer.when() <= deadline:
            return
        self._stop_timer()
        if not self._lost:
            self._timer = self.loop.call_at(deadline, self._on_deadline)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self) -> None:
        self._timer = None
        if self.loop.time() < self._deadline:
            self._end_at(self._deadline)
        elif self.unsent() or self._responding_to is not None:
            if not self._extend_deadline():
                self._network.abort()
        elif self._dropping or not self._is_idle():
            self._network.abort()
        elif self._resting:
            self.timeout_keep_alive_handler()
        else:
            self._rest()  # what was unsent has been taken meanwhile
