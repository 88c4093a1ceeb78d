"""R12 Balance (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

import pytest

from testkit.world import SECOND
from tests.fake_api import PollerHarness, outage
from tests.polling.rules.support import run, started


@pytest.mark.slow
def test_every_publication_balances_through_a_faulty_hour(harness: PollerHarness) -> None:
    """Counters kept apart from the list of open jobs drift from it."""
    started(harness)
    for step in range(240):
        job = harness.api.create()
        if step % 3 == 0:
            harness.api.appears[job] = harness.clock.ms + (step % 17) * 15 * SECOND
        if step % 2 and step > 20:
            harness.api.finish(sorted(harness.api.jobs)[step // 2], "FAILED" if step % 5 else "SUCCEED")
        harness.api.fail = outage if step % 7 == 3 else lambda query: None
        harness.api.empty = step % 31 == 5
        run(harness)
    harness.api.fail, harness.api.empty = lambda query: None, False
    run(harness, 40)
    assert all(
        sum(view.created.values())
        == sum(view.finished.values())
        + sum(view.expired.values())
        + (sum(view.gauges.open_jobs.values()) if view.gauges else 0)
        for view in harness.views
    )
    assert harness.created() == 240


@pytest.mark.slow
def test_memory_is_bounded_by_what_is_open_and_recent(harness: PollerHarness) -> None:
    """Remembering every id ever seen would grow for ever."""
    started(harness)
    for _ in range(600):
        harness.api.create(state="SUCCEED")
        run(harness)
        if len(harness.api.jobs) > 200:
            del harness.api.jobs[min(harness.api.jobs)]
    assert harness.created() == 600
    assert len(harness.repository.ledger.jobs) < 50
