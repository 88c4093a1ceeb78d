"""Head reads, row by row of their decision table."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from exporter.errors import ApiError, ErrorKind
from exporter.ledger.record import JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness


@pytest.fixture
def harness(store: SqliteStore) -> PollerHarness:
    """Started an hour ago, with a finished job a minute."""
    harness = PollerHarness(store, trust_count=True)
    for _ in range(60):
        harness.api.create(state="SUCCEED")
        poll(harness, MINUTE)
    return harness


def poll(harness: PollerHarness, every: int = 15 * SECOND) -> str:
    harness.api.queries.clear()
    return asyncio.run(harness.poll(1, every))


def news(harness: PollerHarness, query: JobsQuery) -> bool:
    """Is it for nothing older than the last poll and its margins?"""
    return query.since is not None and query.since > harness.clock.ms - 2 * MINUTE


def test_one_wide_request_brings_the_news(harness: PollerHarness) -> None:
    """It reaches back as far as its page has room for, and beyond now."""
    job = harness.api.create(state="SUCCEED")
    now = harness.clock.ms
    assert poll(harness) == "complete"
    head = harness.api.queries[0]
    assert (head.since or now) < now - 5 * MINUTE
    assert (head.until or 0) > now
    assert harness.repository.ledger.jobs.get(job) is not None


@pytest.mark.parametrize("kind", [ErrorKind.SERVER, ErrorKind.TOO_LARGE, ErrorKind.DECODE])
def test_a_narrow_read_follows_an_error_further_back(harness: PollerHarness, kind: ErrorKind) -> None:
    """The news is counted all the same, and the poll reports what failed."""
    harness.api.create()
    created = harness.created()
    harness.api.fail = lambda query: None if news(harness, query) else ApiError(kind, "it is broken")
    assert poll(harness) == "partial"
    assert harness.created() == created + 1
    assert "it is broken" in harness.view.last_poll.problem


@pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.THROTTLED, ErrorKind.AUTH])
def test_an_error_that_concerns_all_requests_ends_the_poll(harness: PollerHarness, kind: ErrorKind) -> None:
    """Another request would only meet it again."""
    harness.api.fail = lambda query: None if news(harness, query) else ApiError(kind, "no more")
    assert poll(harness) == "failed"
    assert len(harness.api.queries) == 1


def test_a_burst_is_read_in_the_poll_that_finds_it(harness: PollerHarness) -> None:
    """``count`` says how dense it is, and the next windows are cut for that."""
    created = harness.created()
    for number in range(2500):
        harness.api.create(harness.clock.ms - number % 50 * SECOND)
    assert poll(harness) == "complete"
    assert harness.created() == created + 2500
    assert len(harness.api.queries) < 2 * 2500 / 100


def test_a_burst_in_this_very_second_waits_for_the_next_poll(harness: PollerHarness) -> None:
    """It is no fault: the list may still grow."""
    poll(harness, SECOND)
    created = harness.created()
    for _ in range(1500):
        harness.api.create()
    assert poll(harness) == "complete"
    assert harness.created() < created + 1500
    poll(harness)
    assert harness.created() == created + 1500


def test_news_that_cannot_be_listed_completely_is_reported(harness: PollerHarness) -> None:
    """Smaller windows are tried down to two seconds, and then the poll says so."""

    def one_missing(query: JobsQuery, page: Page) -> Page:
        return replace(page, count=(page.count or 0) + 1)

    harness.api.answer = one_missing
    assert poll(harness) == "failed"
    assert "could not be listed completely: count is" in harness.view.last_poll.problem
