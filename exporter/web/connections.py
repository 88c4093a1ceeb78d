"""Connections and their bounds: how many, how long a request's head and an answer may take.

Knows uvicorn's protocol; must not know what is asked or answered. Whatever a client does or leaves undone,
its connection ends, and costs nothing from then on. There is always room for the next one: see ``Visits``.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.web.access.tls import NETWORK, Tls
from exporter.web.answers import Answer, Answers, PiecewiseSend
from exporter.web.requests import HEADERS
from exporter.web.turns import Turns

READ_BYTES: Final = 4 * 1024
"""Read from a connection at a time: h11 refuses a long head only while it is incomplete, so it must not come
all at once; and who sends requests without end gets no further ahead of us than this."""

SLOWEST: Final = 1024
"""Bytes a second, on average, below which a reader is given up in the end: slower than any network."""


class Limits(NamedTuple):
    """Seconds, and numbers. Prometheus itself gives up after 10 seconds by default."""

    connections: int = 512
    requests: int = 40
    """Answers under way at a time, of those that take more than one piece; 0: any number."""
    memory: int = 16 * 1024 * 1024
    """Bytes of all bodies made for one reader each, beyond which another one is refused."""
    handshake: float = 5.0
    head: float = 10.0
    """From a connection's start, or a request's first byte, to the end of its head; also for the rest of a
    body that nobody asked for."""
    answer: float = 60.0
    """How long a client may take nothing of its answer; and the whole of it may take so long, and a second
    more for each ``SLOWEST`` bytes."""
    keep_alive: int = 75
    """Longer than most scrape intervals, so that Prometheus keeps its connection."""
    head_bytes: int = 16 * 1024
    """Of a request; a quarter more may get through."""


class Visit:
    """One accepted connection, from its first moment to its end."""

    def __init__(self, client: str, now: float = 0.0) -> None:
        self.client = client
        self.quiet_since = now
        """When it last asked for something, or was accepted."""
        self.waits = False
        """Whether it is our turn to do something."""
        self.known = False
        """Whether it has been answered: what it asked for was there, and it was let in."""
        self.end: Callable[[], object] = lambda: None


class Visits:
    """Everybody who is connected.

    When there are too many, the largest crowd gives way. A crowd is what one client has in connections that
    have been answered, or in such that have not. Of those answered the newest goes, so that the connection
    that a scraper has kept for long stays. Of the others the one that keeps us waiting longest, and only then
    the newest of those that wait for us.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._at_once = max(1, limit // 32)
        """How many give way together: finding them costs more than ending them."""
        self._unknown: dict[Visit, None] = {}
        self._known: dict[Visit, None] = {}

    def __len__(self) -> int:
        return len(self._unknown) + len(self._known)

    def add(self, visit: Visit) -> None:
        if len(self) >= self._limit:
            self.make_room()
        self._unknown[visit] = None

    def answered(self, visit: Visit) -> None:
        if visit in self._unknown:
            del self._unknown[visit]
            self._known[visit] = None
            visit.known = True

    def remove(self, visit: Visit) -> None:
        self._unknown.pop(visit, None)
        self._known.pop(visit, None)

    def make_room(self) -> None:
        """End those that are the most in excess."""
        kept_first = [visit for visit in self._unknown if visit.waits]
        kept_first += [visit for visit in reversed(self._unknown) if not visit.waits]
        excess = [*_ranked(kept_first), *_ranked(self._known)]
        excess.sort(key=lambda ranked: ranked[:2], reverse=True)
        for _, _, visit in excess[: self._at_once]:
            self._end(visit)

    def drop_all(self) -> None:
        for visit in [*self._unknown, *self._known]:
            self._end(visit)

    def _end(self, visit: Visit) -> None:
        self.remove(visit)
        visit.end()


def _ranked(visits: Iterable[Visit]) -> Iterator[tuple[int, int, Visit]]:
    """Those to be kept first come first: the how many-th of its client, and of all, each is."""
    seen: Counter[str] = Counter()
    for place, visit in enumerate(visits):
        seen[visit.client] += 1
        yield seen[visit.client], place, visit


def in_kernel(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not acknowledged yet, where the system says so (Linux), or none."""
    sock = transport.get_extra_info("socket")
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # closed, or another system
        return 0


class Shared(NamedTuple):
    """What the connections of a server have in common."""

    visits: Visits
    turns: Turns
    answers: Answers
    limits: Limits
    buffer: memoryview
    """Where each connection reads into; what is in it is used at once."""


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """uvicorn's protocol with an end to every wait, and with answers that are sent as they are taken."""

    def __init__(self, shared: Shared, visit: Visit, tls: Tls | None, **uvicorn: Any) -> None:  # noqa: ANN401  # uvicorn's own
        super().__init__(**uvicorn)
        self._shared = shared
        self._visit = visit
        self._tls = tls
        self._network: asyncio.Transport
        """The connection itself, below TLS."""
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._asked_at = 0.0
        self._timed: object = None
        """The request whose answer is under way."""
        self._status = 0
        self._resting = False
        """Between two requests."""
        self._reader: Answer | None = None
        """The latest answer, until the connection ends."""
        self._task: asyncio.Task[None] | None = None
        self._lost = False
        self._lines = 0
        """Of the head that is being received."""
        self._refused = False
        """What comes now is dropped."""

    @property
    def app(self) -> ASGIApp:
        """What uvicorn runs for a request. Not kept in an attribute: it refers to this object."""
        return self._answer

    @app.setter
    def app(self, application: ASGIApp) -> None:
        self._application = application

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        super().connection_made(transport)
        self._network = transport.get_extra_info(NETWORK) or transport
        self._visit.end = self._network.abort
        transport.set_write_buffer_limits(high=1, low=0)
        self._within(self._shared.limits.head)
        if self._tls is not None and not self._tls.admits(transport.get_extra_info("peercert")):
            self._network.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.transport.is_closing() or self._refused:
            return
        if self._resting:
            self._resting = False
            self._within(self._shared.limits.head)
        data = bytes(self._shared.buffer[:nbytes])
        if self.conn.their_state is h11.IDLE and self._has_too_many_lines(data):
            self._refuse_head()
            return
        self.data_received(data)
        if self.cycle is not None:
            self.cycle.body.clear()  # no request of ours has one
        self._look()

    def _has_too_many_lines(self, data: bytes) -> bool:
        """Counted before the head is parsed: of thousands of lines h11 makes 250 KB of objects."""
        head, end, _ = data.partition(b"\r\n\r\n")
        lines = self._lines + head.count(b"\n")
        self._lines = 0 if end else lines
        return lines > HEADERS + 1  # the request line, and the one that is not complete

    def _refuse_head(self) -> None:
        text = f"bad request: more than {HEADERS} header lines\n".encode()
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)
        )
        self._refused = True
        if self.transport.can_write_eof():  # closed with more to read, the answer would be lost
            self.transport.write_eof()
            self._within(1.0)
        else:
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's returns nothing
        """A client that says nothing more may still take an answer that has begun."""
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        return self._tls is None

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        if (error := sys.exception()) is not None:
            error.with_traceback(None)  # h11's refers to itself by it, and to this connection

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._lines = 0
        self._unset_keepalive_if_required()  # the only timer is ours
        if self._status < 400:
            self._shared.visits.answered(self._visit)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._reader = None  # they refer to each other
        self._stop_timer()
        self._unset_keepalive_if_required()
        self._shared.visits.remove(self._visit)
        super().connection_lost(exc)
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, as uvicorn runs it for one request. It ends with the connection."""
        if self._lost:
            return
        self._task = asyncio.current_task()
        quiet_since, self._visit.quiet_since = self._visit.quiet_since, self.loop.time()
        answer = self._reader = Answer(
            self._visit.client, self._visit.known, self._network.abort, self.loop.time(), self._waiting
        )

        def taken() -> bool:
            if self._timed is not None:  # the last piece has not been given
                self._is_read()
            return not self.transport.is_closing()

        async def send_noting_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            await send(message)

        piecewise = PiecewiseSend(scope, send_noting_status, self._shared.answers, answer, taken)
        try:
            self._visit.waits = True
            if len(scope["headers"]) <= HEADERS:  # else it is refused now: waiting, it would take memory
                await self._shared.turns.take(self._visit.client, quiet_since)
            self._visit.waits = False
            answer.taken_at = self.loop.time()
            await self._application(scope, receive, piecewise)
        except asyncio.CancelledError:
            if not self._lost:
                raise
        finally:
            self._shared.answers.end(answer)
            self._task = None

    # --- what this connection waits for, and how long -------------------------------------------------

    def _look(self) -> None:
        """What is this connection waiting for now?"""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._timed is not self.cycle:
                self._timed = self.cycle
                self._asked_at = self.loop.time()
                self._within(self._shared.limits.answer)
        elif self._timed is not None:
            self._timed = None
            if self.unsent():
                self._within(self._shared.limits.answer)
            elif self._idle():
                self._rest()
            else:
                self._within(self._shared.limits.head)

    def _idle(self) -> bool:
        """Between two requests, with nothing yet of the next."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _rest(self) -> None:
        self._resting = True
        self._within(self._shared.limits.keep_alive)

    def unsent(self) -> int:
        """Bytes that the network has not taken yet."""
        unsent: int = self._network.get_write_buffer_size()
        if self._network is not self.transport and not self.transport.is_closing():
            unsent += self.transport.get_write_buffer_size()
        return unsent

    def _waiting(self) -> int:
        """Bytes that the client has not acknowledged: beside those of ``unsent``, those in the kernel."""
        return self.unsent() + in_kernel(self._network)

    def _is_read(self) -> bool:
        """Whether the client has taken something of its answer since the last look; then it has more time."""
        now, patience = self.loop.time(), self._shared.limits.answer
        if self._reader is None or not self._reader.look(now):
            return False
        in_all = self._asked_at + patience + self._reader.taken / SLOWEST
        self._until(min(now + patience, in_all))
        return now < in_all

    def _within(self, seconds: float) -> None:
        self._until(self.loop.time() + seconds)

    def _until(self, deadline: float) -> None:
        """Moving it further away, as every piece of an answer does, costs no new timer."""
        self._deadline = deadline
        if self._timer is not None and self._timer.when() <= deadline:
            return
        self._stop_timer()
        if not self._lost:
            self._timer = self.loop.call_at(deadline, self._on_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        if self.loop.time() < self._deadline:
            self._until(self._deadline)
        elif self._refused:
            self._network.abort()
        elif self.unsent() or self._timed is not None:
            if not self._is_read():
                self._network.abort()
        elif not self._idle():
            self._network.abort()
        elif self._resting:
            self.timeout_keep_alive_handler()
        else:
            self._rest()  # what was unsent has been taken meanwhile
