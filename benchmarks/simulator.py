"""``python -m benchmarks.simulator``: the simulator, with answers that arrive in one piece.

uvicorn writes the head of an answer and its body one after the other. Servers written in C send both at once,
and the client wakes up once for them instead of twice: what the exporter costs is measured against such a
server.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

from exporter.simulator.__main__ import main
from exporter.simulator.server import SimulatorProtocol


class _OneWriteTransport:
    """A connection that sends in one piece what was written in one round of the event loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._transport.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  all other methods are the transport's own
        return getattr(self._transport, name)


class OneWriteProtocol(SimulatorProtocol):
    """Answers in one piece."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as h11_impl has it
        super().connection_made(cast(asyncio.Transport, _OneWriteTransport(transport)))


if __name__ == "__main__":
    sys.exit(main(prog="python -m benchmarks.simulator", protocol=OneWriteProtocol))
