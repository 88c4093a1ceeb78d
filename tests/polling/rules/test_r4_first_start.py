"""R4 First start (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

import asyncio

import pytest

from exporter.ledger.record import JobsQuery
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, START, Killed
from tests.fake_api import PollerHarness, outage
from tests.polling.rules.support import run


def test_of_jobs_created_before_only_open_ones_are_counted(
    harness: PollerHarness,
) -> None:
    """Counting the listed past would show a burst; ignoring it would hide a stuck queue."""
    for age in range(1, 30):
        harness.api.create(harness.clock.ms - age * MINUTE, state="SUCCEED")
    stuck = harness.api.create(harness.clock.ms - 30 * MINUTE)
    run(harness, 3)
    assert (harness.created(), harness.finished(), harness.open()) == (1, 0, 1)
    assert harness.view.gauges is not None
    assert harness.view.gauges.jobs is not None
    assert sum(harness.view.gauges.jobs.values()) == 30
    harness.api.finish(stuck)
    run(harness, 30)
    assert (harness.created(), harness.finished(), harness.open()) == (1, 1, 0)


def test_a_crash_after_the_first_start_keeps_the_baseline(harness: PollerHarness) -> None:
    """A baseline taken anew at every start would lose what was created in between."""
    harness.clock.known = 2

    def die(query: JobsQuery) -> None:
        raise KeyboardInterrupt

    harness.api.before_page = die
    with pytest.raises(KeyboardInterrupt):
        run(harness)
    harness.api.before_page = lambda query: None
    harness.clock.ms += 5 * SECOND
    harness.api.create(state="SUCCEED")
    harness.clock.ms += 5 * SECOND
    harness.restart()
    run(harness, 3)
    assert (harness.created(), harness.finished()) == (1, 1)


@pytest.mark.parametrize("seconds", [2, 8, 100])
def test_jobs_of_a_first_poll_that_had_to_wait_are_counted(harness: PollerHarness, seconds: int) -> None:
    """Its first request was tried again by the client, or waited for its turn behind others."""
    harness.clock.known = 0
    harness.api.create(harness.clock.ms - MINUTE, state="SUCCEED")

    def wait(query: JobsQuery) -> None:
        harness.api.before_page = lambda query: None
        for _ in range(5):
            harness.clock.ms += seconds * SECOND // 5
            harness.api.create(harness.clock.ms - SECOND // 5, state="SUCCEED")

    harness.api.before_page = wait
    run(harness, 20)
    assert (harness.created(), harness.finished()) == (5, 5)


@pytest.mark.parametrize("killed", [False, True], ids=["one-process", "killed"])
def test_jobs_created_before_a_first_poll_in_its_place_count(
    harness: PollerHarness, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Counting begins at the start, though another target polls first; also where that start was killed."""
    harness.clock.known = 0
    harness.api.create(harness.clock.ms - MINUTE, state="SUCCEED")

    async def wait(seconds: float) -> None:
        for _ in range(4):
            harness.clock.ms += int(seconds * SECOND) // 5
            harness.api.create(state="SUCCEED")
        harness.clock.ms += int(seconds * SECOND) // 5
        if killed or harness.views:
            raise Killed

    async def first_start() -> None:
        await harness.repository.load(harness.clock.ms)
        await harness.poller.run(harness.clock.ms / SECOND + 14)

    monkeypatch.setattr(harness, "sleep", wait)
    harness.restart()
    with pytest.raises(Killed):
        asyncio.run(first_start())
    harness.restart()
    run(harness, 40)
    jobs = 4 if killed else 8
    assert (harness.created(), harness.finished()) == (jobs, jobs)


def failed_start(
    harness: PollerHarness, minutes: int, *, restart: bool, off: int = 0, step: int = 0
) -> tuple[int, int]:
    """A first start that fails for so long, with a job a minute, finished at once. Returns how many, counted.

    Before it: finished jobs, and one that is stuck; ``step`` sets our own clock half-way (milliseconds), and
    the machine is ``off`` for so long then, if it is at all.
    """
    for age in range(1, 20):
        harness.api.create(harness.clock.ms - age * MINUTE, state="SUCCEED")
    harness.api.create(harness.clock.ms - 30 * MINUTE)
    harness.api.fail = outage
    harness.clock.known = 0
    for minute in range(minutes):
        run(harness)
        harness.api.create(state="SUCCEED")
        harness.clock.ms += 45 * SECOND
        if minute == minutes // 2:
            if restart:
                harness.clock.ms += off
                harness.boot += "again" if off else ""
                harness.restart()
            set_wall(harness, step)
    harness.api.fail = lambda query: None
    run(harness, 60)
    assert harness.balanced()
    return minutes, harness.created()


def set_wall(harness: PollerHarness, step: int) -> None:
    def wall() -> float:
        return (harness.clock.ms + step) / SECOND

    harness.wall = wall


@pytest.mark.parametrize("restart", [False, True], ids=["one-process", "restarted"])
def test_jobs_created_while_the_first_start_failed_are_counted(harness: PollerHarness, restart: bool) -> None:
    """A baseline at the first good answer would leave out two hours of wrong credentials."""
    jobs, created = failed_start(harness, 120, restart=restart)
    assert created == jobs + 1  # and the stuck one of the window before
    assert (harness.finished(), harness.open()) == (jobs, 1)
    assert harness.view.skipped_ms == 0


def test_what_a_failed_first_start_waits_for_is_shown(harness: PollerHarness) -> None:
    """Since when, until the first good answer; then only since when it counts."""
    harness.api.fail = outage
    harness.clock.known = 0
    run(harness, 3)
    assert harness.view.first_tried == START
    assert harness.view.counting_since is None
    harness.restart()
    run(harness, 3)
    assert harness.view.first_tried == START
    harness.api.fail = lambda query: None
    run(harness, 2)
    begun = harness.views[-1]
    assert begun.first_tried is None
    assert begun.counting_since == START


@pytest.mark.parametrize("years", [-20, 20], ids=["back", "ahead"])
@pytest.mark.parametrize("restart", [False, True], ids=["one-process", "restarted"])
def test_a_clock_set_during_a_failed_first_start_counts_no_past(
    harness: PollerHarness, restart: bool, years: int
) -> None:
    """A machine that starts in 1970 must not count all there is: how long it failed is not told by a date."""
    jobs, created = failed_start(harness, 60, restart=restart, step=years * 365 * 24 * 60 * MINUTE)
    assert created == jobs + 1


@pytest.mark.parametrize("hours", [-23, -1, 1, 23])
@pytest.mark.parametrize("off", [0, 30 * MINUTE], ids=["restarted", "rebooted"])
def test_a_clock_wrong_when_a_start_failed_moves_no_baseline(
    harness: PollerHarness, hours: int, off: int
) -> None:
    """A day slow at the first try and right afterwards: jobs of that day are not new.

    What passed while the machine was off is not known: the baseline is as much later.
    """
    set_wall(harness, hours * 60 * MINUTE)
    jobs, created = failed_start(harness, 60, restart=True, off=off)
    assert created == (pytest.approx(jobs - off // MINUTE, abs=2) if off else jobs + 1)
    assert harness.view.skipped_ms == 0


def test_a_failed_first_start_goes_back_as_far_as_a_downtime(store: SqliteStore) -> None:
    """No further than ``max_catch_up``; the rest is said to be skipped."""
    harness = PollerHarness(store, max_catch_up=30 * MINUTE)
    _, created = failed_start(harness, 60, restart=False)
    assert created == pytest.approx(31, abs=1)
    assert harness.view.skipped_ms == pytest.approx(30 * MINUTE, abs=MINUTE)


def test_a_target_is_shown_as_soon_as_counting_begins(harness: PollerHarness) -> None:
    """Behind a slow API, with many targets of one key, the first window may take minutes."""
    shown: list[bool] = []
    harness.api.before_page = lambda query: shown.append(bool(harness.views) and harness.view.last_poll.up)
    run(harness)
    probe, *_ = harness.api.queries
    assert shown == [query.since != probe.since for query in harness.api.queries]
    assert harness.views[0].counting_since == START
