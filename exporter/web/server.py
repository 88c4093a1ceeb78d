"""Serves an ASGI application from the running event loop, and stops within a second.

Knows uvicorn; must not know what is served. Signals are the caller's business. Who gets an answer, and what a
client may cost, is decided in ``access/``, ``connections.py`` and ``protocol.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator, Sequence

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import Server as UvicornServer

from exporter.web import listen
from exporter.web.accepting import Acceptor
from exporter.web.access import AccessMiddleware, Tls, WebConfigReloader
from exporter.web.connections import Connection, Limits, OpenConnections
from exporter.web.protocol import READ_BYTES, HttpProtocol, ServerContext
from exporter.web.request_queue import RequestQueue
from exporter.web.request_validation import RequestValidator
from exporter.web.responses import LargeResponses

GRACE_SECONDS = 0.5
"""How long responses under way may take once shutdown begins. Then their connections are cut."""


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
        self.access = AccessMiddleware(app, self._web_config.settings)
        self._limits = limits or Limits()
        self._sockets = listen.listen(listen_addresses)
        self._context = ServerContext(
            OpenConnections(_within_open_files(self._limits.connections)),
            RequestQueue(),
            LargeResponses(self._limits.requests, self._limits.memory),
            self._limits,
            memoryview(bytearray(READ_BYTES)),
        )
        scheme = "http" if self._web_config.settings().tls is None else "https"
        self.urls = tuple(listen.url(sock, scheme) for sock in self._sockets)
        """``http://HOST:PORT`` of each address, with the port that a ``:0`` became."""

    @property
    def connections(self) -> int:
        """Open ones, those in their handshake included."""
        return len(self._context.connections)

    def close(self) -> None:
        """Give the addresses up without having served."""
        listen.close(self._sockets)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; return once every connection is closed, a second later at most."""
        server = _Uvicorn(
            _config(RequestValidator(self.access), self._limits), self._context, self._web_config
        )
        watching = [
            asyncio.create_task(_exit_when(stop, server, self.access)),
            asyncio.create_task(self._web_config.watch()),
        ]
        try:
            await server.serve(sockets=list(self._sockets))
        finally:
            for task in watching:
                task.cancel()
            server.cut()
            self.close()


def _within_open_files(wanted: int) -> int:
    """At most half of the files that this process may open: the other half is for the cloud and the store."""
    half = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    return min(wanted, half) if half > 0 else wanted


def _config(app: ASGIApp, limits: Limits) -> Config:
    return Config(
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


async def _exit_when(stop: asyncio.Event, server: _Uvicorn, access: AccessMiddleware) -> None:
    await stop.wait()
    access.close()
    server.should_exit = True
    await asyncio.sleep(GRACE_SECONDS)
    server.force_exit = True  # ends uvicorn's own waiting
    server.cut()


class _Uvicorn(UvicornServer):
    """uvicorn as a part of a program: it handles no signals, and no connection outlives it."""

    def __init__(self, config: Config, context: ServerContext, web_config: WebConfigReloader) -> None:
        super().__init__(config)
        self.servers = []  # connections come through our own acceptor
        self._context = context
        self._acceptor = Acceptor(
            context.connections, self._protocol, lambda: web_config.settings().tls, context.limits
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
        """Accept nothing more and close what is open, whatever is under way."""
        self._acceptor.close()
        self._context.connections.close_all()

    def _protocol(self, connection: Connection, tls: Tls | None) -> HttpProtocol:
        return HttpProtocol(
            self._context,
            connection,
            tls,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
