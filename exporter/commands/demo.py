"""``demo``: the bundled simulator and the exporter polling it over HTTP with signed requests, in one process.

The store is temporary: every demo starts to count from nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from exporter import log
from exporter.app import App
from exporter.config import AkskAuth, Config, PollConfig, Secret, StorageConfig, TargetConfig
from exporter.errors import ExporterError
from exporter.process import reason
from exporter.simulator import (
    DEMO_SCRIPT,
    INCIDENTS,
    PROJECT_ID,
    REGION,
    Entry,
    Script,
    build_app,
    new_simulation,
    serve_simulator,
)

JOBS_PER_MINUTE = 120.0
HISTORY_SECONDS = 3600.0
_FOREVER = 1e9


async def demo(
    stop_event: Callable[[], asyncio.Event],
    *,
    listen_addresses: Sequence[str],
    telemetry_path: str,
    incidents: Sequence[str],
    redactor: log.Redactor,
) -> None:
    """Run until a signal comes. Raises ExporterError when it cannot listen, or for an unknown incident.

    ``incidents``: these from the start on, instead of some in turn.
    """
    stop = stop_event()
    for name in incidents:
        if name not in INCIDENTS:
            raise ExporterError(f"--incident {name!r} is unknown; there are {', '.join(sorted(INCIDENTS))}")
    script = Script(tuple(Entry(0.0, _FOREVER, name) for name in incidents)) if incidents else DEMO_SCRIPT
    cloud = new_simulation(rate=JOBS_PER_MINUTE, history=HISTORY_SECONDS, script=script)
    cloud.now()  # makes the jobs of the last hour before anybody asks
    with _temporary_folder() as folder:
        async with serve_simulator(build_app(cloud)) as endpoint:
            app = App(
                configuration(endpoint, *next(iter(cloud.auth.accounts.keys.items())), Path(folder)),
                listen_addresses=listen_addresses,
                telemetry_path=telemetry_path,
                environ={},
                redactor=redactor,
            )
            print("A simulated MetaStudio is polled every 5 seconds. Open:")
            for address in app.server.urls:
                print(f"  {address}/         the status page")
                print(f"  {address}{telemetry_path}  the metrics")
            print(f"  {endpoint}/simulator/truth  what the simulator knows to be true")
            print("Stop with Ctrl-C.", flush=True)
            await app.run(stop)


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """For the store. Raises ExporterError."""
    try:
        return tempfile.TemporaryDirectory(prefix="metastudio-tts-demo-")
    except OSError as error:
        raise ExporterError(
            f"demo needs a folder for its store: set TMPDIR to one that can be written to ({reason(error)})"
        ) from error


def configuration(endpoint: str, access_key: str, secret_key: str, folder: Path) -> Config:
    """Short intervals, so that a visitor sees something happen."""
    return Config(
        storage=StorageConfig(url=f"sqlite:///{folder / 'demo.db'}"),
        poll=PollConfig(interval=5.0, timeout=30.0, window=1800.0, overlap=30.0),
        targets=(
            TargetConfig(
                name="demo",
                region=REGION,
                endpoint=endpoint,
                iam_endpoint=endpoint,
                project_id=PROJECT_ID,
                auth=AkskAuth(Secret(access_key), Secret(secret_key)),
                rate_limit=20.0,
            ),
        ),
    )
