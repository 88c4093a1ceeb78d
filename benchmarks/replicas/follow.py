"""What it costs to show what another replica committed of a target: python -m benchmarks.replicas.follow.

The commits of the real poller, half a job a second for two hours, are made by one process; after each of the
last ones another process reads the target: once as a follower that has read it before, and once whole.
Milliseconds of wall clock and of CPU, and bytes from the server. Prints Markdown.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

import msgspec

from benchmarks.replicas.commits import INTERVAL, SCOPE, KeptCommits
from exporter.ledger import StoredLedger
from exporter.simulator.world import World
from exporter.store import minutes_loaded
from exporter.store.base import Commit
from exporter.store.postgres import PostgresStore
from testkit.postgres import PostgresServer, postgres_server, server_programs
from testkit.tcp_proxy import TcpProxy, tcp_proxy
from testkit.world import START, FakeClock, TargetHarness, WorldSource, ledger_settings, poll_settings

PER_MINUTE: Final = 30.0
POLLS: Final = 480
MEASURED: Final = 40
"""Of the last polls' commits."""
TARGETS: Final = 200
RENEWAL: Final = 5.0
"""Seconds between two reads, with the default lease."""


class FollowCost(msgspec.Struct, frozen=True):
    """Of one way to read, a read."""

    way: str
    wall: float
    cpu: float
    """Of the client, in milliseconds as well."""
    received: float
    """Bytes."""


async def commits_until_now() -> tuple[list[Commit], int]:
    """Of the poller, and the time at their end."""
    store, clock = KeptCommits(), FakeClock()
    world = World(7, start=START / 1000, rate=PER_MINUTE)
    settings = poll_settings(interval=INTERVAL), ledger_settings()
    harness = TargetHarness(WorldSource(world, clock), store, clock, *settings)
    await harness.poll(POLLS, INTERVAL)
    return store.made, clock.ms


class TimedReader:
    """A process that follows, or one that has never read the target."""

    def __init__(self, way: str, url: str, network: TcpProxy) -> None:
        self._way = way
        self._store = PostgresStore(url)
        self._network = network
        self._wall = self._cpu = 0.0
        self._received = 0

    def read(self, now: int, *, counts: bool) -> StoredLedger:
        if self._way == "whole":
            self._store.renew((), 60.0)  # of no target: forgets what it read
        received, cpu, begun = self._network.received, time.thread_time(), time.perf_counter()
        found = self._store.read_committed("t", SCOPE, now, minutes_loaded(ledger_settings()))
        if counts:
            self._wall += time.perf_counter() - begun
            self._cpu += time.thread_time() - cpu
            self._received += self._network.received - received
        return found

    def cost(self) -> FollowCost:
        self._store.close()
        wall, cpu = 1000 * self._wall / MEASURED, 1000 * self._cpu / MEASURED
        return FollowCost(self._way, wall, cpu, self._received / MEASURED)


def measure(server: PostgresServer) -> list[FollowCost]:
    made, now = asyncio.run(commits_until_now())
    database = server.empty_database()
    holder = PostgresStore(server.url(database))
    with tcp_proxy(server.port) as network:
        url = server.tcp_url(database, port=network.port)
        readers = [TimedReader(way, url, network) for way in ("what changed", "whole")]
        for number, commit in enumerate(made):
            holder.commit("t", SCOPE, commit)
            if (place := number - len(made) + MEASURED) >= -1:
                found = [reader.read(now, counts=place >= 0) for reader in readers]
        holder.close()
        print(
            f"{len(found[0].totals)} totals, {len(found[0].minutes)} counts by minute,"
            f" {len(found[0].jobs)} open jobs; the same either way: {same(*found)}\n"
        )
        return [reader.cost() for reader in readers]


def same(one: StoredLedger, other: StoredLedger) -> bool:
    return (one.version, one.totals, sorted(one.minutes), one.jobs) == (
        other.version,
        other.totals,
        sorted(other.minutes),
        other.jobs,
    )


def main() -> None:
    programs = server_programs()
    if programs is None:
        raise SystemExit("no PostgreSQL server is installed")
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}\n")
    with postgres_server(programs) as server:
        costs = measure(server)
    print("| read | wall, ms | CPU, ms | received, kB | CPU of 200 targets, each 5 s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for cost in costs:
        core = 100 * cost.cpu / 1000 * TARGETS / RENEWAL
        print(
            f"| {cost.way} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.received / 1000:.0f} | {core:.0f} % |"
        )


if __name__ == "__main__":
    main()
