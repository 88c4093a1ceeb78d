"""A past for dashboards: the demo, lived through in virtual time, as blocks of a Prometheus database.

The real exporter polls the real simulator inside this process; only the clock is made up. So a week takes
minutes, and what the dashboards show is what the program would have published.

    python -m tests.grafana.history FOLDER    a week that ends now, for pictures
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import httpx
from msgspec.structs import replace

from exporter.cloud.shared_limits import SharedLimits
from exporter.commands.demo import configuration
from exporter.config.model import MetricsConfig
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.render import Exposition, process_view
from exporter.exposition.text import Format
from exporter.runtime.target import classifier, ledger_scope, ledger_settings, poll_settings, target_view
from exporter.simulator.api import build_app
from exporter.simulator.arrivals import WorldOptions
from exporter.simulator.incidents import Entry, Script
from exporter.simulator.simulation import new_simulation
from testkit.world import assemble, quick_store
from tests.cloud.harness import client_of

ENDPOINT: Final = "http://127.0.0.1:1"
"""Nobody listens there: requests go straight into the simulator."""
DEFAULT: Final = MetricsConfig()
HOUR: Final = 3600.0
DAY: Final = 86400.0
JOB: Final = "metastudio-tts"
BLOCK: Final = 2 * HOUR
"""promtool reads its whole input once per two hours of it."""


class TimedScrape(NamedTuple):
    at: float
    text: str


class Alert(NamedTuple):
    """A series that Prometheus itself would write while an alert fires."""

    name: str
    severity: str
    start: float
    end: float
    labels: str = 'target="demo"'


class Time:
    """Everybody's clock; waiting moves it."""

    def __init__(self, start: float) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


class Recorder:
    """The demo's exporter and cloud in virtual time: what ``App`` puts together, without its sockets."""

    def __init__(
        self, clock: Time, script: Script, rate: float, folder: Path, metrics: MetricsConfig = DEFAULT
    ) -> None:
        self.clock = clock
        options = WorldOptions(retention=14 * HOUR)
        cloud = new_simulation(rate=rate, history=HOUR, script=script, wall=clock, world_options=options)
        cloud.sleep = clock.sleep
        config = configuration(ENDPOINT, *next(iter(cloud.auth.accounts.keys.items())), folder)
        config = replace(config, poll=replace(config.poll, interval=15.0), metrics=metrics)
        (self.target,) = config.targets
        self.config = config
        self.classes = classifier(config)
        self.store = quick_store(folder / "books.db")
        api = ApiMetrics(clock())
        self.exposition = Exposition(api, process_view({}, loaded_at=clock()), created_timestamps=False)
        simulated, delays = httpx.ASGITransport(app=build_app(cloud)), random.Random(7)

        async def answer(request: httpx.Request) -> httpx.Response:
            """Every answer takes a little while."""
            clock.now += delays.lognormvariate(-2.6, 0.5)
            return await simulated.handle_async_request(request)

        self.client = client_of(
            self.target,
            events=api.target(self.target.name),
            shared=SharedLimits(claims=None, monotonic=clock, wall=clock, sleep=clock.sleep),
            environ={},
            monotonic=clock,
            wall=clock,
            sleep=clock.sleep,
            jitter=random.Random(3).random,
            transport=httpx.MockTransport(answer),
        )
        _, _, self.poller = assemble(
            self.client,
            self.store,
            ledger_settings(config, self.target, self.classes),
            replace(poll_settings(config, self.target), budget=300),
            lambda view: self.exposition.publish((view,)),
            identity=target_view(config, self.target, self.classes),
            scope=ledger_scope(self.target),
            retention=int(DAY * 1000),
            monotonic=clock,
            wall=clock,
            sleep=clock.sleep,
        )

    async def scrape(self, at: float) -> TimedScrape:
        """Poll at this time, or as soon after it as the one before has ended, and show the result."""
        self.clock.now = max(self.clock.now, at)
        await self.poller.poll()
        return TimedScrape(at, self.exposition.render(Format.PROMETHEUS).decode())

    async def close(self) -> None:
        await self.client.aclose()
        self.store.close()


async def live(
    times: Sequence[float], *, script: Script, rate: float, metrics: MetricsConfig = DEFAULT
) -> AsyncIterator[TimedScrape]:
    """What a scrape showed at each of these times; the script begins at the first."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Time(times[0]), script, rate, Path(folder), metrics)
        try:
            for at in times:
                yield await recorder.scrape(at)
        finally:
            await recorder.close()


# --- from scrapes to blocks -----------------------------------------------------------------------------


def samples(scrape: TimedScrape, labels: str) -> Iterator[str]:
    """The lines of a scrape as Prometheus would keep them: with its labels, and with the time."""
    for line in scrape.text.splitlines():
        if line.startswith("#"):
            continue
        series, _, value = line.rpartition(" ")
        name, brace, rest = series.partition("{")
        yield f"{name}{{{labels}{',' + rest if brace else '}'} {value} {scrape.at:.3f}\n"


def own(at: float, alerts: Iterable[Alert]) -> TimedScrape:
    """What Prometheus adds itself."""
    firing = [
        f'ALERTS{{alertname="{alert.name}",alertstate="firing",severity="{alert.severity}",{alert.labels}}} 1'
        for alert in alerts
        if alert.start <= at <= alert.end
    ]
    return TimedScrape(at, "\n".join(["up 1", *firing]))


class Blocks:
    """Collects samples in time order, and makes blocks of a Prometheus database of them."""

    def __init__(self, promtool: Path, folder: Path) -> None:
        self._promtool = promtool
        self._folder = folder
        self._path = folder / "samples.om"
        self._file = self._path.open("w")

    def add(self, lines: Iterable[str]) -> None:
        self._file.writelines(lines)

    def flush(self) -> None:
        """Into the database with what was added."""
        self._file.write("# EOF\n")
        self._file.close()
        arguments = ["tsdb", "create-blocks-from", "openmetrics", str(self._path), str(self._folder)]
        subprocess.run([str(self._promtool), *arguments], check=True, capture_output=True)
        self._file = self._path.open("w")

    def close(self) -> None:
        self.flush()
        self._file.close()
        self._path.unlink()


def replica(number: int) -> str:
    return f'instance="exporter-{number}:10047",job="{JOB}"'


# --- a week -----------------------------------------------------------------------------------------

_LAST_HOURS: Final = (
    Entry(1.0 * HOUR, 900, "traffic_spike"),
    Entry(2.2 * HOUR, 600, "throttling"),
    Entry(3.0 * HOUR, 900, "stuck_queue"),
    Entry(4.0 * HOUR, 800, "voice_removed"),
    Entry(4.6 * HOUR, 500, "outage"),
    Entry(5.1 * HOUR, 700, "slow_service"),
    Entry(5.6 * HOUR, 300, "sensitive_burst"),
)
"""Of the last six: something of everything, and all well at the end."""


def week(now: float) -> tuple[list[float], Script, tuple[Alert, ...]]:
    """When to scrape, what happens, and which alerts fired."""
    start, last = now - 7 * DAY - 7 * HOUR, now - 6 * HOUR
    times = set(_every(600, start, now)) | set(_every(15, last, now)) | set(_every(60, now - 2 * DAY, now))
    times |= set(_every(30, now - 7 * DAY - 6 * HOUR, now - 7 * DAY))
    script = Script(tuple(entry._replace(start=entry.start + last - start) for entry in _LAST_HOURS))
    alerts = (
        Alert("MetaStudioTTSFailureBudgetBurningFast", "critical", last + 4.05 * HOUR, last + 4.4 * HOUR),
        Alert("MetaStudioTTSThrottled", "warning", last + 2.3 * HOUR, last + 2.5 * HOUR),
        Alert("MetaStudioTTSQueueStuck", "warning", last + 3.2 * HOUR, last + 3.4 * HOUR),
        Alert("MetaStudioTTSUnclassifiedShareHigh", "info", now - 1200, now),
    )
    return sorted(times), script, alerts


def _every(seconds: float, since: float, until: float) -> Iterator[float]:
    return (since + seconds * step for step in range(int((until - since) / seconds) + 1))


async def write_week(promtool: Path, folder: Path, now: float) -> None:
    times, script, alerts = week(now)
    blocks = Blocks(promtool, folder)
    block = times[0] // BLOCK
    async for scrape in live(times, script=script, rate=60.0):
        if scrape.at // BLOCK != block:
            block = scrape.at // BLOCK
            blocks.flush()
            print(time.strftime("%d %H:%M", time.gmtime(scrape.at)), flush=True)
        blocks.add(samples(scrape, replica(0)))
        blocks.add(samples(own(scrape.at, alerts), replica(0)))
    blocks.close()


if __name__ == "__main__":
    asyncio.run(write_week(Path("promtool"), Path(sys.argv[1]), time.time() // 60 * 60))
