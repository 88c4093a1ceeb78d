"""The budget of a poll, and what targets with the same credentials make of it together."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from exporter.polling.budget import LEAST, Budget
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, FakeClock
from tests.fake_api import FakeApi, PollerHarness


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
    budget.spent("a", 25)
    assert budget.grant("a") == 69


def test_at_a_start_each_of_many_targets_has_just_its_part() -> None:
    """Nobody knows yet who needs what, and all of them begin at once."""
    budget = Budget()
    for number in range(10):
        budget.join(str(number), 75)
    assert [budget.grant(str(number)) for number in range(10)] == [7] * 10


def test_unspent_grants_are_granted_to_nobody_else() -> None:
    """While the first poll is under way it may use all that it was granted; then the rest is free."""
    budget = Budget()
    for number in range(10):
        budget.join(str(number), 75)
        budget.spent(str(number), 5)
    assert [budget.grant(str(number)) for number in range(4)] == [15, 15, 14, 7]
    budget.spent("0", 6)
    assert budget.grant("4") == 14


@pytest.mark.parametrize("place", [0, 5, 9])
def test_a_busy_target_among_quiet_ones_gets_nearly_everything(
    place: int,
) -> None:
    """Within eight polls, all begun at once, though it uses only half of what it gets, as a catch-up does."""
    needs = [1000 if number == place else 2 for number in range(10)]
    granted, used = polls_at_once(needs, rounds=8, share=0.5)
    assert granted[place] == 75 - 9 * 2
    assert sum(used) <= 75


@pytest.mark.slow
@given(st.lists(st.integers(0, 200), min_size=1, max_size=12))
def test_polls_begun_at_once_soon_keep_to_the_limit_together(needs: list[int]) -> None:
    """However many are busy; and each is sure of its part."""
    granted, used = polls_at_once(needs, rounds=12)
    assert min(granted) >= max(LEAST, 75 // len(needs))
    assert sum(used) <= 75


def polls_at_once(needs: list[int], *, rounds: int, share: float = 1.0) -> tuple[list[int], list[int]]:
    """What is granted and used in the last of several rounds; in each, all polls are under way together."""
    budget = Budget()
    granted: list[int] = []
    used: list[int] = []
    for number in range(len(needs)):
        budget.join(str(number), 75)
    for _ in range(rounds):
        granted = [budget.grant(str(number)) for number in range(len(needs))]
        used = [min(need, int(share * most)) for need, most in zip(needs, granted, strict=True)]
        for number, requests in enumerate(used):
            budget.spent(str(number), requests)
    return granted, used


@pytest.mark.slow
@given(
    st.integers(1, 12),
    st.integers(10, 300),
    st.lists(st.tuples(st.integers(0, 11), st.none() | st.integers(0, 300)), max_size=60),
)
def test_polls_never_hold_more_than_the_limit_and_their_parts(
    targets: int, whole: int, story: list[tuple[int, int | None]]
) -> None:
    """In whatever order polls begin and end, or are cancelled and begin again, and whatever they use."""
    budget = Budget()
    part = max(LEAST, whole // targets)
    under_way: dict[str, int] = {}
    for number in range(targets):
        budget.join(str(number), whole)
    for number, requests in story:
        name = str(number % targets)
        if requests is None:
            under_way[name] = budget.grant(name)
            assert part <= under_way[name] <= max(whole, LEAST)
        else:
            under_way.pop(name, None)
            budget.spent(name, requests)
        assert sum(granted - part for granted in under_way.values()) <= whole


def test_a_target_that_fails_holds_nothing_down() -> None:
    """It was catching up when its endpoint stopped answering: others keep their part, and soon have its,
    too.
    """
    budget = Budget()
    for name in "ab":
        budget.join(name, 75)
        budget.spent(name, 2)
    budget.spent("a", 60)
    assert budget.grant("a") == 73  # under way, and never answered
    assert budget.grant("b") == 37
    budget.spent("a", 1)
    budget.spent("b", 37)
    assert [budget.grant("a"), budget.grant("b")] == [37, 74]


def test_the_lowest_rate_is_in_force_for_all() -> None:
    """As with the limiter that they share."""
    budget = Budget()
    budget.join("a", 75)
    budget.join("b", 15)
    budget.spent("a", 70)
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
def harness(store: SqliteStore) -> PollerHarness:
    return PollerHarness(store, FakeApi(FakeClock()), budget=20)


@pytest.mark.slow
def test_a_poll_keeps_to_its_budget_and_says_what_it_used(harness: PollerHarness) -> None:
    """However many open jobs are due."""
    asyncio.run(harness.poll(4))
    old = [harness.api.create(harness.clock.ms - number * 20 * SECOND) for number in range(200)]
    for number in range(1500):
        harness.api.create(harness.clock.ms - number * SECOND, state="SUCCEED")
    for _ in range(40):
        before = harness.reader.requests
        asyncio.run(harness.poll())
        spent = harness.reader.requests - before
        assert spent <= 20
        assert (harness.view.last_poll.requests, harness.view.last_poll.budget) == (spent, 20)
    assert old


@pytest.mark.slow
def test_open_jobs_that_do_not_fit_take_turns(harness: PollerHarness) -> None:
    """Twenty-five stuck jobs far apart, a budget of twenty: each is rechecked again and again."""
    asyncio.run(harness.poll(4))
    begin = harness.clock.ms
    stuck = []
    for _ in range(25):
        stuck.append(harness.api.create())
        for number in range(60):
            harness.api.create(harness.clock.ms + number % 15 * SECOND, state="SUCCEED")
        asyncio.run(harness.poll())
    asyncio.run(harness.poll(20))
    for job in stuck:
        harness.api.finish(job)
    asyncio.run(harness.poll(40))
    assert harness.open() == 0
    assert harness.clock.ms - begin < 60 * MINUTE


@pytest.mark.slow
def test_what_exceeds_the_budget_waits_longest_unseen_first(store: SqliteStore) -> None:
    """Forty stuck jobs in dense minutes and six requests a poll: no poll costs more, no job is left out."""
    harness = PollerHarness(store, budget=400)
    asyncio.run(harness.poll(4))
    stuck = []
    for _ in range(40):
        stuck.append(harness.api.create())
        for number in range(200):
            harness.api.create(harness.clock.ms + number % 14 * SECOND, state="SUCCEED")
        asyncio.run(harness.poll())
    harness.settings = replace(harness.settings, budget=6)
    harness.restart()
    for _ in range(40):
        before = harness.reader.requests
        asyncio.run(harness.poll())
        assert harness.reader.requests - before <= 6
    last_checked = [
        job.last_checked
        for job_id in stuck
        if (job := harness.repository.ledger.jobs.get(job_id)) is not None
    ]
    assert len(last_checked) == 40
    assert min(last_checked) > harness.clock.ms - 4 * MINUTE


def test_replicas_divide_the_budget() -> None:
    """Each has its part of what one process may spend."""
    parts = [1.0]
    budget = Budget(lambda: parts[0])
    budget.join("a", 75)
    budget.spent("a", 60)
    parts[0] = 1 / 3
    assert budget.grant("a") == 25
