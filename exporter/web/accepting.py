"""Takes connections from listening sockets: many at a time, and each for next to nothing until it speaks.

Knows sockets, TLS contexts and how many may be connected; must not know HTTP. A connection gets a transport
and a protocol with its first byte; until then it is a socket in a list: a flood of silent ones costs little.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from exporter.web.access.clients import client_of
from exporter.web.access.tls import Tls, TlsProtocol
from exporter.web.connections import Limits, Visit, Visits
from exporter.web.handshakes import Handshakes
from exporter.web.memory import GiveBack

AT_ONCE: Final = 128
"""Connections taken before those that are open have their turn: taking one costs 20 microseconds."""
PAUSE_SECONDS: Final = 0.05
"""When the system has no file or memory for another one."""
SWEEP_SECONDS: Final = 0.5
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Accepts, waits for the first byte, shakes hands and hands over to a protocol."""

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
        self._listeners: list[socket.socket] = []
        self._silent: dict[socket.socket, tuple[Visit, float]] = {}
        """Those that have not said anything yet, or wait for their handshake, and since when they are here,
        the longest first.
        """
        self._handshakes = Handshakes()
        self._connecting: set[asyncio.Task[None]] = set()
        self._give_back = GiveBack()
        self._sweeping: asyncio.TimerHandle | None = None

    def open(self, listeners: Iterable[socket.socket]) -> None:
        """Accept from these until ``close``."""
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            self._listen(listener)
        self._sweep()

    def close(self) -> None:
        """Accept no more, and end those that have not spoken."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        self._listeners = []
        if self._sweeping is not None:
            self._sweeping.cancel()
        for sock in list(self._silent):
            self._end(sock)

    def _listen(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for _ in range(AT_ONCE):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _FULL:
                    continue  # this client is gone
                self._visits.make_room()
                loop.remove_reader(listener)
                loop.call_later(PAUSE_SECONDS, self._listen, listener)
                return
            sock.setblocking(False)
            visit = Visit(client_of(address[0]), now)
            visit.end = partial(self._end, sock)
            self._visits.add(visit)
            self._silent[sock] = visit, now
            loop.add_reader(sock, self._speaks, sock)

    def _speaks(self, sock: socket.socket) -> None:
        """A client's first byte, or its end."""
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
        visit, _ = self._silent[sock]
        if self._tls() is None:
            self._begin(sock)
        else:
            self._handshakes.add(visit, partial(self._begin, sock), loop.time())

    def _begin(self, sock: socket.socket) -> None:
        """From here on it is more than a socket."""
        loop = asyncio.get_running_loop()
        visit, _ = self._silent.pop(sock)
        task = loop.create_task(self._connect(sock, visit))
        visit.end = task.cancel
        self._connecting.add(task)
        task.add_done_callback(partial(self._connected, sock, visit))

    async def _connect(self, sock: socket.socket, visit: Visit) -> None:
        """Ending the visit is the protocol's business from then on."""
        loop, tls = asyncio.get_running_loop(), self._tls()

        def shaken() -> None:
            self._handshakes.remove(visit, loop.time())

        def protocol() -> asyncio.BaseProtocol:
            inner = self._protocol(visit, tls)
            if tls is None:
                shaken()
                return inner
            return TlsProtocol(
                loop,
                inner,
                tls,
                handshake_seconds=self._limits.handshake,
                shutdown_seconds=self._limits.handshake,
                made=lambda transport: setattr(visit, "end", transport.abort),
                shaken=shaken,
                lost=lambda: self._forget(visit),
            )

        await loop.connect_accepted_socket(protocol, sock)

    def _connected(self, sock: socket.socket, visit: Visit, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._forget(visit)
            sock.close()

    def _forget(self, visit: Visit) -> None:
        self._visits.remove(visit)
        self._handshakes.remove(visit, asyncio.get_running_loop().time())

    def _end(self, sock: socket.socket) -> None:
        visit, _ = self._silent.pop(sock)
        self._forget(visit)
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()

    def _sweep(self) -> None:
        """End who has been silent for too long."""
        loop = asyncio.get_running_loop()
        self._give_back.look(len(self._visits))
        self._handshakes.hurry(loop.time())
        patience = self._limits.head if self._tls() is None else self._limits.handshake
        while self._silent:
            sock, (_, since) = next(iter(self._silent.items()))
            if loop.time() - since < patience:
                break
            self._end(sock)
        self._sweeping = loop.call_later(min(SWEEP_SECONDS, patience), self._sweep)
