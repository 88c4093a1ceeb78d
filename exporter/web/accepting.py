"""Takes connections from listening sockets: many at a time, and each at little cost until its client speaks.

Knows sockets, TLS contexts and how many may be connected; must not know HTTP. A connection gets a transport
and a protocol with its first byte. Until then it is a socket in a list, so a flood of silent ones costs
little.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from exporter.web.access import Tls, TlsProtocol, client_of
from exporter.web.connections import Connection, Limits, OpenConnections
from exporter.web.handshakes import HandshakeQueue
from exporter.web.memory import MemoryTrimmer

AT_ONCE: Final = 128
"""Connections taken before open ones have their turn again; taking one costs 20 microseconds."""
PAUSE_SECONDS: Final = 0.05
"""Before the next try, when the system has no file or memory for another connection."""
SWEEP_SECONDS: Final = 0.5
"""How often connections are ended that have been silent for too long."""
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """A connection's way: accepted, first byte, TLS handshake if any, then handed over to a protocol."""

    def __init__(
        self,
        connections: OpenConnections,
        protocol: Callable[[Connection, Tls | None], asyncio.Protocol],
        tls: Callable[[], Tls | None],
        limits: Limits,
    ) -> None:
        self._connections = connections
        self._protocol = protocol
        self._tls = tls
        self._limits = limits
        self._listeners: list[socket.socket] = []
        self._waiting: dict[socket.socket, tuple[Connection, float]] = {}
        """Sockets whose client has not spoken yet, or waits for its handshake, and when they were accepted;
        the oldest first.
        """
        self._handshakes = HandshakeQueue()
        self._connecting: set[asyncio.Task[None]] = set()
        self._memory = MemoryTrimmer()
        self._sweeping: asyncio.TimerHandle | None = None

    def open(self, listeners: Iterable[socket.socket]) -> None:
        """Accept from these until ``close``."""
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            self._listen(listener)
        self._sweep()

    def close(self) -> None:
        """Accept no more, and end the connections whose client has not spoken."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        self._listeners = []
        if self._sweeping is not None:
            self._sweeping.cancel()
        for sock in list(self._waiting):
            self._end(sock)

    def _listen(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self.accept, listener)

    def accept(self, listener: socket.socket) -> None:
        """Take the connections that wait, a round of them.

        It is a single one when all that are open wait for us, as a single request begins in each round of the
        event loop, too. So those that come faster than they can be answered wait in the system's queue,
        instead of taking each other's place before their requests are read.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        for _ in range(AT_ONCE):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # this client is gone
                self._connections.make_room()
                loop.remove_reader(listener)
                loop.call_later(PAUSE_SECONDS, self._listen, listener)
                return
            crowded = self._connections.crowded
            sock.setblocking(False)
            connection = Connection(client_of(address[0]), now)
            connection.close = partial(self._end, sock)
            self._connections.add(connection)
            self._waiting[sock] = connection, now
            loop.add_reader(sock, self._on_first_byte, sock)
            if crowded:
                return

    def _on_first_byte(self, sock: socket.socket) -> None:
        """The client has sent something, or has gone."""
        try:
            gone = not sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            gone = True
        if gone:
            self._end(sock)
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        connection, _ = self._waiting[sock]
        if self._tls() is None:
            connection.waits_for_us = True
            self._begin(sock)
        else:
            self._handshakes.add(connection, partial(self._begin, sock), loop.time())

    def _begin(self, sock: socket.socket) -> None:
        """From here on the connection is more than a socket."""
        loop = asyncio.get_running_loop()
        connection, _ = self._waiting.pop(sock)
        task = loop.create_task(self._connect(sock, connection))
        connection.close = task.cancel
        self._connecting.add(task)
        task.add_done_callback(partial(self._connected, sock, connection))

    async def _connect(self, sock: socket.socket, connection: Connection) -> None:
        """Give it a transport and a protocol, which from then on says how the connection is closed."""
        loop, tls = asyncio.get_running_loop(), self._tls()

        def handshake_done() -> None:
            self._handshakes.remove(connection, loop.time())

        def protocol() -> asyncio.BaseProtocol:
            inner = self._protocol(connection, tls)
            if tls is None:
                handshake_done()
                return inner
            return TlsProtocol(
                loop,
                inner,
                tls,
                handshake_seconds=self._limits.handshake,
                shutdown_seconds=self._limits.handshake,
                on_connected=lambda transport: setattr(connection, "close", transport.abort),
                on_handshake_done=handshake_done,
                on_lost=lambda: self._forget(connection),
            )

        await loop.connect_accepted_socket(protocol, sock)

    def _connected(self, sock: socket.socket, connection: Connection, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._forget(connection)
            sock.close()

    def _forget(self, connection: Connection) -> None:
        self._connections.remove(connection)
        self._handshakes.remove(connection, asyncio.get_running_loop().time())

    def _end(self, sock: socket.socket) -> None:
        connection, _ = self._waiting.pop(sock)
        self._forget(connection)
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()

    def _sweep(self) -> None:
        """End whoever has been silent for too long; again after ``SWEEP_SECONDS``."""
        loop = asyncio.get_running_loop()
        self._memory.update(len(self._connections))
        self._handshakes.end_slow(loop.time())
        patience = self._limits.head if self._tls() is None else self._limits.handshake
        while self._waiting:
            sock, (_, since) = next(iter(self._waiting.items()))
            if loop.time() - since < patience:
                break
            self._end(sock)
        self._sweeping = loop.call_later(min(SWEEP_SECONDS, patience), self._sweep)
