"""Serves a simulation over real HTTP on a loopback port, inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server

from .gateway import TRANSPORT


class SimulatorProtocol(H11Protocol):
    """Hands the connection to the gateway, which may have to cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as h11_impl has it
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class _ServerWithoutSignals(Server):
    """uvicorn's server without signal handlers of its own; ``listening`` is set once it listens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_simulator(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    protocol: type[SimulatorProtocol] = SimulatorProtocol,
) -> AsyncIterator[str]:
    """Serve until the block ends; gives the address, such as ``http://127.0.0.1:41231``.

    ``port`` 0 takes a free one. Raises OSError when it cannot listen.
    """
    listener = socket.create_server((host, port), backlog=512)
    # asyncio does so only for sockets made with proto=IPPROTO_TCP. Without it every answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,  # the loggers belong to the process, not to us
        access_log=False,
        date_header=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = _ServerWithoutSignals(config)
    bound_host, bound_port = listener.getsockname()[:2]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.listening.wait()
        yield f"http://{bound_host}:{bound_port}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
