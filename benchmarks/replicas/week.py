"""How large one target's rows are after a simulated week: python -m benchmarks.replicas.week [--days=7].

The real poller on a simulated world, half a job a second, on a clock that nobody waits for; a poll every
five minutes, as only the number of commits depends on that. Sizes are taken once as the server has them, with
what its autovacuum did in the minutes that the week took, and once after ``VACUUM FULL``: a server that runs
for a real week lies between. Beside it, what the same rows take in a SQLite file. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Final

from benchmarks.replicas.__main__ import number_of
from exporter.simulator.arrivals import WorldOptions
from exporter.simulator.world import World
from exporter.store import copy_rows, sqlite_target
from exporter.store.postgres import PostgresStore, postgres_source
from exporter.store.postgres.schema import SCHEMA
from testkit.postgres import PostgresServer, postgres_server, server_programs
from testkit.world import START, FakeClock, TargetHarness, WorldSource, ledger_settings, poll_settings

PER_MINUTE: Final = 30.0
INTERVAL: Final = 300_000
POLLS_A_DAY: Final = 288
TABLES: Final = ("jobs", "minutes", "totals", "targets", "label_sets")


async def play(store: PostgresStore, days: float) -> None:
    """So many days of jobs and polls."""
    clock = FakeClock()
    world = World(7, start=START / 1000, rate=PER_MINUTE, options=WorldOptions(rhythm=0.0))
    settings = poll_settings(interval=INTERVAL)
    harness = TargetHarness(WorldSource(world, clock), store, clock, settings, ledger_settings())
    harness.views = deque(maxlen=1)
    await harness.poll(round(days * POLLS_A_DAY), INTERVAL)


def sizes(server: PostgresServer) -> dict[str, tuple[int, int]]:
    """Rows and bytes by table, with its indexes."""
    return {
        table: (
            number_of(server, f"SELECT count(*) FROM {SCHEMA}.{table}", "books"),  # noqa: S608 - our own words
            number_of(server, f"SELECT pg_total_relation_size('{SCHEMA}.{table}')", "books"),
        )
        for table in TABLES
    }


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.replicas.week")
    flags.add_argument("--days", type=float, default=7.0)
    days = flags.parse_args().days
    programs = server_programs()
    if programs is None:
        raise SystemExit("no PostgreSQL server is installed")
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name, postgres_server(programs) as server:
        url = server.url(server.empty_database())
        store = PostgresStore(url)
        asyncio.run(play(store, days))
        store.close()
        found = sizes(server)
        server.execute("VACUUM FULL", "books")
        packed = sizes(server)
        print("| table | rows | KiB | KiB after VACUUM FULL |\n| --- | ---: | ---: | ---: |")
        for table in TABLES:
            rows, used = found[table]
            print(f"| {table} | {rows:,} | {used // 1024:,} | {packed[table][1] // 1024:,} |")
        all_found, all_packed = (sum(size for _, size in one.values()) // 1024 for one in (found, packed))
        print(f"| all | {sum(rows for rows, _ in found.values()):,} | {all_found:,} | {all_packed:,} |")
        file, begun = Path(name) / "copy.db", time.perf_counter()
        with sqlite_target(file) as written, postgres_source(url, lambda: None) as read:
            copy_rows(read, written, lambda _: None)
        seconds = time.perf_counter() - begun
        print(f"\nthe same in SQLite: {file.stat().st_size // 1024:,} KiB, copied in {seconds:.1f} s")
        print(f"load of the machine after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
