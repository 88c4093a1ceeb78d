"""Serves an ASGI application from the running event loop, and stops within a second.

Knows uvicorn; knows nothing of what is served. Signals are the caller's business, who may come in is
``guard.py``'s and ``connections.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from exporter.web import listen
from exporter.web.accepting import Acceptor
from exporter.web.access.middleware import AccessMiddleware
from exporter.web.access.reloader import WebConfigReloader
from exporter.web.access.tls import Tls
from exporter.web.answers import Answers
from exporter.web.connections import READ_BYTES, Connection, Limits, Shared, Visit, Visits
from exporter.web.requests import WellFormed
from exporter.web.turns import Turns

Application = ASGIApp
"""What can be served."""

DRAIN_SECONDS = 0.5
"""How long answers under way may take once shutdown begins. Then their connections are cut."""


class Server:
    """One application on several addresses."""

    def __init__(
        self,
        app: ASGIApp,
        listen_addresses: Sequence[str],
        *,
        web_config: WebConfigReloader | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Listens at once, so that an address that cannot be had is known before anything else starts.

        Raises ExporterError. Connections wait until ``serve``.
        """
        self._web_config = web_config or WebConfigReloader(None)
        self.guard = AccessMiddleware(app, self._web_config.settings)
        self._limits = limits or Limits()
        self._sockets = listen.listen(listen_addresses)
        self._shared = Shared(
            Visits(_room(self._limits.connections)),
            Turns(),
            Answers(self._limits.requests, self._limits.memory),
            self._limits,
            memoryview(bytearray(READ_BYTES)),
        )
        scheme = "http" if self._web_config.settings().tls is None else "https"
        self.urls = tuple(listen.url(sock, scheme) for sock in self._sockets)
        """``http://HOST:PORT`` of each address, with the port that a ``:0`` became."""

    @property
    def connections(self) -> int:
        """Open ones, those in their handshake included."""
        return len(self._shared.visits)

    def close(self) -> None:
        """Give the addresses up without having served."""
        listen.close(self._sockets)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; return once every connection is closed, a second later at most."""
        server = _Uvicorn(_config(WellFormed(self.guard), self._limits), self._shared, self._web_config)
        watching = [
            asyncio.create_task(_exit_when(stop, server, self.guard)),
            asyncio.create_task(self._web_config.watch()),
        ]
        try:
            await server.serve(sockets=list(self._sockets))
        finally:
            for task in watching:
                task.cancel()
            server.cut()
            self.close()


def _room(wanted: int) -> int:
    """So many connections at most that the cloud and the store are left half of the files we may open."""
    half = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    return min(wanted, half) if half > 0 else wanted


def _config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="error",  # what strangers send is not an event that an operator acts on
        timeout_keep_alive=limits.keep_alive,
        h11_max_incomplete_event_size=limits.head_bytes,
    )


async def _exit_when(stop: asyncio.Event, server: _Uvicorn, guard: AccessMiddleware) -> None:
    await stop.wait()
    guard.close()
    server.should_exit = True
    await asyncio.sleep(DRAIN_SECONDS)
    server.force_exit = True  # ends uvicorn's own waiting
    server.cut()


class _Uvicorn(uvicorn.Server):
    """uvicorn as a part of a program: it handles no signals, and no connection outlives it."""

    def __init__(self, config: uvicorn.Config, shared: Shared, web_config: WebConfigReloader) -> None:
        super().__init__(config)
        self.servers = []  # connections come through our own acceptor
        self._shared = shared
        self._acceptor = Acceptor(
            shared.visits, self._protocol, lambda: web_config.settings().tls, shared.limits
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self._acceptor.open(sockets or ())
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._acceptor.close()
        await super().shutdown(sockets)

    def cut(self) -> None:
        """Accept nothing more and drop what is open, as after a cancellation or at the end of patience."""
        self._acceptor.close()
        self._shared.visits.drop_all()

    def _protocol(self, visit: Visit, tls: Tls | None) -> Connection:
        return Connection(
            self._shared,
            visit,
            tls,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
