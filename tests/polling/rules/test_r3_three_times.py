"""R3 Three times (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness, outage
from tests.polling.rules.support import run, started


def test_a_cached_date_holds_the_settled_time_back(harness: PollerHarness) -> None:
    """Settling by our own clock would pass a stretch that the API had not yet listed."""
    started(harness)
    harness.clock.frozen_at = harness.clock.ms
    before = harness.view.gauges
    harness.api.create()
    run(harness, 80)
    assert before is not None
    assert harness.view.gauges is not None
    assert harness.view.gauges.counted_until == before.counted_until
    assert harness.created() == 1
    harness.clock.frozen_at = None
    run(harness, 5)
    assert harness.view.gauges.counted_until > harness.clock.ms - 12 * MINUTE


def test_a_wall_clock_that_steps_changes_nothing(harness: PollerHarness) -> None:
    """Windows cut by the wall clock would skip or repeat what it stepped over."""
    started(harness)
    wall = iter([10**9 * step for step in (3, 1, 2, 5, 4)] * 100)
    harness.wall = lambda: float(next(wall))
    jobs = [harness.api.create(harness.clock.ms + step * 15 * SECOND) for step in range(60)]
    run(harness, 70)
    assert harness.created() == len(jobs)


def test_a_wrong_clock_at_a_start_without_the_api_drops_nothing(harness: PollerHarness) -> None:
    """Pruning by our own clock would empty the gauge, and the stored minutes behind it."""
    started(harness)
    for _ in range(50):
        harness.api.create(state="SUCCEED")
    run(harness, 3)
    harness.api.fail = outage
    harness.clock.known = 0
    harness.restart()
    harness.wall = lambda: harness.clock.ms / SECOND + 40 * 86_400
    run(harness, 2)
    harness.api.fail = lambda query: None
    harness.restart()
    run(harness, 2)
    assert harness.view.gauges is not None
    assert harness.view.gauges.jobs is not None
    assert sum(harness.view.gauges.jobs.values()) == 50
