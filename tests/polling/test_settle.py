"""Several windows of a backlog read at a time: recorded in order all the same (R5, R8,
docs/counting.md).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import ApiError, ErrorKind, StoreError
from exporter.ledger.changes import Changes
from exporter.ledger.ledger import Ledger
from exporter.ledger.record import JobsQuery, Page
from exporter.polling.settle import UNDER_WAY
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, FakeClock, quick_store
from tests.fake_api import FakeApi, PollerHarness

BACKLOG = 6 * 60 * MINUTE


class SlowApi(FakeApi):
    """Answers take turns of the event loop, so that requests overlap and overtake each other."""

    def __init__(self, turns: Callable[[], int]) -> None:
        super().__init__(FakeClock())
        self.turns = turns
        self.under_way = 0
        self.most = 0

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(self.turns()):
                await asyncio.sleep(0)
            page = await super().list_jobs(query, deadline=deadline)
            for _ in range(self.turns()):
                await asyncio.sleep(0)
            return page
        finally:
            self.under_way -= 1


def harness_with_backlog(
    store: SqliteStore, turns: Callable[[], int], *, budget: int = 75, every: int = 3
) -> PollerHarness:
    """Six hours of one job every few seconds go by unseen."""
    harness = PollerHarness(store, SlowApi(turns), budget=budget)
    asyncio.run(harness.poll(4))
    begin = harness.clock.ms
    for number in range(BACKLOG // (every * SECOND)):
        harness.api.create(begin + number * every * SECOND, state="SUCCEED")
    harness.clock.ms += BACKLOG
    return harness


@pytest.fixture
def harness(store: SqliteStore) -> PollerHarness:
    return harness_with_backlog(store, lambda: 3)


def api_of(harness: PollerHarness) -> SlowApi:
    assert isinstance(harness.api, SlowApi)
    return harness.api


def settled_until(harness: PollerHarness) -> int:
    return harness.repository.ledger.watermarks.settled_until


def test_only_a_backlog_is_read_several_windows_at_a_time(harness: PollerHarness) -> None:
    """With one request under way the exporter waits for the API half of the time."""
    api = api_of(harness)
    asyncio.run(harness.poll())
    assert 1 < api.most == UNDER_WAY
    asyncio.run(harness.poll(20))
    assert harness.created() == len(api.jobs)
    api.most = 0
    asyncio.run(harness.poll(40))
    assert api.most == 1


def test_nothing_is_settled_beyond_a_window_that_fails(harness: PollerHarness) -> None:
    """The windows behind it have been answered already; recording them would pass over its jobs for ever."""
    hole = settled_until(harness) + BACKLOG // 4

    def broken(query: JobsQuery) -> ApiError | None:
        blocking = query.since is not None and query.until is not None and query.since <= hole <= query.until
        return ApiError(ErrorKind.SERVER, "that window breaks", status=500) if blocking else None

    harness.api.fail = broken
    asyncio.run(harness.poll(3))
    assert settled_until(harness) <= hole
    harness.api.fail = lambda query: None
    asyncio.run(harness.poll(20))
    assert harness.created() == len(harness.api.jobs)


def deleting_what_it_shows(api: FakeApi) -> set[str]:
    """From now on every record is gone once an answer showed it. Returns the ids, as they come."""
    served: set[str] = set()

    def gone(query: JobsQuery, page: Page) -> Page:
        ids = {record.job_id or "" for record in page.records}
        served.update(ids)
        for job_id in ids:
            del api.jobs[job_id]
        return page

    api.answer = gone
    return served


def test_what_was_shown_beyond_a_failed_window_is_counted(harness: PollerHarness) -> None:
    """These windows are read again later, but what they showed may have been deleted by then."""
    begin, served = settled_until(harness), deleting_what_it_shows(harness.api)

    def broken(query: JobsQuery) -> ApiError | None:
        first = query.since is not None and query.since <= begin
        return ApiError(ErrorKind.SERVER, "that window breaks", status=500) if first else None

    harness.api.fail = broken
    asyncio.run(harness.poll())
    assert served
    assert harness.created() == len(served)
    assert settled_until(harness) == begin


def test_what_was_shown_when_the_reading_goes_back_is_counted(harness: PollerHarness) -> None:
    """A late record takes the reading back: the windows under way beyond are answered for nothing else."""
    served, begin = deleting_what_it_shows(harness.api), settled_until(harness)

    def late(query: JobsQuery) -> None:
        harness.repository.ledger.late |= harness.poller.settle_reads.read_until > begin + 10 * MINUTE

    harness.api.before_page = late
    asyncio.run(harness.poll())
    assert harness.poller.settle_reads.reread_at
    assert harness.created() == len(served) > 0


@pytest.mark.slow
def test_what_was_read_beyond_a_large_window_is_not_read_again(store: SqliteStore) -> None:
    """Bursts that come and go make every few windows too large: those beyond each were answered in vain."""
    harness = harness_with_backlog(store, lambda: 2, budget=4000)
    begin = harness.clock.ms - BACKLOG
    for burst in range(begin, harness.clock.ms - 30 * MINUTE, 30 * MINUTE):
        for number in range(3000):
            harness.api.create(burst + number * 100, state="SUCCEED")
    served = 0

    def count(query: JobsQuery, page: Page) -> Page:
        nonlocal served
        served += len(page.records)
        return page

    harness.api.answer = count
    asyncio.run(harness.poll())
    assert harness.created() > 35_000
    assert served < 1.2 * harness.created()


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_every_job_is_counted_once_whatever_overtakes_what(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Answers overtake each other, get lost, come back empty; processes end in the middle."""
    rng = random.Random(seed)
    store = quick_store(tmp_path_factory.mktemp("books") / "books.db")
    harness = harness_with_backlog(store, lambda: rng.randrange(6), every=20)
    api = harness.api
    lost = ApiError(ErrorKind.TIMEOUT, "no answer in time")
    api.fail = lambda query: lost if rng.random() < 0.1 else None
    api.answer = lambda query, page: Page((), 0) if rng.random() < 0.02 and query.since else page
    for _ in range(20):
        asyncio.run(some_of_a_poll(harness, rng.randrange(20, 2000)))
        if rng.random() < 0.3:
            harness.restart()
    api.fail, api.answer = lambda query: None, lambda query, page: page
    asyncio.run(harness.poll(60))
    assert harness.created() == len(api.jobs) == harness.finished()
    store.close()


async def some_of_a_poll(harness: PollerHarness, turns: int) -> None:
    """A poll that is cancelled after so many turns of the event loop, unless it is done before."""
    poll = asyncio.create_task(harness.poll())
    for _ in range(turns):
        await asyncio.sleep(0)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    harness.clock.ms += 15 * SECOND
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_poll_that_is_cancelled_leaves_no_request_behind(harness: PollerHarness) -> None:
    """A request under way at shutdown would be sent after the store is closed."""
    asyncio.run(some_of_a_poll(harness, 20))  # looks for tasks that are left
    assert 1 < api_of(harness).most == UNDER_WAY


def failing_commits(harness: PollerHarness, fails: Callable[[int], bool]) -> None:
    """The store refuses these commits, counted from now; the process goes on."""
    numbers, commit = itertools.count(), SqliteStore.commit
    store = harness.store
    assert isinstance(store, SqliteStore)

    def sometimes(target: str, scope: str, changes: Commit) -> None:
        if fails(next(numbers)):
            raise StoreError("no space left on the device")
        commit(store, target, scope, changes)

    store.commit = sometimes  # type: ignore[method-assign,assignment]  # a disk that is full now and then


@pytest.mark.parametrize("failing", range(12))
def test_what_a_failed_commit_held_is_read_again(store: SqliteStore, failing: int) -> None:
    """The ledger is loaded anew, and knows nothing of a window that had been read to its end."""
    harness = harness_with_backlog(store, lambda: 1, every=20)
    failing_commits(harness, lambda number: number == failing)
    asyncio.run(harness.poll(30))
    assert harness.created() == len(harness.api.jobs) == harness.finished()


@pytest.mark.slow
@pytest.mark.parametrize("every", [3, 7, 23])
def test_commits_that_fail_again_and_again_lose_no_late_record(store: SqliteStore, every: int) -> None:
    """Up to date, a record that is listed late is seen by one settle read, whose commit may be the one."""
    harness = PollerHarness(store)
    rng = random.Random(every)
    asyncio.run(harness.poll(4))
    failing_commits(harness, lambda number: number % every == 0)
    for _ in range(80):
        for _ in range(60):
            job_id = harness.api.create(state="SUCCEED")
            harness.api.appears[job_id] = harness.clock.ms + rng.choice((0, rng.randrange(280))) * SECOND
        asyncio.run(harness.poll())
    failing_commits(harness, lambda number: False)
    asyncio.run(harness.poll(60))
    assert harness.created() == 4800


@pytest.mark.parametrize("failing", range(8))
def test_a_defect_in_the_middle_of_a_backlog_loses_nothing(store: SqliteStore, failing: int) -> None:
    """Whatever was in memory only is gone with it, also what had been read before."""
    harness = harness_with_backlog(store, lambda: 1, every=20)
    numbers, changes = itertools.count(), Ledger.changes

    def broken(ledger: Ledger) -> Changes:
        if next(numbers) == failing:
            raise ValueError("a defect")
        return changes(ledger)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "changes", broken)
        asyncio.run(harness.poll(30))
    assert harness.created() == len(harness.api.jobs)


def test_a_window_that_is_too_wide_for_the_api_is_made_smaller(store: SqliteStore) -> None:
    """A gateway that gives up on long answers would otherwise give up on the same window for ever."""
    harness = harness_with_backlog(store, lambda: 1, every=20)

    def slow(query: JobsQuery) -> ApiError | None:
        wide = query.since is not None and query.until is not None and query.until - query.since > 5 * MINUTE
        settles = wide and query.until is not None and query.until < harness.clock.ms
        return ApiError(ErrorKind.SERVER, "gateway timeout", status=504) if settles else None

    harness.api.fail = slow
    asyncio.run(harness.poll(120))
    assert harness.created() == len(harness.api.jobs)


def test_a_late_record_soon_after_another_is_not_passed_over(harness: PollerHarness) -> None:
    """The stretch behind the settled time is read again once per overlap: the second time after that."""
    asyncio.run(harness.poll(30))
    settle_reads, ledger, now = harness.poller.settle_reads, harness.repository.ledger, harness.clock.ms
    again = []
    for passed in (0, MINUTE, ledger.settings.overlap):
        ledger.late |= passed < ledger.settings.overlap
        settle_reads.read_until = ledger.watermarks.settled_until
        settle_reads.advance(now + passed)
        again.append(settle_reads.read_until == ledger.watermarks.evicted_until)
    assert again == [True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("budget", range(4, 44, 6))
def test_a_budget_that_ends_at_a_large_window_skips_nothing(store: SqliteStore, budget: int) -> None:
    """The windows beyond it have been read: recording them would pass over its jobs for ever."""
    harness = harness_with_backlog(store, lambda: 1, budget=budget, every=20)
    for hours in (2, 3, 5):
        for number in range(1500):
            harness.api.create(harness.clock.ms - hours * 60 * MINUTE + number * 20, state="SUCCEED")
    for _ in range(200):
        asyncio.run(harness.poll(60 // budget + 1))
        if harness.created() == len(harness.api.jobs):
            break
    assert harness.created() == len(harness.api.jobs)


@pytest.mark.parametrize("budget", [4, 12, 40, 75])
def test_a_backlog_stays_within_its_half_of_the_budget(store: SqliteStore, budget: int) -> None:
    """Windows under way count as spent: three of nine pages would otherwise overdraw it by far."""
    harness = harness_with_backlog(store, lambda: 2, budget=budget)
    asyncio.run(harness.poll(2))
    for _ in range(4):
        asked = len(harness.api.queries)
        asyncio.run(harness.poll())
        listed = harness.api.queries[asked:]
        assert 0 < len(listed) <= budget // 2 + 2


def test_a_missing_job_shown_after_all_takes_the_reading_back(harness: PollerHarness) -> None:
    """The windows that did not show it were not complete (R6, docs/counting.md): whatever else they hid would
    stay unseen.
    """
    asyncio.run(harness.poll(30))
    settle_reads, ledger = harness.poller.settle_reads, harness.repository.ledger
    settled_until = ledger.watermarks.settled_until
    settle_reads.read_until = settled_until + MINUTE
    ledger.missing_jobs.shown_after_all = True
    settle_reads.advance(harness.clock.ms)
    assert settle_reads.read_until == settled_until
