"""List requests per poll on five workloads, against what the rules force and two plainer pollers.

python -m benchmarks.poll_cost
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from benchmarks.bound import Bound
from exporter.simulator.arrivals import Effect, WorldOptions
from exporter.simulator.world import World
from testkit.world import (
    SECOND,
    FakeClock,
    NoStore,
    TargetHarness,
    WorldSource,
    ledger_settings,
    poll_settings,
)

START: Final = 1_750_000_020.0
INTERVAL: Final = 15.0
HOUR: Final = 3600.0
MILLION_A_DAY: Final = 1e6 / 24 / 60


class Workload(msgspec.Struct, frozen=True):
    """Jobs as they arrive, and for how long (seconds) the poller is watched."""

    name: str
    per_minute: float
    warm_up: float
    measured: float
    stuck: float = 0.0003
    bursts: bool = False
    outage: float = 0.0

    @property
    def measured_from(self) -> float:
        """Seconds since 1970."""
        return START + self.warm_up + self.outage


WORKLOADS: Final = (
    Workload("steady", MILLION_A_DAY, 0.4 * HOUR, 0.5 * HOUR),
    Workload("bursty", 60.0, HOUR, 2 * HOUR, bursts=True),
    Workload("stuck", 60.0, 4 * HOUR, HOUR, stuck=0.02),
    Workload("quiet", 0.1, 2 * HOUR, 6 * HOUR),
    Workload("catch-up", 60.0, HOUR, 0.25 * HOUR, outage=6 * HOUR),
)


class Costs(msgspec.Struct):
    """Requests, summed over the measured polls."""

    workload: str
    polls: int = 0
    ours: int = 0
    bound: float = 0.0
    relisting: int = 0
    """Every poll lists the last ``poll.window`` again."""
    lookups: int = 0
    """Every poll lists what is new and asks for each open job by id."""

    def row(self) -> str:
        a_poll = [value / self.polls for value in (self.ours, self.bound, self.relisting, self.lookups)]
        return (
            f"{self.workload:10} {self.polls:6d} {a_poll[0]:9.2f} {a_poll[1]:9.2f} {a_poll[2]:11.2f}"
            f" {a_poll[3]:9.2f} {self.ours / self.bound:8.2f} {self.relisting / self.ours:11.1f}"
            f" {self.lookups / self.ours:9.1f}"
        )


HEADER: Final = (
    f"{'workload':10} {'polls':>6} {'ours':>9} {'bound':>9} {'re-listing':>11} {'lookups':>9}"
    f" {'x bound':>8} {'re-list/our':>11} {'look/our':>9}"
)


def run(workload: Workload) -> Costs:
    """Play one workload."""
    return play(workload, *assembled(workload))


def assembled(workload: Workload) -> tuple[World, TargetHarness]:
    """The workload's jobs, and the target that polls them; both on the clock of the harness."""
    world = World(
        7, start=START, rate=workload.per_minute, options=WorldOptions(rhythm=0.0, stuck=workload.stuck)
    )
    clock = FakeClock()
    polls = poll_settings(interval=INTERVAL)
    harness = TargetHarness(WorldSource(world, clock), NoStore(), clock, polls, ledger_settings())
    harness.views = deque(maxlen=1)
    return world, harness


def play(
    workload: Workload,
    world: World,
    harness: TargetHarness,
    polled: Callable[[int, int], None] = lambda begun, requests: None,
) -> Costs:
    """``polled`` hears of each measured poll when it began, in milliseconds, and what it spent."""
    clock, settings = harness.clock, harness.ledger_settings
    bound = Bound(world, interval=settings.interval, overlap=settings.overlap, max_age=settings.max_job_age)
    costs, begin = Costs(workload.name), workload.measured_from
    at = START
    while at < begin + workload.measured:
        clock.ms = int(at * SECOND)
        world.advance(at)
        if workload.bursts and int((at - START) / INTERVAL) % 60 == 0:
            world.schedule(Effect(rate_factor=20.0), at + 60.0, at + 120.0)
        before = harness.reader.requests
        forced = bound.poll(now := clock.ms)
        naive = _pages(world, now - settings.window, now)
        plain = max(1, _pages(world, now - settings.interval, now)) + bound.open_jobs
        asyncio.run(harness.poller.poll())
        spent = harness.reader.requests - before
        if at >= begin:
            costs.polls += 1
            costs.ours += spent
            costs.bound += forced
            costs.relisting += max(1, naive)
            costs.lookups += plain
            polled(now, spent)
        outage = workload.outage if START + workload.warm_up <= at < begin else 0.0
        at = begin if outage else max(at + INTERVAL, clock.ms / SECOND)
    return costs


def _pages(world: World, since: int, until: int) -> int:
    jobs = world.between(since, until)
    return math.ceil((jobs.high - jobs.low) / 100)


class WorkloadResult(Protocol):
    """What one workload gave."""

    def row(self) -> str:
        """A line of the table."""


def print_results(header: str, measure: Callable[[Workload], WorkloadResult]) -> None:
    """A table of the workloads that the command line names, or of all, then the same as JSON."""
    chosen = [workload for workload in WORKLOADS if not sys.argv[1:] or workload.name in sys.argv[1:]]
    print(header)
    results = []
    for workload in chosen:
        results.append(measure(workload))
        print(results[-1].row(), flush=True)
    print(msgspec.json.encode(results).decode())


def main() -> None:
    print_results(HEADER, run)


if __name__ == "__main__":
    main()
