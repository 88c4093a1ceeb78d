"""What happened in the cloud is shown within one poll and two seconds, on every workload of the benchmark."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from benchmarks.freshness import GOAL, perfect_times, run
from benchmarks.poll_cost import HOUR, WORKLOADS, Workload

SHORT = [
    replace(one, measured=one.measured / 2, warm_up=HOUR if one.name == "stuck" else one.warm_up)
    for one in WORKLOADS
]
"""A part of what the benchmark plays."""


@pytest.mark.slow
@pytest.mark.parametrize("workload", SHORT, ids=lambda workload: workload.name)
def test_events_are_shown_within_an_interval_and_two_seconds(workload: Workload) -> None:
    """Of 100 events 99. The clock is the benchmark's own and the seed fixed: every run gives the same."""
    fresh = run(workload)
    for delays in (fresh.created, fresh.finished):
        assert delays.events > 0
        assert delays.p99 <= GOAL


def test_the_perfect_reader_learns_a_hundred_changes_a_request() -> None:
    """It waits for the answer, not for the next poll, and shows the oldest first."""
    events = [float(at) for at in range(150)]
    shown = dict(perfect_times(events, [50, 200, 400]))
    assert [shown[at] for at in (0.0, 50.0, 51.0, 149.0)] == [50, 50, 200, 200]
    assert dict(perfect_times([1.0] * 100 + [2.0], [10, 20])) == {1.0: 10, 2.0: 20}
