"""Connections and their bounds: how many, how long a handshake, a request's head and an answer may take.

Knows sockets, TLS contexts and uvicorn's protocol; must not know what is asked or answered. Whatever a
client does or leaves undone, its connection ends, and there is always room for the next one: when there are
too many, the client that has the most loses the one it left alone longest.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.web.clients import client_of
from exporter.web.tls import Tls

_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHUTDOWN_SECONDS: Final = 2.0


class Limits(NamedTuple):
    """Seconds, and a number. Prometheus itself gives up after 10 seconds by default."""

    connections: int = 512
    handshake: float = 5.0
    head: float = 10.0
    """From a connection's start, or a request's first byte, to the end of its head; also for the rest of a
    body that nobody asked for."""
    answer: float = 60.0
    """From the end of a request's head until the client has taken its answer."""
    keep_alive: int = 75
    """Longer than most scrape intervals, so that Prometheus keeps its connection."""
    head_bytes: int = 16 * 1024
    """Of a request; a quarter more may get through."""


class Visit:
    """One accepted connection, from before its handshake to its end."""

    def __init__(self, client: str, now: float) -> None:
        self.client = client
        self.since = now
        """When it last did something useful: connected, asked, or was answered."""
        self.end: Callable[[], object] = lambda: None


class Visits:
    """Everybody who is connected, by client and longest idle first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clients: dict[str, dict[Visit, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, visit: Visit) -> None:
        if self._count >= self._limit:
            self.drop_one()
        self._clients.setdefault(visit.client, {})[visit] = None
        self._count += 1

    def touch(self, visit: Visit, now: float) -> None:
        if visit in (mine := self._clients.get(visit.client, {})):
            visit.since = now
            mine[visit] = mine.pop(visit)

    def remove(self, visit: Visit) -> None:
        mine = self._clients.get(visit.client, {})
        if visit in mine:
            del mine[visit]
            self._count -= 1
            if not mine:
                del self._clients[visit.client]

    def drop_one(self) -> None:
        """End the longest idle connection of the client that has the most of them."""
        if self._clients:
            crowd = min(self._clients.values(), key=lambda mine: (-len(mine), next(iter(mine)).since))
            visit = next(iter(crowd))
            self.remove(visit)
            visit.end()

    def drop_all(self) -> None:
        while self._clients:
            self.drop_one()


class Door:
    """Takes connections from a listening socket, shakes hands and hands them to a protocol."""

    def __init__(
        self,
        visits: Visits,
        protocol: Callable[[Visit, Tls | None], asyncio.Protocol],
        tls: Callable[[], Tls | None],
        limits: Limits,
    ) -> None:
        self._visits = visits
        self._protocol = protocol
        self._tls = tls
        self._limits = limits
        self._greetings: dict[asyncio.Task[bool], Visit] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Until cancelled, or the socket is closed."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while listener.fileno() >= 0:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _FULL:
                    self._visits.drop_one()
                await asyncio.sleep(0.05)
                continue
            self._welcome(connection, Visit(client_of(address[0]), loop.time()))

    def close(self) -> None:
        """End the handshakes under way."""
        for visit in list(self._greetings.values()):
            visit.end()

    def _welcome(self, connection: socket.socket, visit: Visit) -> None:
        task = asyncio.get_running_loop().create_task(self._greet(connection, visit))

        def end_before_it_began() -> None:
            task.cancel()
            connection.close()

        visit.end = end_before_it_began
        self._visits.add(visit)
        self._greetings[task] = visit
        task.add_done_callback(self._greeted)

    def _greeted(self, task: asyncio.Task[bool]) -> None:
        visit = self._greetings.pop(task)
        if task.cancelled() or not task.result():
            self._visits.remove(visit)

    async def _greet(self, connection: socket.socket, visit: Visit) -> bool:
        """Whether a connection came of it."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        visit.end = task.cancel
        try:
            await self._connect(connection, visit)
        except OSError:
            return False  # no TLS, a certificate that does not verify, gone, too slow: no event
        return True

    async def _connect(self, connection: socket.socket, visit: Visit) -> None:
        loop, tls = asyncio.get_running_loop(), self._tls()
        if tls is None:
            await loop.connect_accepted_socket(lambda: self._protocol(visit, None), connection)
            return
        await loop.connect_accepted_socket(
            lambda: self._protocol(visit, tls),
            connection,
            ssl=tls.context,
            ssl_handshake_timeout=self._limits.handshake,
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )


class Connection(H11Protocol):
    """uvicorn's protocol with an end to every wait."""

    def __init__(self, visits: Visits, visit: Visit, tls: Tls | None, limits: Limits, **uvicorn: Any) -> None:  # noqa: ANN401  # uvicorn's own
        super().__init__(**uvicorn)
        self._visits = visits
        self._visit = visit
        self._tls = tls
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._timed: object = None
        """The request whose answer the timer is for."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        super().connection_made(transport)
        self._visit.end = transport.abort
        self._within(self._limits.head)
        if self._tls is not None and not self._tls.admits(transport.get_extra_info("peercert")):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            self._within(self._limits.head)
        # h11 refuses a long head only while it is incomplete: it must not come all at once.
        step = self._limits.head_bytes // 4
        for begin in range(0, len(data), step):
            if self.transport.is_closing():
                return
            super().data_received(data[begin : begin + step])
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_timer()
        self._visits.remove(self._visit)
        super().connection_lost(exc)

    def _look(self) -> None:
        """What is this connection waiting for now?"""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._timed is not self.cycle:
                self._timed = self.cycle
                self._progress()
                self._within(self._limits.answer)
        elif self._timed is not None:
            self._timed = None
            self._progress()
            if self._unsent():
                return  # the answer's time goes on until the client has taken it
            if self._idle():
                self._no_timer()  # uvicorn's own timer ends it
            else:
                self._within(self._limits.head)

    def _idle(self) -> bool:
        """Between two requests, with nothing yet of the next."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _unsent(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    def _progress(self) -> None:
        self._visits.touch(self._visit, self.loop.time())

    def _within(self, seconds: float) -> None:
        self._no_timer()
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _no_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self.timeout_keep_alive_task is None or self._unsent() or not self._idle():
            self.transport.abort()
