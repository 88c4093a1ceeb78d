"""R8 Progress (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery
from testkit.world import MINUTE, SECOND, START
from tests.fake_api import PollerHarness, outage
from tests.polling.rules.support import run, started


def test_after_a_long_outage_every_job_is_caught_up(harness: PollerHarness) -> None:
    """A window that only reaches back a little would lose the outage."""
    started(harness)
    harness.api.fail = outage
    begin = harness.clock.ms
    for minute in range(6 * 60):
        harness.api.create(begin + minute * MINUTE, state="SUCCEED")
    harness.clock.ms += 6 * 60 * MINUTE
    run(harness, 3)
    harness.api.fail = lambda query: None
    run(harness, 40)
    assert harness.created() == harness.finished() == 360


def test_a_catch_up_that_fails_again_and_again_gets_on(harness: PollerHarness) -> None:
    """Committing only the whole catch-up would start over for ever."""
    started(harness)
    begin = harness.clock.ms
    for number in range(2000):
        harness.api.create(begin + number * 10 * SECOND, state="SUCCEED")
    harness.clock.ms += 2000 * 10 * SECOND
    answers = 0

    def flaky(query: JobsQuery) -> ApiError | None:
        nonlocal answers
        answers += 1
        return outage(query) if answers % 4 == 0 else None

    harness.api.fail = flaky
    run(harness, 150)
    harness.api.fail = lambda query: None
    run(harness, 10)
    assert harness.created() == 2000


def test_what_is_beyond_max_catch_up_is_skipped_once(harness: PollerHarness) -> None:
    """Going back without an end would never arrive; skipping silently would look like no traffic."""
    started(harness)
    begin = harness.clock.ms
    for hour in range(48):
        harness.api.create(begin + hour * 60 * MINUTE + MINUTE, state="SUCCEED")
    harness.clock.ms += 48 * 60 * MINUTE
    harness.restart()
    run(harness, 60)
    assert harness.created() == 24
    skipped = harness.view.skipped_ms
    assert abs(skipped - 24 * 60 * MINUTE) < 10 * MINUTE
    run(harness, 20)
    assert harness.view.skipped_ms == skipped


def test_a_jump_is_not_repeated_while_nothing_can_be_read(harness: PollerHarness) -> None:
    """Jumping at every failed poll would skip what a single jump had promised to read."""
    started(harness).api.create()
    run(harness)
    harness.clock.ms += 3 * 24 * 60 * MINUTE
    harness.restart()
    harness.api.fail = lambda query: outage(query) if (query.since or 0) > START - MINUTE else None
    run(harness, 5)
    skipped = harness.view.skipped_ms
    assert skipped > 0
    run(harness, 100)
    assert harness.view.skipped_ms == skipped
