"""R5 Reading (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

from tests.fake_api import PollerHarness, outage
from tests.polling.rules.support import run, started


def test_a_new_job_is_counted_by_the_next_poll(harness: PollerHarness) -> None:
    """Reading only what is old enough to be settled would show every job five minutes late."""
    started(harness).api.create()
    run(harness)
    assert harness.created() == 1


def test_what_a_broken_read_showed_is_counted(harness: PollerHarness) -> None:
    """Throwing a broken read away would starve a list that breaks at every second page."""
    started(harness)
    for _ in range(150):
        harness.api.create()
    harness.api.fail = lambda query: outage(query) if query.offset else None
    assert run(harness, 2) == "failed"
    assert harness.created() >= 100
    harness.api.fail = lambda query: None
    run(harness, 30)
    assert harness.created() == 150
