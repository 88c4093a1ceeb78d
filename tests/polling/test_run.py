"""When a target polls: ``Poller.run``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.ledger.record import JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from exporter.units import SECOND
from testkit.world import FakeClock
from tests.fake_api import FakeApi, PollerHarness


class StopPolling(Exception):  # noqa: N818 - nothing is wrong
    """Ends a run that has no end."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[PollerHarness]:
    store = SqliteStore(tmp_path / "books.db")
    yield PollerHarness(store)
    store.close()


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [
        ([0, 0, 0, 0], [0, 15, 30, 45]),
        ([1, 14, 3, 2], [0, 15, 30, 45]),
        ([20, 1, 1, 1], [0, 30, 45, 60]),
        ([15, 1, 1, 1], [0, 15, 30, 45]),
        ([100, 1, 16, 1], [0, 105, 120, 150]),
    ],
    ids=["at-once", "within-the-interval", "longer", "just-as-long", "much-longer"],
)
def test_a_poll_begins_every_interval_or_is_skipped(
    harness: PollerHarness, monkeypatch: pytest.MonkeyPatch, seconds: list[int], starts: list[int]
) -> None:
    """Polls keep their place in time, however long they take; what is due meanwhile is left out."""
    begun, lasting = [], iter(seconds)
    first = harness.clock.ms

    async def poll() -> str:
        begun.append((harness.clock.ms - first) // SECOND)
        harness.clock.ms += next(lasting) * SECOND
        if len(begun) == len(seconds):
            raise StopPolling
        return "complete"

    monkeypatch.setattr(harness.poller, "poll", poll)
    with pytest.raises(StopPolling):
        asyncio.run(harness.poller.run())
    assert begun == starts


def test_the_first_poll_comes_at_its_time(harness: PollerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls keep the place that the first one was given."""
    begun = []
    first = harness.clock.ms

    async def poll() -> str:
        begun.append((harness.clock.ms - first) // SECOND)
        harness.clock.ms += 4 * SECOND
        if len(begun) == 3:
            raise StopPolling
        return "complete"

    monkeypatch.setattr(harness.poller, "poll", poll)
    with pytest.raises(StopPolling):
        asyncio.run(harness.poller.run(first / SECOND + 11))
    assert begun == [11, 26, 41]


@pytest.mark.parametrize(("seconds", "views"), [(0, 1), (0.1, 1), (0.3, 2)], ids=["at-once", "quick", "slow"])
def test_only_slow_polls_publish_before_their_end(harness: PollerHarness, seconds: float, views: int) -> None:
    """Making a view costs time, and what a quick poll found is published soon enough with its end."""
    asyncio.run(harness.poller.poll())
    harness.clock.ms += 15 * SECOND
    harness.api.create()
    harness.views.clear()

    def answer_late(query: JobsQuery) -> None:
        harness.clock.ms += int(seconds * SECOND)

    harness.api.before_page = answer_late
    asyncio.run(harness.poller.poll())
    assert len(harness.views) == views


@pytest.mark.parametrize("timeout", [7.0, 90.0])
def test_a_poll_may_take_as_long_as_its_timeout(tmp_path: Path, timeout: float) -> None:
    """Each of its requests must be answered until then."""

    class Deadlines(FakeApi):
        async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
            deadlines.add(round(deadline - started, 6))
            return await super().list_jobs(query, deadline=deadline)

    deadlines: set[float] = set()
    store = SqliteStore(tmp_path / "books.db")
    harness = PollerHarness(store, Deadlines(FakeClock()), timeout=timeout)
    started = harness.clock.ms / SECOND
    asyncio.run(harness.poller.poll())
    store.close()
    assert deadlines == {timeout}
