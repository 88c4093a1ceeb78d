"""A ``Date`` that is stale for a while, and then right again, gives no job up before its time (R3, R6,
docs/counting.md).
"""

from __future__ import annotations

import asyncio

from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness


async def stale(harness: PollerHarness, minutes: int, hidden_for: int) -> str:
    """Just before the ``Date`` comes right a job is no longer listed, for so many seconds; others are."""
    api, clock = harness.api, harness.clock
    await harness.poll(4)
    job_id = api.create()
    for _ in range(4):
        api.create()
        await harness.poll()
    clock.frozen_at = clock.ms
    await harness.poll(4 * minutes)
    api.appears[job_id] = clock.ms + hidden_for * SECOND
    await harness.poll(2)
    clock.frozen_at = None
    for _ in range(4 * 12):
        api.create(state="SUCCEED")
        await harness.poll()
    return job_id


def test_a_stale_date_adds_no_missing_time(store: SqliteStore) -> None:
    """Two minutes of absence are no twenty, whatever the first answer's clock said."""
    harness = PollerHarness(store)
    job_id = asyncio.run(stale(harness, 20, hidden_for=120))
    assert harness.expired() == 0
    harness.api.finish(job_id)
    asyncio.run(harness.poll(12))
    assert harness.finished("SUCCEED") == 4 * 12 + 1


def test_a_job_that_stays_away_is_given_up_all_the_same(store: SqliteStore) -> None:
    """Once ``overlap`` has passed since the ``Date`` came right."""
    harness = PollerHarness(store)
    asyncio.run(stale(harness, 20, hidden_for=24 * 60 * MINUTE))
    assert harness.expired("vanished") == 1


def test_a_clock_that_runs_fast_is_not_taken_for_one_that_jumps(store: SqliteStore) -> None:
    """Six times as fast as ours, as in simulators: a job is given up after ``overlap`` of the API's time."""
    harness = PollerHarness(store)
    begun = harness.clock.ms
    harness.monotonic = lambda: (harness.clock.ms - begun) / 6 / SECOND
    harness.api.appears[harness.api.create()] = 0
    asyncio.run(harness.poll(4))
    job_id = harness.api.create()
    asyncio.run(harness.poll(4))
    harness.api.appears[job_id] = harness.clock.ms + 24 * 60 * MINUTE
    for _ in range(4 * 6):
        harness.api.create(state="SUCCEED")
        asyncio.run(harness.poll())
    assert harness.expired("vanished") == 1
