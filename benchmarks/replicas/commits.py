"""What a commit costs in PostgreSQL beside SQLite: python -m benchmarks.replicas.commits.

The real poller works on a simulated world, on a clock that nobody waits for; each of its commits is kept, and
then made once more in every store, in turns, so that whatever else the machine does meets all of them. Both
wait for the disk, as they do in life (``fsync``, ``synchronous=FULL``); the server is one of its own, on a
socket of this machine. Beside the statement that the exporter makes of a commit are two other ways to write
the same rows in one transaction: ``executemany``, a pipeline of one statement a row; and COPY into temporary
tables, and from there with one statement a table.

CPU is that of the client's process, and of all processes of the server.
"""

from __future__ import annotations

import asyncio
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg

from benchmarks.targets.__main__ import cpu_seconds
from exporter.ledger import IDS_MASK
from exporter.simulator.world import World
from exporter.store.base import Commit, Store
from exporter.store.postgres import PostgresStore
from exporter.store.postgres.schema import SCHEMA
from exporter.store.sqlite import SqliteStore
from exporter.units import MINUTE
from testkit.postgres import PostgresServer, postgres_server, server_programs
from testkit.world import (
    START,
    FakeClock,
    NoStore,
    TargetHarness,
    WorldSource,
    ledger_settings,
    poll_settings,
)

WORKLOADS: Final = {"half a job a second": 30.0, "a million jobs a day": 694.0}
"""Jobs a minute."""
INTERVAL: Final = 15_000
WARM_UP: Final = 60
"""Polls before those that are measured: their commits are made, too."""
MEASURED: Final = 120
SCOPE: Final = "region=cn-north-4"
DURABLE: Final = {"fsync": "on", "full_page_writes": "on"}


class KeptCommits(NoStore):
    """As they were when they were made: their jobs change."""

    def __init__(self) -> None:
        self.made: list[Commit] = []

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        self.made.append(copy.deepcopy(commit))


class CommitCost(msgspec.Struct, frozen=True):
    """Of one way to write, in milliseconds a commit."""

    workload: str
    way: str
    rows: float
    mean: float
    p50: float
    p99: float
    client_cpu: float
    server_cpu: float


async def commits_of(per_minute: float) -> list[Commit]:
    """Of a poller that settles, forgets and looks again as in life."""
    store, clock = KeptCommits(), FakeClock()
    world = World(7, start=START / 1000, rate=per_minute)
    harness = TargetHarness(
        WorldSource(world, clock), store, clock, poll_settings(interval=INTERVAL), ledger_settings()
    )
    await harness.poll(WARM_UP + MEASURED, INTERVAL)
    return store.made


def rows_of(commit: Commit) -> int:
    changes = commit.changes
    parts = (changes.jobs, changes.evicted, changes.totals, changes.minutes, changes.label_sets)
    return 1 + sum(map(len, parts))


# --- other ways to write the same rows --------------------------------------------------------------------

_KEYS: Final = {
    "jobs": 3,
    "totals": 5,
    "minutes": 6,
}
_COLUMNS: Final = {
    "jobs": (
        "target, created, job_id, state, job_type, tts_service_enum, text_length, last_checked, misses,"
        " missing_since, flags"
    ),
    "totals": "target, name, job_type, tts_service_enum, detail, value",
    "minutes": "target, minute, job_type, tts_service_enum, state, detail, jobs, characters, ids",
}


def _rows(commit: Commit, key: int) -> dict[str, list[tuple[Any, ...]]]:
    changes = commit.changes
    return {
        "jobs": [
            (key, job.created, job_id.encode(), *msgspec.structs.astuple(job)[1:])
            for job_id, job in changes.jobs.items()
        ],
        "totals": [(key, *total, value) for total, value in changes.totals.items() if value is not None],
        "minutes": [
            (key, *minute, *add, changes.minute_ids.get(minute, 0)) for minute, add in changes.minutes.items()
        ],
    }


def _put(table: str, source: str) -> str:
    columns = _COLUMNS[table].split(", ")
    added = table == "minutes"
    values = ", ".join(
        f"{name} = ({table}.{name} + excluded.{name}) & {IDS_MASK}" if added else f"{name} = excluded.{name}"
        for name in columns[_KEYS[table] :]
    )
    key = ", ".join(columns[: _KEYS[table]])
    return (
        f"INSERT INTO {SCHEMA}.{table} ({_COLUMNS[table]}) {source}"
        f" ON CONFLICT ({key}) DO UPDATE SET {values}"
    )


class OtherWay:
    """A transaction that checks the version first, as ``PostgresStore`` does."""

    def __init__(self, url: str, name: str, *, by_copy: bool) -> None:
        self._db = psycopg.connect(url, autocommit=True)
        self._by_copy = by_copy
        self._target = f"SELECT id FROM {SCHEMA}.targets WHERE name = '{name}'"  # noqa: S608 - our own words
        made = self._db.execute(
            f"INSERT INTO {SCHEMA}.targets (name) VALUES ('{name}') RETURNING id".encode()  # noqa: S608 - our own words
        ).fetchone()
        self._key = int(made[0]) if made else 0

    def close(self) -> None:
        self._db.close()

    def commit(self, commit: Commit) -> None:
        with self._db.transaction(), self._db.cursor() as cursor:
            cursor.execute(
                f"UPDATE {SCHEMA}.targets SET version = version + 1 WHERE id = %s AND version = %s".encode(),  # noqa: S608
                (self._key, commit.version),
            )
            gone = [(self._key, created, job_id.encode()) for job_id, created in commit.changes.evicted]
            cursor.executemany(
                f"DELETE FROM {SCHEMA}.jobs WHERE target = %s AND created = %s AND job_id = %s".encode(),  # noqa: S608
                gone,
            )
            for table, rows in _rows(commit, self._key).items():
                if self._by_copy:
                    cursor.execute(
                        f"CREATE TEMP TABLE new_{table} (LIKE {SCHEMA}.{table} INCLUDING DEFAULTS)"
                        " ON COMMIT DROP".encode()
                    )
                    with cursor.copy(f"COPY new_{table} ({_COLUMNS[table]}) FROM STDIN".encode()) as sink:
                        for row in rows:
                            sink.write_row(row)
                    cursor.execute(
                        _put(table, f"SELECT {_COLUMNS[table]} FROM new_{table}").encode()  # noqa: S608
                    )
                elif rows:
                    places = ", ".join(["%s"] * len(rows[0]))
                    cursor.executemany(_put(table, f"VALUES ({places})").encode(), rows)
            cursor.execute(
                f"DELETE FROM {SCHEMA}.minutes WHERE target = %s AND minute < %s".encode(),  # noqa: S608
                (self._key, commit.keep_minutes_since // MINUTE),
            )


# --- measured ---------------------------------------------------------------------------------------------


def server_cpu(server: PostgresServer) -> float:
    """Seconds of all its processes, those that ended too."""
    pids = [server.pid, *children_of(server.pid)]
    ended = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    seconds = sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
    for pid in pids:
        with suppress(OSError):  # it ended just now
            seconds += cpu_seconds(pid)
    return seconds


def children_of(pid: int) -> list[int]:
    """By the parent that each process names: ``/proc/PID/task/PID/children`` fails while one of them ends."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def measure(workload: str, made: list[Commit], server: PostgresServer, folder: Path) -> list[CommitCost]:
    """Each commit in every store before the next one."""
    url = server.url(server.empty_database())
    stores: dict[str, Store] = {
        "SQLite": SqliteStore(folder / f"{len(made)}-{time.time_ns()}.db"),
        "PostgreSQL": PostgresStore(url),
    }
    for store in stores.values():
        store.load("t", SCOPE, 0, 0)
    ways: dict[str, Callable[[Commit], None]] = {
        name: lambda commit, store=store: store.commit("t", SCOPE, commit)  # type: ignore[misc]
        for name, store in stores.items()
    }
    others = {
        "with executemany": OtherWay(url, "executemany", by_copy=False),
        "with COPY": OtherWay(url, "copy", by_copy=True),
    }
    ways |= {name: other.commit for name, other in others.items()}
    walls: dict[str, list[float]] = {name: [] for name in ways}
    ours, theirs = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for number, commit in enumerate(made):
        for name, write in ways.items():
            server_before, before, begun = server_cpu(server), time.process_time(), time.perf_counter()
            write(commit)
            wall, used = time.perf_counter() - begun, time.process_time() - before
            if number >= WARM_UP:
                walls[name].append(1000 * wall)
                ours[name] += 1000 * used
                theirs[name] += 1000 * (server_cpu(server) - server_before)
    count = len(made) - WARM_UP
    rows = statistics.mean(rows_of(commit) for commit in made[WARM_UP:])
    for store in stores.values():
        store.close()
    for other in others.values():
        other.close()
    return [
        CommitCost(
            workload,
            name,
            rows,
            statistics.mean(walls[name]),
            statistics.median(walls[name]),
            sorted(walls[name])[int(0.99 * count)],
            ours[name] / count,
            theirs[name] / count,
        )
        for name in ways
    ]


HEADER: Final = (
    "| | rows a commit | mean | p50 | p99 | CPU of the client | CPU of the server | mean, times SQLite |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def main() -> None:
    programs = server_programs()
    if programs is None:
        raise SystemExit("no PostgreSQL server is installed")
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    results: list[CommitCost] = []
    with tempfile.TemporaryDirectory() as name, postgres_server(programs, **DURABLE) as server:
        for workload, per_minute in WORKLOADS.items():
            costs = measure(workload, asyncio.run(commits_of(per_minute)), server, Path(name))
            print(f"\n{workload}; ms a commit\n\n{HEADER}")
            for cost in costs:
                walls = f"{cost.mean:.1f} | {cost.p50:.1f} | {cost.p99:.1f}"
                cpu, times = f"{cost.client_cpu:.2f} | {cost.server_cpu:.2f}", cost.mean / costs[0].mean
                print(f"| {cost.way} | {cost.rows:.0f} | {walls} | {cpu} | {times:.1f} |", flush=True)
            results += costs
    print(f"\nload after: {os.getloadavg()[0]:.1f}\n{msgspec.json.encode(results).decode()}")


if __name__ == "__main__":
    main()
