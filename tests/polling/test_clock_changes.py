"""Times without a zone, where the clocks are set back or forward: every job is counted once (R7)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.cloud.times import parse_time, zone
from exporter.store.sqlite import SqliteStore
from tests.fake_api import MINUTE, SECOND, House

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


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    books = SqliteStore(tmp_path / "books.db")
    yield books
    books.close()


def house_before(store: SqliteStore, name: str, change: str, ahead: int, **options: Any) -> House:
    """Counting begins ``ahead`` milliseconds before the clocks change."""
    house = House(store, **options)
    house.clock.ms = int(datetime.fromisoformat(change).replace(tzinfo=UTC).timestamp()) * SECOND - ahead
    house.api.zone = name
    return house


def traffic(house: House, rng: random.Random) -> None:
    """Some jobs of the last 15 seconds, and the ends of others."""
    now = house.clock.ms
    for _ in range(rng.choice((0, 1, 2, 4))):
        job_id = house.api.create(now - rng.randrange(15) * SECOND, text_length=rng.randrange(1, 99))
        if rng.random() < 0.3:
            house.api.appears[job_id] = now + rng.randrange(200) * SECOND
    for job_id, record in list(house.api.jobs.items())[-200:]:
        if record.job_state == "WAITING" and rng.random() < 0.1:
            house.api.finish(job_id, rng.choice(("SUCCEED", "FAILED")))


def end(house: House) -> None:
    for job_id, record in list(house.api.jobs.items()):
        if record.job_state == "WAITING":
            house.api.finish(job_id)
    asyncio.run(house.poll(40))


def assert_exact(house: House) -> None:
    jobs = len(house.api.jobs)
    assert jobs > 100
    assert (house.created(), house.finished(), house.expired()) == (jobs, jobs, 0)
    assert not any(house.view.anomalies.get(name) for name in ("outside_window", "bad_create_time"))
    for job_id, job in house.books.ledger.jobs.items():
        assert job.created == house.api.jobs[job_id].create_time


@CHANGES
def test_jobs_are_counted_once_while_the_clocks_change(store: SqliteStore, name: str, change: str) -> None:
    """Reading the second hour as the first would find every job outside the window asked for."""
    house = house_before(store, name, change, 90 * MINUTE)
    asyncio.run(house.poll(4))
    rng = random.Random(name)
    for _ in range(3 * 60):
        traffic(house, rng)
        asyncio.run(house.poll(every=MINUTE))
    end(house)
    assert_exact(house)


@CHANGES
def test_a_backlog_over_the_change_is_counted_once(store: SqliteStore, name: str, change: str) -> None:
    """A window that holds both hours does not tell which of them a job is of: a smaller one does."""
    house = house_before(store, name, change, 3 * HOUR)
    asyncio.run(house.poll(4))
    begin = house.clock.ms
    for number in range(6 * 60):
        house.api.create(begin + number * MINUTE, "SUCCEED" if number % 5 else "WAITING")
    house.clock.ms += 6 * HOUR
    asyncio.run(house.poll(40))
    assert house.created() == 6 * 60
    end(house)
    assert_exact(house)


@CHANGES
def test_jobs_open_at_a_first_start_after_the_change_are_counted(
    store: SqliteStore, name: str, change: str
) -> None:
    """The time before it is read back over both hours, and each job is dated in its own."""
    house = house_before(store, name, change, -70 * MINUTE, window=3 * HOUR)
    begin = house.clock.ms
    for number in range(1, 150):
        house.api.create(begin - number * MINUTE)
    asyncio.run(house.poll(20))
    end(house)
    assert_exact(house)


@CHANGES
def test_without_time_filters_or_ids_the_change_costs_nothing(
    store: SqliteStore, name: str, change: str
) -> None:
    """The whole list holds both hours in every answer: there a job is dated when it is first shown."""
    house = house_before(store, name, change, 90 * MINUTE, time_filters=False, time_may_repeat=2 * HOUR)
    house.api.time_filters_work = False
    asyncio.run(house.poll(4))
    rng = random.Random(name)
    for _ in range(3 * 30):
        traffic(house, rng)
        for job_id, record in house.api.jobs.items():
            if record.job_id is not None and (record.text_length or 0) % 2:
                house.api.change(job_id, job_id=None)
        asyncio.run(house.poll(every=2 * MINUTE))
    end(house)
    jobs = len(house.api.jobs)
    assert jobs > 100
    assert (house.created(), house.finished(), house.expired()) == (jobs, jobs, 0)


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
