"""Serves an ASGI application from the running event loop, and stops within a second.

Knows uvicorn; knows nothing of what is served. Signals are the caller's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from exporter.web import listen

KEEP_ALIVE_SECONDS = 75
"""Longer than most scrape intervals, so that Prometheus keeps its connection."""

DRAIN_SECONDS = 0.5
"""How long answers under way may take once shutdown begins. Then their connections are cut."""


class Server:
    """One application on several addresses."""

    def __init__(self, app: ASGIApp, listen_addresses: Sequence[str]) -> None:
        """Listens at once, so that an address that cannot be had is known before anything else starts.

        Raises ExporterError. Connections wait until ``serve``.
        """
        self._app = app
        self._sockets = listen.listen(listen_addresses)
        self.urls = tuple(listen.url(sock) for sock in self._sockets)
        """``http://HOST:PORT`` of each address, with the port that a ``:0`` became."""

    def close(self) -> None:
        """Give the addresses up without having served."""
        listen.close(self._sockets)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; return once every connection is closed, a second later at most."""
        server = _Uvicorn(_config(self._app))
        watch = asyncio.create_task(_exit_when(stop, server))
        try:
            await server.serve(sockets=list(self._sockets))
        finally:
            watch.cancel()
            server.cut()
            self.close()


def _config(app: ASGIApp) -> uvicorn.Config:
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
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


async def _exit_when(stop: asyncio.Event, server: _Uvicorn) -> None:
    await stop.wait()
    server.should_exit = True
    await asyncio.sleep(DRAIN_SECONDS)
    server.force_exit = True  # ends uvicorn's own waiting
    server.cut()


class _Uvicorn(uvicorn.Server):
    """uvicorn as a part of a program: it handles no signals, and no connection outlives it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.servers = []  # until startup has made them

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def cut(self) -> None:
        """Accept nothing more and drop what is open, as after a cancellation or at the end of patience."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
