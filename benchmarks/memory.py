"""Memory: what a target costs, a pair of labels, a remembered job, a connection; and what each import costs.

    python -m benchmarks.memory [targets] [imports]

Targets: a store is filled by its own code, and its targets are loaded as by a start, in a process of their
own; what that adds to the resident memory is divided by their number. No text of metrics is made. Then they
poll a simulator, over plain HTTP, and each keeps its connection. Imports: one after the other in one new
process, in the order in which a start comes to them, so that each has what it adds to those before it.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from exporter import log
from exporter.cloud import SharedLimits
from exporter.config import Config, load_config
from exporter.exposition import ApiMetrics, Exposition, Publisher
from exporter.ledger import JOB_TYPES, TTS_SERVICES, Changes, Job, TargetView, Watermarks, configured_buckets
from exporter.ledger.totals import INF, SUM, TotalKey
from exporter.runtime import Fleet, SharedResources
from exporter.runtime.target import classifier, ledger_settings
from exporter.store import SqliteStore
from exporter.store.base import Commit
from testkit.processes import ROOT, simulator, write_config

TARGETS: Final = 200
JOBS: Final = 1000
"""Remembered by each target where they are measured."""
MINUTE: Final = 60_000
DAY: Final = 1440 * MINUTE
SHOWN_MINUTES: Final = 60
KIB: Final = 1024
PAIRS: Final = tuple(itertools.product(JOB_TYPES, TTS_SERVICES))
PROJECT: Final = "5a1de0000000000000000000000000a1"
SCOPE: Final = "region=cn-north-4"

IMPORTS: Final = (
    "asyncio", "logging", "argparse", "msgspec", "yaml", "re2", "exporter.config", "exporter.cli", "sqlite3",
    "exporter.store", "exporter.cloud", "prometheus_client", "exporter.exposition", "exporter.polling", "h11",
    "starlette.applications", "exporter.web", "exporter.app", "certifi", "httpcore",
    "anyio._backends._asyncio", "bcrypt", "zoneinfo", "jinja2", "rich.console", "exporter.commands.check",
)  # fmt: skip
"""``exporter.app`` is the last of a start. Then comes the first request; then what few exporters need."""


class NoText(Exposition):
    """Shows nothing."""

    def __init__(self) -> None:
        """Without metrics of its own."""

    def publish(self, views: Iterable[TargetView]) -> None:
        for _ in views:
            pass

    def replace(self, view: TargetView) -> None:
        pass


class ViewsOnly(Publisher):
    """Keeps what is published, and makes no text of it."""

    def __init__(self) -> None:
        super().__init__(NoText())

    @property
    def polls(self) -> int:
        """That every target has made."""
        return min(sum(view.polls.values()) if view else 0 for view in self._views.values())


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def write_store(path: Path, targets: Sequence[str], config: Config, pairs: int, jobs: int) -> None:
    """Targets with every total of so many pairs, an hour of counts by minute of those, and finished jobs."""
    settings = ledger_settings(config, config.targets[0], classifier(config))
    now = int(time.time()) * 1000
    with closing(SqliteStore(path)) as store:
        store.db.execute("PRAGMA synchronous = OFF")
        for place, target in enumerate(targets):
            changes = Changes(
                watermarks=Watermarks(
                    now - 1440 * MINUTE, now - 5 * MINUTE, now - 10 * MINUTE, now - 1440 * MINUTE
                ),
                jobs={
                    f"{place:08x}-0000-4000-a000-{number:012x}": Job(
                        now - number * 300_000 // jobs, "SUCCEED", *PAIRS[number % 24], 120, now
                    )
                    for number in range(jobs)
                },
                evicted=(),
                totals=dict(totals(PAIRS[:pairs], configured_buckets(settings))),
                minutes={
                    (now // MINUTE - minute, *pair, "SUCCEED", ""): (3, 360)
                    for minute in range(SHOWN_MINUTES)
                    for pair in PAIRS[:pairs]
                },
                label_sets=(),
            )
            commit = Commit(
                version=0,
                changes=changes,
                project_id=PROJECT,
                last_complete_poll=now,
                buckets=configured_buckets(settings),
                keep_minutes_since=0,
            )
            store.commit(target, SCOPE, commit)


def totals(
    pairs: Iterable[tuple[str, str]], buckets: dict[str, tuple[int, ...]]
) -> Iterable[tuple[TotalKey, int]]:
    for job_type, service in pairs:

        def key(name: str, detail: str = "", labels: tuple[str, str] = (job_type, service)) -> TotalKey:
            return name, *labels, detail

        yield key("created"), 1000
        yield key("finished", "SUCCEED"), 950
        yield key("finished", "FAILED"), 40
        yield key("expired", "max_age"), 10
        yield key("synthesized"), 120_000
        for name in ("timeout", "sensitive_text", "no_message", "unclassified"):
            yield key("failures", name), 10
        for name, bounds in buckets.items():
            for detail in (*map(str, bounds), INF, SUM):
                yield key(name, detail), 1000


async def measure(config: Config, polls: bool) -> list[int]:
    """Resident bytes: before the targets are loaded, after it, and with ``polls`` after two of each."""
    api = ApiMetrics(0.0)
    publisher = ViewsOnly()
    with closing(SqliteStore(config.storage.sqlite_file)) as store, ThreadPoolExecutor(1) as executor:
        resources = SharedResources(
            store, executor, SharedLimits(claims=None), {}, api, {}, publisher.publish, log.Redactor(), None
        )
        fleet = Fleet(config, resources, publisher)
        found = [resident()]
        await fleet.load()
        found.append(resident())
        if polls:
            async with asyncio.TaskGroup() as tasks:
                fleet.start(tasks)
                while publisher.polls < 2:  # noqa: ASYNC110 - no event to wait for
                    await asyncio.sleep(0.05)
                found.append(resident())
                fleet.stop()
        await fleet.close()
    return found


def in_own_process(
    folder: Path, endpoint: str, targets: int, pairs: int, jobs: int, *, polls: bool
) -> list[int]:
    """What ``measure`` returns there."""
    folder.mkdir()
    path = write_config(folder, endpoint)
    document = msgspec.json.decode(path.read_bytes())
    names = [f"customer-{number}" for number in range(targets)]
    (only,) = document["targets"]
    document["targets"] = [{**only, "name": name, "rate_limit": 1000} for name in names]
    path.write_bytes(msgspec.json.encode(document))
    write_store(folder / "books.db", names, read_config(path), pairs, jobs)
    command = [sys.executable, "-m", "benchmarks.memory", "--process", str(path), str(int(polls))]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own words
    return msgspec.json.decode(ran.stdout, type=list[int])


def read_config(path: Path) -> Config:
    return load_config(path, environ={}, warn=lambda _: None)


def cost_of_targets(folder: Path, targets: int = TARGETS, jobs: int = JOBS) -> dict[str, float]:
    """KiB each; a remembered job in bytes."""
    with simulator(folder, "--rate=0", "--history=1") as url:
        bare, loaded, polling = in_own_process(folder / "pairs", url, targets, 24, 0, polls=True)
        without = in_own_process(folder / "bare", url, targets, 0, 0, polls=False)
        remembering = in_own_process(folder / "jobs", url, targets, 24, jobs, polls=False)
    empty, full = (without[1] - without[0]) / targets, (loaded - bare) / targets
    return {
        "a target that never saw a job, KiB": empty / KIB,
        "a pair, KiB": (full - empty) / 24 / KIB,
        "a target with all 24 pairs, KiB": full / KIB,
        "the same, polling, with its connection, KiB": (polling - bare) / targets / KIB,
        "a remembered job, bytes": (remembering[1] - remembering[0] - full * targets) / targets / jobs,
    }


def cost_of_imports() -> list[tuple[str, float, float]]:
    """Name, MiB and milliseconds of CPU, each in addition to those before it."""
    code = f"""
import os, sys, time
def now():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20, time.process_time() * 1000
print("Python", *now())
for name in {IMPORTS}:
    size, cpu = now()
    __import__(name)
    print(name, now()[0] - size, now()[1] - cpu)
"""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603 - our own words
    rows = [line.split() for line in ran.stdout.splitlines()]
    return [(name, float(size), float(cpu)) for name, size, cpu in rows]


def main() -> None:
    if sys.argv[1:2] == ["--process"]:
        _, _, path, polls = sys.argv
        found = asyncio.run(measure(read_config(Path(path)), polls == "1"))
        print(msgspec.json.encode(found).decode())
        return
    chosen = sys.argv[1:] or ["targets", "imports"]
    results: dict[str, Any] = {}
    if "targets" in chosen:
        with tempfile.TemporaryDirectory() as folder:
            results["targets"] = cost_of_targets(Path(folder))
        for what, value in results["targets"].items():
            print(f"{what:48} {value:9.1f}")
    if "imports" in chosen:
        cost_of_imports()  # compiles them
        results["imports"] = cost_of_imports()
        for name, size, cpu in results["imports"]:
            print(f"{name:48} {size:9.2f} MiB {cpu:7.1f} ms")
    print(msgspec.json.encode(results).decode(), flush=True)


if __name__ == "__main__":
    main()
