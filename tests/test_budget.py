"""The budget of a poll, and what targets with the same credentials make of it together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.budget import LEAST, Budget
from exporter.store.sqlite import SqliteStore
from tests.fake_api import MINUTE, SECOND, FakeApi, FakeClock, House


def test_one_target_has_the_whole_budget() -> None:
    """Nobody to share with."""
    budget = Budget()
    budget.join("a", 75)
    budget.spent("a", 60)
    assert budget.grant("a") == 75


def test_each_target_is_sure_of_an_equal_part() -> None:
    """One that catches up must not starve the others."""
    budget = Budget()
    for name in "abc":
        budget.join(name, 90)
    budget.spent("a", 80)
    assert [budget.grant(name) for name in "abc"] == [90, 30, 30]


def test_what_the_others_leave_over_may_be_used() -> None:
    """Three quiet targets leave nearly all of it to the one with a backlog."""
    budget = Budget()
    for name in "abcd":
        budget.join(name, 75)
        budget.spent(name, 2)
    assert budget.grant("a") == 69


def test_the_lowest_rate_is_in_force_for_all() -> None:
    """As with the limiter that they share."""
    budget = Budget()
    budget.join("a", 75)
    budget.join("b", 15)
    assert budget.grant("a") == 15


def test_many_targets_on_a_small_limit_still_poll() -> None:
    """A part of nothing would be a target that is never polled."""
    budget = Budget()
    for number in range(50):
        budget.join(str(number), 10)
        budget.spent(str(number), 5)
    assert budget.grant("0") == LEAST


def test_a_target_that_left_leaves_its_part() -> None:
    """After a reload its past use counts no longer."""
    budget = Budget()
    budget.join("a", 75)
    budget.join("b", 75)
    budget.spent("b", 70)
    budget.leave("b")
    budget.spent("b", 70)
    assert budget.grant("a") == 75


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    store = SqliteStore(tmp_path / "books.db")
    yield House(store, FakeApi(FakeClock()), budget=20)
    store.close()


def test_a_poll_keeps_to_its_budget_and_says_what_it_used(house: House) -> None:
    """However many open jobs are due; one read that is under way may end."""
    asyncio.run(house.poll(4))
    old = [house.api.create(house.clock.ms - number * 20 * SECOND) for number in range(200)]
    for number in range(1500):
        house.api.create(house.clock.ms - number * SECOND, state="SUCCEED")
    for _ in range(40):
        before = house.reader.requests
        asyncio.run(house.poll())
        spent = house.reader.requests - before
        assert spent <= 20 + 10
        assert (house.view.last_poll_requests, house.view.poll_budget) == (spent, 20)
    assert old


def test_open_jobs_that_do_not_fit_take_turns(house: House) -> None:
    """Twenty-five stuck jobs far apart, a budget of twenty: each is looked at again and again."""
    asyncio.run(house.poll(4))
    begin = house.clock.ms
    stuck = []
    for _ in range(25):
        stuck.append(house.api.create())
        for number in range(60):
            house.api.create(house.clock.ms + number % 15 * SECOND, state="SUCCEED")
        asyncio.run(house.poll())
    asyncio.run(house.poll(20))
    for job in stuck:
        house.api.finish(job)
    asyncio.run(house.poll(40))
    assert house.open() == 0
    assert house.clock.ms - begin < 60 * MINUTE
