"""On every workload of the benchmarks: how soon what happened is shown, and how many requests that costs."""

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
def test_events_are_shown_soon_for_few_requests(workload: Workload) -> None:
    """Of 100 events 99 within an interval and two seconds, for a fifth more than the rules force at most.

    The clock is the benchmark's own, requests are counted and the seed is fixed: every run gives the same.
    """
    fresh = run(workload)
    for delays in (fresh.created, fresh.finished):
        assert delays.events > 0
        assert delays.p99 <= GOAL
    if workload.name != "stuck":  # test_bound has a longer part of it
        assert fresh.times_bound <= 1.2


def test_the_perfect_reader_learns_a_hundred_changes_a_request() -> None:
    """It waits for the answer, not for the next poll, and shows the oldest first."""
    events = [float(at) for at in range(150)]
    shown = dict(perfect_times(events, [50, 200, 400]))
    assert [shown[at] for at in (0.0, 50.0, 51.0, 149.0)] == [50, 50, 200, 200]
    assert dict(perfect_times([1.0] * 100 + [2.0], [10, 20])) == {1.0: 10, 2.0: 20}
