"""A record that an answer showed is counted, also when it is deleted the moment it was served (R5, R6,
docs/counting.md).
"""

from __future__ import annotations

import asyncio
import random

import pytest

from exporter.ledger.record import FINAL_STATES, JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, FakeClock
from tests.fake_api import FakeApi, PollerHarness

OVERLAP = MINUTE


class Adversary(FakeApi):
    """Deletes a finished record that it just served, or lists one beside it; answers overtake each other."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(FakeClock())
        self._rng = rng
        self.served: set[str] = set()
        self.disturbs = 0.0
        """How likely an answer is to be followed by a change of the list."""
        self.clip = rng.choice((20, 37, 100))
        self.count_respects_filters = rng.random() < 0.3
        self.newest_first = rng.random() < 0.5

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        await self._turns()
        page = await super().list_jobs(query, deadline=deadline)
        self.served |= {record.job_id for record in page.records if record.job_id is not None}
        if self._rng.random() < self.disturbs:
            self._disturb(page)
        await self._turns()
        return page

    async def _turns(self) -> None:
        for _ in range(self._rng.randrange(6)):
            await asyncio.sleep(0)

    def _disturb(self, page: Page) -> None:
        finished = [record for record in page.records if record.job_state in FINAL_STATES]
        if finished and self._rng.random() < 0.5:
            del self.jobs[self._rng.choice(finished).job_id or ""]
            return
        times = [record.create_time or 0 for record in page.records]
        recent = [created for created in times if self.clock.ms - created < OVERLAP - 20 * SECOND]
        if recent:
            self.create(self._rng.choice(recent), state="SUCCEED")


def some_jobs(api: FakeApi, rng: random.Random, begin: int, end: int) -> None:
    """Between two polls: some end, some begin, some of these are listed late."""
    for job_id, record in list(api.jobs.items()):
        if record.job_state not in FINAL_STATES and rng.random() < 0.3:
            api.finish(job_id)
    for _ in range((end - begin) // SECOND):
        if rng.random() < 0.4:
            state = rng.choice(("SUCCEED", "FAILED", "WAITING"))
            created = rng.randrange(begin, end) // SECOND * SECOND
            job_id = api.create(created, state=state)
            if rng.random() < 0.1:
                api.appears[job_id] = created + rng.randrange(40) * SECOND


async def tell_a_story(harness: PollerHarness, api: Adversary, rng: random.Random) -> None:
    await harness.poll(2)
    api.disturbs = rng.choice((0.15, 0.6))
    for _ in range(rng.randrange(3, 9)):
        passed = 15 * SECOND if rng.random() < 0.7 else rng.choice((4, 15)) * MINUTE
        some_jobs(api, rng, harness.clock.ms, harness.clock.ms + passed)
        harness.clock.ms += passed
        await harness.poller.poll()
        if rng.random() < 0.1:
            harness.restart()
    for job_id, record in list(api.jobs.items()):
        if record.job_state not in FINAL_STATES:
            api.finish(job_id)
    api.disturbs = 0.15
    await harness.poll(8, every=MINUTE // 2)
    api.disturbs = 0.0
    await harness.poll(16, every=MINUTE // 2)


def is_counted(store: SqliteStore, seed: int, *, time_filters: bool) -> None:
    rng = random.Random(seed)
    api = Adversary(rng)
    api.time_filters_work = time_filters
    options = {"budget": rng.choice((24, 75)), "overlap": OVERLAP, "time_filters": time_filters}
    harness = PollerHarness(store, api, **options)
    asyncio.run(tell_a_story(harness, api, rng))
    assert harness.created() == len(api.served) == harness.finished()


@pytest.mark.parametrize("seed", range(12))
def test_a_record_that_was_shown_is_counted(store: SqliteStore, seed: int) -> None:
    """Whatever vanishes right after an answer or appears beside it, while windows are read side by side."""
    is_counted(store, seed, time_filters=True)


@pytest.mark.parametrize("seed", [8, 17, 22, 36])
def test_a_record_shown_without_time_filters_is_counted(store: SqliteStore, seed: int) -> None:
    """Broken reads of the whole list show jobs, too."""
    is_counted(store, seed, time_filters=False)


def test_a_record_that_only_a_probe_showed_is_counted(store: SqliteStore) -> None:
    """Without time filters, the probe for the API's time is answered with a job before it can be recorded."""

    def delete(query: JobsQuery, page: Page) -> Page:
        for record in page.records:
            del harness.api.jobs[record.job_id or ""]
        return page

    harness = PollerHarness(store, time_filters=False)
    asyncio.run(harness.poll())
    harness.restart()
    harness.clock.known = 0
    harness.api.create(state="SUCCEED")
    harness.api.answer = delete
    asyncio.run(harness.poll(4))
    assert harness.created() == harness.finished("SUCCEED") == 1
