"""A poll's budget of requests: never exceeded, and enough at any size to get on (R8, docs/counting.md)."""

from __future__ import annotations

import asyncio
import random

import pytest

from exporter.ledger.record import JobsQuery, Page
from exporter.polling.budget import Budget
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import FakeApi, PollerHarness

BUDGETS = pytest.mark.parametrize("budget", [1, 2, 5, 17])


class Grants(Budget):
    """As many requests as a test says, be it less than any target is sure of."""

    def __init__(self, requests: int) -> None:
        super().__init__()
        self.requests = requests

    def grant(self, target: str) -> int:
        super().grant(target)
        return self.requests


class BudgetHarness(PollerHarness):
    """Says of each poll what it cost and how it ended."""

    def __init__(
        self, store: SqliteStore, requests: int, api: FakeApi | None = None, **options: object
    ) -> None:
        self.requests = requests
        self.outcomes: list[str] = []
        self.trusts: bool | None = None
        super().__init__(store, api, **options)

    def restart(self) -> None:
        self.budget = Grants(self.requests)
        super().restart()

    def polls(self, number: int, every: int = 15 * SECOND) -> None:
        for _ in range(number):
            asked = len(self.api.queries)
            self.outcomes.append(asyncio.run(self.poll(every=every)))
            spent = len(self.api.queries) - asked
            assert spent == self.view.last_poll.requests <= self.requests
            if self.outcomes[-1] == "complete":
                assert spent, "a poll is complete that read nothing"


def settled_until(harness: PollerHarness) -> int:
    return harness.repository.ledger.watermarks.settled_until


@pytest.mark.slow
@BUDGETS
@pytest.mark.parametrize("trusted", [True, False], ids=["count-is-meant", "count-ignores-filters"])
def test_a_backlog_is_read_to_its_end(store: SqliteStore, budget: int, trusted: bool) -> None:
    """Windows of many pages are gone on with in the next poll: one request a poll gets on, too."""
    harness = BudgetHarness(store, budget)
    harness.api.count_respects_filters = trusted
    harness.polls(6)
    begin = harness.clock.ms
    for number in range(900):
        harness.api.create(begin + number * 3 * SECOND, "SUCCEED" if number % 10 else "WAITING")
    harness.clock.ms += 60 * MINUTE
    harness.polls(max(12, 400 // budget))
    for job_id in sorted(harness.api.jobs):
        harness.api.finish(job_id)
    harness.polls(max(40, 400 // budget))
    assert (harness.created(), harness.finished(), harness.expired()) == (900, 900, 0)
    assert settled_until(harness) > harness.clock.ms - 25 * MINUTE
    assert ("partial" in harness.outcomes) == (budget < 17)


@pytest.mark.slow
@BUDGETS
def test_every_kind_of_read_has_its_turn(store: SqliteStore, budget: int) -> None:
    """News, settled time, open jobs far apart, the time before: none waits for ever behind another."""
    harness = BudgetHarness(store, budget)
    for age in range(1, 55):
        harness.api.create(harness.clock.ms - age * MINUTE, "SUCCEED")
    stuck = [harness.api.create(harness.clock.ms - age * MINUTE) for age in range(1, 40, 13)]
    harness.polls(30)
    for number in range(200):
        harness.api.create(harness.clock.ms - number % 15 * SECOND, "SUCCEED" if number % 50 else "WAITING")
        harness.polls(1)
    for job_id in harness.api.jobs:
        harness.api.finish(job_id)
    harness.polls(160)
    assert (harness.created(), harness.finished(), harness.open()) == (200 + len(stuck), 200 + len(stuck), 0)
    assert harness.view.gauges is not None
    assert harness.view.gauges.jobs is not None
    assert settled_until(harness) > harness.clock.ms - 12 * MINUTE


@pytest.mark.slow
@BUDGETS
def test_a_second_of_more_pages_than_a_poll_may_read_is_counted(store: SqliteStore, budget: int) -> None:
    """It cannot be made smaller: its passes go on from poll to poll, by type where it comes to that."""
    harness = BudgetHarness(store, budget, max_catch_up=24 * 60 * MINUTE)
    harness.polls(6)
    for number in range(1100):
        harness.api.create(state="SUCCEED", job_type=("AUDITION", "WEBSOCKET")[number % 2])
    harness.polls(max(60, 500 // budget))
    assert harness.created() == 1100
    assert settled_until(harness) > harness.clock.ms - 25 * MINUTE


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1, 2, 5])
@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
def test_without_time_filters_a_list_takes_several_polls(
    store: SqliteStore, budget: int, newest_first: bool
) -> None:
    """Forty pages: no poll reads more than it may, and each goes on where the last one ended."""
    harness = BudgetHarness(store, budget, time_filters=False)
    harness.api.time_filters_work, harness.api.newest_first = False, newest_first
    for number in range(1500 if budget < 5 else 4000):
        harness.api.create(harness.clock.ms - 60 * MINUTE - number * SECOND, "SUCCEED")
    harness.polls(2)
    new = []
    for _ in range(60):
        new.append(harness.api.create(text_length=7))
        harness.polls(1)
        if len(new) > 10:
            harness.api.finish(new[-10])
    for job_id in new:
        harness.api.finish(job_id)
    harness.polls(100)
    assert (harness.created(), harness.finished(), harness.open()) == (60, 60, 0)
    assert settled_until(harness) > harness.clock.ms - 25 * MINUTE
    assert set(harness.outcomes[2:]) <= {"partial", "complete"}
    assert "complete" in harness.outcomes


@pytest.mark.slow
def test_a_list_that_grows_between_polls_is_read_to_its_end(store: SqliteStore) -> None:
    """The anchor may be pages further on: what comes before it was received, or is for the next reading."""
    harness = BudgetHarness(store, 4, time_filters=False)
    harness.api.time_filters_work = False
    for number in range(1200):
        harness.api.create(harness.clock.ms - 60 * MINUTE - number * SECOND, "SUCCEED")
    harness.polls(2)
    created = 0
    for _ in range(20):
        for _ in range(130):
            harness.api.create(harness.clock.ms, "SUCCEED")
            created += 1
        harness.polls(1)
    harness.polls(60)
    assert harness.created() == created
    assert settled_until(harness) > harness.clock.ms - 25 * MINUTE


@pytest.mark.slow
@pytest.mark.parametrize("growth", [49, 99])
def test_growth_that_puts_the_anchor_last_ends_no_reading(store: SqliteStore, growth: int) -> None:
    """Nothing behind the anchor on a full page is no end: open jobs further on would vanish."""
    harness = BudgetHarness(store, 4, time_filters=False)
    harness.api.time_filters_work = False
    for number in range(700):
        harness.api.create(harness.clock.ms - 60 * MINUTE - number * SECOND, "SUCCEED")
    harness.polls(4)
    still_open = [harness.api.create() for _ in range(5)]
    created = len(still_open)
    harness.polls(6)
    for _ in range(24):
        for _ in range(growth):
            harness.api.create(state="SUCCEED")
        created += growth
        harness.polls(1)
    for job_id in still_open:
        harness.api.finish(job_id)
    harness.polls(40)
    assert (harness.created(), harness.finished(), harness.expired()) == (created, created, 0)


@pytest.mark.slow
@pytest.mark.parametrize("clip", [2, 5, 20])
@pytest.mark.parametrize("budget", [1, 10])
@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
def test_small_pages_are_read_to_the_end_of_the_list(
    store: SqliteStore, clip: int, budget: int, newest_first: bool
) -> None:
    """What is read once more after a pause is less than what a poll reads, however little that is."""
    harness = BudgetHarness(store, budget, time_filters=False)
    harness.api.time_filters_work, harness.api.newest_first, harness.api.clip = False, newest_first, clip
    for number in range(60):
        harness.api.create(harness.clock.ms - 60 * MINUTE - number * SECOND, "SUCCEED")
    harness.polls(2)
    for _ in range(10):
        harness.api.create(state="SUCCEED")
        harness.polls(4)
    assert settled_until(harness) <= harness.clock.ms - 5 * MINUTE
    reading = 140 // max(1, budget * (clip - 1) // 2)
    harness.polls(20 + 3 * reading)
    assert harness.created() == 10
    assert settled_until(harness) > harness.clock.ms - (6 + reading) * MINUTE
    assert "complete" in harness.outcomes[2:]


@pytest.mark.slow
def test_a_record_deleted_while_a_reading_waits_hides_no_other(store: SqliteStore) -> None:
    """The list moved by one: the next page begins behind the anchor, unless it is asked for further back."""
    rng = random.Random(5)
    harness = BudgetHarness(store, 3, time_filters=False)
    harness.api.time_filters_work = False
    harness.api.newest_first = False
    old = [harness.api.create(harness.clock.ms - (900 - n) * 5 * SECOND, "SUCCEED") for n in range(700)]
    harness.polls(2)
    for _ in range(60):
        harness.api.create(state="SUCCEED")
        harness.polls(1)
        del harness.api.jobs[old.pop(rng.randrange(len(old)))]
    harness.polls(30)
    assert harness.created() == 60
    assert settled_until(harness) > harness.clock.ms - 25 * MINUTE


def test_a_poll_without_a_request_left_is_not_complete(store: SqliteStore) -> None:
    """It says why, and what to change."""
    harness = BudgetHarness(store, 1)
    harness.polls(3)
    assert "partial" in harness.outcomes
    assert "complete" not in harness.outcomes[:2]
    assert "rate_limit or poll.interval" in harness.views[0].last_poll.problem


def test_what_a_window_showed_counts_though_the_budget_ended(store: SqliteStore) -> None:
    """It may be deleted before the next poll."""
    harness = BudgetHarness(store, 2)
    harness.polls(5)
    harness.api.count_respects_filters = False
    for number in range(450):
        harness.api.create(harness.clock.ms - number * SECOND // 40, "SUCCEED")
    shown: set[str] = set()

    def delete(query: JobsQuery, page: Page) -> Page:
        shown.update(record.job_id or "" for record in page.records)
        return page

    harness.api.answer = delete
    harness.polls(1)
    assert harness.outcomes[-1] == "partial"
    assert harness.created() == len(shown) > 90
