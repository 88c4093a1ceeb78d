"""Catching up after downtime: in order, within its part of the budget, with the news going on (R5, R8,
docs/counting.md).
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from exporter.errors import ApiError, ErrorKind
from exporter.ledger.record import JobsQuery
from exporter.polling.settle import Backlog
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness, outage


@pytest.fixture
def harness(store: SqliteStore) -> PollerHarness:
    """Ten jobs are open when six hours of a job every three seconds go by unseen."""
    harness = PollerHarness(store, budget=12)
    asyncio.run(harness.poll(4))
    for _ in range(10):
        harness.api.create()
    asyncio.run(harness.poll(2))
    begin = harness.clock.ms
    for number in range(6 * 60 * 20):
        harness.api.create(begin + number * 3 * SECOND, state="SUCCEED")
    harness.clock.ms += 6 * 60 * MINUTE
    return harness


def behind(harness: PollerHarness) -> int:
    assert harness.view.gauges is not None
    return harness.clock.ms - harness.view.gauges.counted_until


def test_an_open_job_that_finishes_in_a_catch_up_counts_soon(harness: PollerHarness) -> None:
    """Reading the backlog first and the open jobs after it would be hours late with them."""
    for job in sorted(harness.api.jobs)[:10]:
        harness.api.finish(job, "FAILED")
    asyncio.run(harness.poll(2))
    assert harness.finished("FAILED") == 10
    assert behind(harness) > 60 * MINUTE


def test_what_happens_in_a_catch_up_is_shown_in_the_next_poll(harness: PollerHarness) -> None:
    """Created and finished: news waits for no backlog, and the backlog is read to its end all the same."""
    asyncio.run(harness.poll(2))
    before = harness.created()
    job_id = harness.api.create()
    asyncio.run(harness.poll())
    assert behind(harness) > 60 * MINUTE
    assert harness.repository.ledger.jobs.get(job_id) is not None
    harness.api.finish(job_id, "FAILED")
    asyncio.run(harness.poll())
    assert behind(harness) > 60 * MINUTE
    assert harness.finished("FAILED") == 1
    asyncio.run(harness.poll(60))
    assert before < harness.created() == 11 + 6 * 60 * 20


def test_news_is_read_for_an_hour_while_the_backlog_is_stuck(harness: PollerHarness) -> None:
    """All that is newer than a stuck backlog is remembered: memory must not grow for a day."""
    stuck_at = harness.clock.ms - 6 * 60 * MINUTE

    def broken(query: JobsQuery) -> ApiError | None:
        backlog = query.until is not None and stuck_at < query.until < harness.clock.ms - 5 * MINUTE
        return ApiError(ErrorKind.SERVER, "that window breaks", status=500) if backlog else None

    harness.api.fail = broken
    for _ in range(55):
        harness.api.create(state="SUCCEED")
        asyncio.run(harness.poll(1, every=MINUTE))
    remembered = len(harness.repository.ledger.jobs)
    assert remembered >= 55
    for _ in range(15):
        harness.api.create(state="SUCCEED")
        asyncio.run(harness.poll(1, every=MINUTE))
    assert len(harness.repository.ledger.jobs) <= remembered + 7
    harness.api.fail = lambda query: None
    asyncio.run(harness.poll(60))
    assert harness.created() == 10 + 70 + 6 * 60 * 20


def test_a_backlog_that_cannot_be_read_delays_no_recheck(
    harness: PollerHarness,
) -> None:
    """One window that fails for ever would otherwise end every poll before the rechecks."""
    stuck_at = harness.clock.ms - 6 * 60 * MINUTE

    def broken(query: JobsQuery) -> ApiError | None:
        backlog = query.since is not None and query.until is not None and query.until > stuck_at + MINUTE
        return ApiError(ErrorKind.SERVER, "that window breaks", status=500) if backlog else None

    harness.api.fail = broken
    for job in sorted(harness.api.jobs)[:10]:
        harness.api.finish(job, "FAILED")
    outcomes = [asyncio.run(harness.poll()) for _ in range(4)]
    assert harness.finished("FAILED") == 10
    assert outcomes[0] == "partial"


@pytest.mark.slow
def test_every_window_of_the_backlog_is_committed_on_its_own(harness: PollerHarness) -> None:
    """A catch-up that breaks off goes on where it was."""
    asyncio.run(harness.poll(3))
    reached = behind(harness)
    assert reached < 6 * 60 * MINUTE
    harness.restart()
    harness.api.fail = outage
    asyncio.run(harness.poll())
    harness.api.fail = lambda query: None
    asyncio.run(harness.poll(2))
    assert behind(harness) < reached
    asyncio.run(harness.poll(60))
    assert harness.created() == 10 + 6 * 60 * 20


@pytest.mark.slow
def test_progress_is_logged_with_an_estimate(
    harness: PollerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a poll: how far behind, how long it will take; and one at the end."""
    caplog.set_level(logging.INFO)
    asyncio.run(harness.poll(60))
    lines = [record for record in caplog.records if "catching up" in record.getMessage()]
    ends = [record for record in caplog.records if "caught up" in record.getMessage()]
    assert len(lines) > 3
    assert len(ends) == 1


def test_a_poll_that_keeps_up_does_not_say_so(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    """Where overlap is as short as the interval, each poll is that far behind when it begins."""
    caplog.set_level(logging.INFO)
    harness = PollerHarness(store, overlap=5 * SECOND)
    for _ in range(12):
        harness.api.create(state="SUCCEED")
        asyncio.run(harness.poll(1, every=12 * SECOND))
    assert harness.created() > 10
    assert not [record for record in caplog.records if "caught up" in record.getMessage()]


@pytest.mark.parametrize(
    ("passed", "read", "left"),
    [(60, 3600, 60), (60, 1800, 180), (60, 0, None), (60, -60, None)],
    ids=["half-done", "quarter-done", "no-progress", "falling-behind"],
)
def test_the_estimate_follows_the_pace_so_far(passed: int, read: int, left: int | None) -> None:
    """What was gained on the clock, not what was read: time goes on meanwhile."""
    backlog = Backlog(started=0.0, read_until=0, now=7200 * SECOND)
    now = (7200 + passed) * SECOND
    estimate = backlog.seconds_left(float(passed), (read + passed) * SECOND, now)
    assert estimate == left
