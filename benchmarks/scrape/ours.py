"""The exporter's own server on made-up books: python -m benchmarks.scrape.ours PORT SERIES."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.scrape import data
from exporter.exposition.render import Exposition
from exporter.web.app import create_app
from exporter.web.server import Server


def main(port: int, series: int) -> None:
    """Serve until killed."""
    size = next(size for size in data.SIZES if size.series == series)
    exposition = Exposition(data.api(size), data.PROCESS, created_timestamps=False)
    exposition.publish(data.published(size))
    app = create_app(exposition=exposition, ready=lambda: True, telemetry_path="/metrics")
    asyncio.run(Server(app, [f"127.0.0.1:{port}"]).serve(asyncio.Event()))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
