"""A record that makes every page with it too large to be read costs no other record (R6,
docs/counting.md).
"""

from __future__ import annotations

import asyncio
import random

import pytest

from exporter.errors import ApiError, ErrorKind
from exporter.ledger.record import UNKNOWN, Anomaly, JobsQuery, Page, Record
from exporter.polling.paging import PageMemory
from exporter.polling.planner import Window
from exporter.polling.windows import Reader
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, FakeClock
from tests.fake_api import FakeApi, PollerHarness
from tests.polling.test_budget_kept import BudgetHarness


def too_large() -> ApiError:
    return ApiError(ErrorKind.TOO_LARGE, "the body is larger than 4 MiB", status=200)


class LargeRecords:
    """An answer hook: pages with one of these jobs are refused; alone, its begin shows an id or nothing."""

    def __init__(self, *, with_id: bool) -> None:
        self.with_id = with_id
        self.jobs: set[str] = set()

    def __call__(self, query: JobsQuery, page: Page) -> Page:
        if not any(record.job_id in self.jobs for record in page.records):
            return page
        if query.limit > 1:
            raise too_large()
        if self.with_id:
            return Page(page.records)
        digest = f"begin of {page.records[0].job_id}"
        return Page((Record(None, None, UNKNOWN, UNKNOWN, UNKNOWN, malformed=digest),))


def malformed(harness: PollerHarness) -> int:
    return harness.view.anomalies.get(Anomaly.MALFORMED_RECORD, 0)


PLACES = {
    "one": [150],
    "first and last": [0, 299],
    "neighbours": [100, 101, 102, 200],
    "one in ten": list(range(3, 300, 10)),
}


@pytest.mark.slow
@pytest.mark.parametrize("places", PLACES.values(), ids=list(PLACES))
@pytest.mark.parametrize("with_id", [True, False], ids=["with-id", "without-id"])
@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
def test_every_other_job_is_counted_once(
    store: SqliteStore, places: list[int], with_id: bool, newest_first: bool
) -> None:
    """Five jobs a second for a minute; polls are complete in the end, and malformed counts each once."""
    harness = BudgetHarness(store, 75)
    large = harness.api.answer = LargeRecords(with_id=with_id)
    harness.api.newest_first = newest_first
    harness.polls(6)
    for number in range(300):
        if number % 75 == 0:
            harness.polls(1)
        job_id = harness.api.create(harness.clock.ms - number % 15 * SECOND)
        if number in places:
            large.jobs.add(job_id)
    harness.polls(3)
    for job_id in harness.api.jobs:
        harness.api.finish(job_id)
    harness.polls(60)
    expected = 300 if with_id else 300 - len(places)
    assert (harness.created(), harness.finished(), harness.open()) == (expected, expected, 0)
    assert malformed(harness) == (0 if with_id else len(places))
    assert harness.outcomes[-10:] == ["complete"] * 10


@pytest.mark.parametrize("budget", [1, 2, 5, 17])
@pytest.mark.parametrize("trusted", [True, False], ids=["count-is-meant", "count-ignores-filters"])
def test_any_budget_gets_past_it(store: SqliteStore, budget: int, trusted: bool) -> None:
    """The smaller pages are list requests like others: what is left of them the next polls read."""
    harness = BudgetHarness(store, budget)
    harness.api.count_respects_filters = trusted
    large = harness.api.answer = LargeRecords(with_id=False)
    harness.polls(6)
    for number in range(90):
        job_id = harness.api.create(harness.clock.ms - number % 15 * SECOND, "SUCCEED")
        if number == 40:
            large.jobs.add(job_id)
    harness.polls(max(40, 300 // budget))
    assert harness.created() == 89
    assert malformed(harness) == 1
    assert harness.repository.ledger.watermarks.settled_until > harness.clock.ms - 25 * MINUTE


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
@pytest.mark.parametrize("seed", range(40))
def test_a_list_that_shifts_meanwhile_is_not_taken_for_complete(seed: int, newest_first: bool) -> None:
    """Whatever is deleted or appears between two requests: a complete listing lacks nothing that stayed."""
    rng = random.Random(seed)
    api = FakeApi(FakeClock())
    api.newest_first = newest_first
    large = api.answer = LargeRecords(with_id=seed % 2 == 0)
    begin = api.clock.ms
    jobs = [api.create(begin + rng.randrange(60) * SECOND) for _ in range(130)]
    large.jobs.update(rng.sample(jobs, 2))

    def shift(query: JobsQuery) -> None:
        if rng.random() < 0.1:
            if rng.random() < 0.7:
                api.jobs.pop(rng.choice(jobs), None)
            else:
                api.create(begin + rng.randrange(60) * SECOND)

    api.before_page = shift
    reader = Reader(api, PageMemory(None), split_by_type=True)
    result = asyncio.run(reader.read(Window(begin, begin + 60 * SECOND), 0.0))
    if result.complete:
        stayed = set(jobs) & set(api.jobs) - (set() if large.with_id else large.jobs)
        assert stayed <= {record.job_id for record in result.listing}
    assert reader.requests < 80


def test_an_api_of_which_every_page_is_too_large_fails(store: SqliteStore) -> None:
    """No record is made up for it, and what is asked for is bounded."""
    harness = BudgetHarness(store, 75)
    harness.polls(6)
    harness.api.create()

    def refuse(query: JobsQuery, page: Page) -> Page:
        raise too_large()

    harness.api.answer = refuse
    harness.polls(5)
    assert set(harness.outcomes[6:]) <= {"partial", "failed"}
    assert (harness.created(), malformed(harness)) == (0, 0)
    assert harness.view.last_poll.requests < 30


@pytest.mark.parametrize("with_id", [True, False], ids=["with-id", "without-id"])
def test_a_lookup_that_shows_no_id_is_not_another_job(store: SqliteStore, with_id: bool) -> None:
    """Lookups go on being used."""
    harness = PollerHarness(store)
    large = harness.api.answer = LargeRecords(with_id=with_id)
    job_id = harness.api.create()
    large.jobs.add(job_id)
    shown = asyncio.run(harness.reader.lookup(job_id, 0.0))
    assert [record.job_id for record in shown.records] == ([job_id] if with_id else [])
