"""Seconds with more jobs than a window may hold, and lists that end after 10,000 (R6, docs/counting.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from exporter.ledger.record import JobsQuery, Page, Record
from exporter.store.sqlite import SqliteStore
from testkit.world import SECOND, FakeClock
from tests.fake_api import FakeApi, PollerHarness

BURST = 10_800
"""Jobs in three seconds: listed with its neighbours, each of these has more than 10,000."""


class DenseApi(FakeApi):
    """Sorts its list once per question, not once per page."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self._asked: tuple[JobsQuery, int] | None = None
        self._found: list[Record] = []

    def matching(self, query: JobsQuery) -> Iterator[Record]:
        asked = replace(query, offset=0, limit=1), len(self.jobs)
        if asked != self._asked:
            self._asked, self._found = asked, list(super().matching(query))
        return iter(self._found)


def burst(store: SqliteStore) -> tuple[PollerHarness, int]:
    """A poller that counts, then the burst. Returns when it began."""
    harness = PollerHarness(store, DenseApi(), budget=40)
    asyncio.run(harness.poll(2))
    begun = harness.clock.ms // SECOND * SECOND
    for number in range(BURST):
        harness.api.create(begun + number // (BURST // 3) * SECOND, "SUCCEED")
    harness.clock.ms += 5 * SECOND
    return harness, begun


@pytest.mark.slow
def test_a_dense_second_is_read_over_several_polls(store: SqliteStore) -> None:
    """A poll that began each such second anew would never get beyond its first pages."""
    harness, begun = burst(store)
    asyncio.run(harness.poll(12))
    assert harness.created() == BURST
    asyncio.run(harness.poll(60))
    assert harness.repository.ledger.watermarks.settled_until > begun + 3 * SECOND
    assert (harness.created(), harness.finished()) == (BURST, BURST)


@pytest.mark.slow
def test_a_list_that_ends_after_ten_thousand_proves_no_second(store: SqliteStore) -> None:
    """Its count ends with it, and both agree: "settled until" must not pass the jobs left out."""
    harness, begun = burst(store)
    harness.api.answer = lambda query, page: Page(
        page.records[: max(0, 10_000 - query.offset)], min(page.count or 0, 10_000)
    )
    asyncio.run(harness.poll(60))
    assert harness.repository.ledger.watermarks.settled_until <= begun + SECOND
    harness.api.answer = lambda query, page: page
    asyncio.run(harness.poll(60))
    assert harness.created() == BURST
