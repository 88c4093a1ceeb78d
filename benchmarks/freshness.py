"""How long after a job was created, or finished, a scrape could show it, on the workloads of ``poll_cost``.

    python -m benchmarks.freshness [workload ...]

The same polls on the same clock, which nobody waits for: a request takes 0.2 s, everything else no time. An
event is shown as soon as a view that counts it is published. Which jobs a view counts is asked of the ledger,
as nothing but the committed ledger is published (R10, docs/counting.md).

*Perfect* is a reader that makes as many requests in each poll, at the same times, but knows what has changed:
each request shows it a hundred changes, the oldest first, and every answer is published at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from benchmarks.poll_cost import INTERVAL, Workload, assembled, play, print_results
from exporter.ledger import TargetView
from exporter.simulator.job import SimulatedJob
from exporter.simulator.world import World
from testkit.world import REQUEST, SECOND, TargetHarness

GOAL: Final = INTERVAL + 2.0
"""Seconds, for 99 of 100 events."""
YOUNG: Final = 20 * INTERVAL
"""Seconds. Older open jobs are not checked in every poll (R9, docs/counting.md)."""
LAST: Final = 4 * INTERVAL
"""Seconds at the end whose events are left out: there is no time to show them."""
PAGE: Final = 100


class Event(msgspec.Struct, frozen=True):
    """Milliseconds since 1970."""

    at: float
    shown: float


class Delays(msgspec.Struct, frozen=True):
    """Seconds."""

    events: int
    p50: float
    p99: float
    perfect_p50: float
    perfect_p99: float


class Freshness(msgspec.Struct, frozen=True):
    """Of one workload, jobs younger than ``YOUNG``."""

    workload: str
    requests: float
    """A poll."""
    times_bound: float
    created: Delays
    finished: Delays

    def row(self) -> str:
        cells = [self.workload, f"{self.requests:.2f}", f"{self.times_bound:.2f}"]
        for delays in (self.created, self.finished):
            cells += [
                f"{delays.p50:.1f}",
                f"**{delays.p99:.1f}**",
                f"{delays.perfect_p50:.1f}, {delays.perfect_p99:.1f}",
            ]
        return f"| {' | '.join(cells)} |"


HEADER: Final = (
    "| workload | requests | / bound | created: p50 | p99 | perfect | finished: p50 | p99 | perfect |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


class ShownEvents(deque[TargetView]):
    """Takes each published view, and notes which jobs it is the first to count."""

    def __init__(self, world: World, harness: TargetHarness) -> None:
        super().__init__(maxlen=1)
        self._world = world
        self._harness = harness
        self._met = 0
        """Jobs of the world that were met: those below, and those shown as finished."""
        self._unseen: dict[str, SimulatedJob] = {}
        self._open: dict[str, SimulatedJob] = {}
        self._created: list[Event] = []
        self._finished: list[Event] = []

    def append(self, view: TargetView) -> None:
        super().append(view)
        now, jobs = self._harness.clock.ms, self._harness.repository.ledger.jobs
        for job in self._world.jobs[self._met :]:
            self._unseen[job.job_id] = job
        self._met = len(self._world.jobs)
        for job_id, job in [item for item in self._unseen.items() if jobs.get(item[0]) is not None]:
            self._open[job_id] = self._unseen.pop(job_id)
            self._created.append(Event(job.listed * SECOND, now))
        for job_id in [job_id for job_id in self._open if (known := jobs.get(job_id)) and not known.open]:
            self._finish(self._open.pop(job_id), now)

    def _finish(self, job: SimulatedJob, now: float) -> None:
        if job.finished - job.listed < YOUNG:
            self._finished.append(Event(job.finished * SECOND, now))

    def end(self) -> tuple[list[Event], list[Event]]:
        """Created and finished; what was not shown yet is counted as if it were, now."""
        now = self._harness.clock.ms
        for job in self._unseen.values():
            self._created.append(Event(job.listed * SECOND, now))
        for job in [*self._unseen.values(), *self._open.values()]:
            self._finish(job, now)
        return self._created, self._finished


def run(workload: Workload) -> Freshness:
    """Play one workload."""
    world, harness = assembled(workload)
    harness.views = shown = ShownEvents(world, harness)
    answers: list[int] = []

    def polled(begun: int, requests: int) -> None:
        answers.extend(begun + REQUEST * (number + 1) for number in range(requests))

    costs = play(workload, world, harness, polled)
    begin = workload.measured_from * SECOND
    end = begin + (workload.measured - LAST) * SECOND
    created, finished = (
        sorted((event for event in events if begin <= event.at < end), key=lambda event: event.at)
        for events in shown.end()
    )
    perfect = dict(perfect_times(sorted(event.at for event in [*created, *finished]), answers))
    return Freshness(
        workload.name,
        costs.ours / costs.polls,
        costs.ours / costs.bound,
        _delays(created, perfect),
        _delays(finished, perfect),
    )


def perfect_times(events: list[float], answers: list[int]) -> Iterator[tuple[float, float]]:
    """Each event and when the perfect reader shows it."""
    next_event = 0
    for answer in answers:
        shown = min(bisect_right(events, answer), next_event + PAGE)
        yield from ((event, answer) for event in events[next_event:shown])
        next_event = max(next_event, shown)


def _delays(events: list[Event], perfect: dict[float, float]) -> Delays:
    ours = sorted((event.shown - event.at) / SECOND for event in events)
    theirs = sorted((perfect[event.at] - event.at) / SECOND for event in events)
    return Delays(
        len(events),
        *(delays[int(share * len(delays))] for delays in (ours, theirs) for share in (0.5, 0.99)),
    )


def main() -> None:
    print_results(HEADER, run)


if __name__ == "__main__":
    main()
