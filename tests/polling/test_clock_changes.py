"""Times without a zone, where the clocks are set back or forward: every job is counted once (R7,
docs/counting.md).
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from exporter.cloud.times import parse_time
from exporter.config import zone
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness

HOUR = 60 * MINUTE
CHANGES = pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("Europe/Berlin", "2026-10-25T01:00", id="berlin-back"),
        pytest.param("Europe/Berlin", "2026-03-29T01:00", id="berlin-forward"),
        pytest.param("America/New_York", "2026-11-01T06:00", id="new-york-back"),
        pytest.param("Australia/Sydney", "2026-04-04T16:00", id="sydney-back"),
        pytest.param("Australia/Lord_Howe", "2026-04-04T15:00", id="lord-howe-back-half-an-hour"),
        pytest.param("Australia/Lord_Howe", "2026-10-03T15:30", id="lord-howe-forward-half-an-hour"),
    ],
)


def house_before(store: SqliteStore, name: str, change: str, ahead: int, **options: Any) -> PollerHarness:
    """Counting begins ``ahead`` milliseconds before the clocks change."""
    harness = PollerHarness(store, **options)
    harness.clock.ms = int(datetime.fromisoformat(change).replace(tzinfo=UTC).timestamp()) * SECOND - ahead
    harness.api.zone = name
    return harness


def traffic(harness: PollerHarness, rng: random.Random) -> None:
    """Some jobs of the last 15 seconds, and the ends of others."""
    now = harness.clock.ms
    for _ in range(rng.choice((0, 1, 2, 4))):
        job_id = harness.api.create(now - rng.randrange(15) * SECOND, text_length=rng.randrange(1, 99))
        if rng.random() < 0.3:
            harness.api.appears[job_id] = now + rng.randrange(200) * SECOND
    for job_id, record in list(harness.api.jobs.items())[-200:]:
        if record.job_state == "WAITING" and rng.random() < 0.1:
            harness.api.finish(job_id, rng.choice(("SUCCEED", "FAILED")))


def end(harness: PollerHarness) -> None:
    for job_id, record in list(harness.api.jobs.items()):
        if record.job_state == "WAITING":
            harness.api.finish(job_id)
    asyncio.run(harness.poll(40))


def assert_exact(harness: PollerHarness) -> None:
    jobs = len(harness.api.jobs)
    assert jobs > 100
    assert (harness.created(), harness.finished(), harness.expired()) == (jobs, jobs, 0)
    assert not any(harness.view.anomalies.get(name) for name in ("outside_window", "bad_create_time"))
    for job_id, job in harness.repository.ledger.jobs.items():
        assert job.created == harness.api.jobs[job_id].create_time


@pytest.mark.slow
@CHANGES
def test_jobs_are_counted_once_while_the_clocks_change(store: SqliteStore, name: str, change: str) -> None:
    """Reading the second hour as the first would find every job outside the window asked for."""
    harness = house_before(store, name, change, 90 * MINUTE)
    asyncio.run(harness.poll(4))
    rng = random.Random(name)
    for _ in range(3 * 60):
        traffic(harness, rng)
        asyncio.run(harness.poll(every=MINUTE))
    end(harness)
    assert_exact(harness)


@pytest.mark.slow
@CHANGES
def test_a_backlog_over_the_change_is_counted_once(store: SqliteStore, name: str, change: str) -> None:
    """A window that holds both hours does not tell which of them a job is of: a smaller one does."""
    harness = house_before(store, name, change, 3 * HOUR)
    asyncio.run(harness.poll(4))
    begin = harness.clock.ms
    for number in range(6 * 60):
        harness.api.create(begin + number * MINUTE, "SUCCEED" if number % 5 else "WAITING")
    harness.clock.ms += 6 * HOUR
    asyncio.run(harness.poll(40))
    assert harness.created() == 6 * 60
    end(harness)
    assert_exact(harness)


@pytest.mark.slow
@CHANGES
def test_jobs_open_at_a_first_start_after_a_change_are_counted(
    store: SqliteStore, name: str, change: str
) -> None:
    """The time before it is read back over both hours, and each job is dated in its own."""
    harness = house_before(store, name, change, -70 * MINUTE, window=3 * HOUR)
    begin = harness.clock.ms
    for number in range(1, 150):
        harness.api.create(begin - number * MINUTE)
    asyncio.run(harness.poll(20))
    end(harness)
    assert_exact(harness)


@pytest.mark.slow
@CHANGES
def test_without_time_filters_or_ids_the_change_costs_nothing(
    store: SqliteStore, name: str, change: str
) -> None:
    """The whole list holds both hours in every answer: there a job is dated when it is first shown."""
    harness = house_before(store, name, change, 90 * MINUTE, time_filters=False, time_may_repeat=2 * HOUR)
    harness.api.time_filters_work = False
    asyncio.run(harness.poll(4))
    rng = random.Random(name)
    for _ in range(3 * 30):
        traffic(harness, rng)
        for job_id, record in harness.api.jobs.items():
            if record.job_id is not None and (record.text_length or 0) % 2:
                harness.api.change(job_id, job_id=None)
        asyncio.run(harness.poll(every=2 * MINUTE))
    end(harness)
    jobs = len(harness.api.jobs)
    assert jobs > 100
    assert (harness.created(), harness.finished(), harness.expired()) == (jobs, jobs, 0)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [75, 2], ids=["in-one-poll", "over-several-polls"])
@pytest.mark.parametrize("minutes", [-40, -3, 3, 40])
def test_jobs_ended_before_a_start_in_the_repeated_hour_are_old(
    store: SqliteStore, minutes: int, budget: int
) -> None:
    """Not even once its text may mean a time after it, and after a restart."""
    harness = house_before(
        store,
        "Europe/Berlin",
        "2026-10-25T01:00",
        -minutes * MINUTE,
        time_filters=False,
        time_may_repeat=2 * HOUR,
        window=30 * MINUTE,
        budget=budget,
    )
    harness.api.time_filters_work = False
    for number in range(1, 120):
        harness.api.create(harness.clock.ms - number * 47 * SECOND, "SUCCEED", job_id=f"old-{number}")
    harness.api.create(harness.clock.ms - 40 * MINUTE, job_id="open-before-the-window")
    asyncio.run(harness.poll(4))
    assert harness.created() == 0
    harness.restart()
    for number in range(40):
        harness.api.create(state="SUCCEED", job_id=f"new-{number}")
        asyncio.run(harness.poll(every=3 * MINUTE))
    harness.api.finish("open-before-the-window")
    asyncio.run(harness.poll(4))
    assert (harness.created(), harness.finished()) == (40, 40)
    assert not any(harness.view.anomalies.values())


@pytest.mark.parametrize(
    ("text", "name", "times"),
    [
        ("2026-10-25 02:30:00", "Europe/Berlin", ("00:30", "01:30")),
        ("2026-03-29 02:30:00", "Europe/Berlin", ("00:30", "01:30")),
        ("2026-04-05T01:45:00", "Australia/Lord_Howe", ("14:45", "15:15")),
        ("2026-10-25 02:30:00", "Asia/Shanghai", ("18:30", None)),
        ("2026-10-25 04:30:00", "Europe/Berlin", ("03:30", None)),
        ("2026-10-25T02:30:00+02:00", "Europe/Berlin", ("00:30", None)),
    ],
    ids=["twice", "never", "half-an-hour", "no-daylight-saving", "another-hour", "with-its-zone"],
)
def test_a_time_without_a_zone_may_mean_two(text: str, name: str, times: tuple[str, str | None]) -> None:
    """Earliest first."""
    read = parse_time(text, zone(name))
    shown = tuple(None if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M}" for ms in read)
    assert shown == times
