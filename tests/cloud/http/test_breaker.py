"""The breaker: a refusal concerns the place it came from; all places together are tried only a few times."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import pytest

from exporter.cloud.http import breaker as module
from exporter.cloud.http.breaker import Breaker, Refused
from exporter.errors import ApiError
from tests.cloud.world import FakeTime, run

FIVE_MINUTES = 300.0


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def breaker(time: FakeTime) -> Breaker:
    return Breaker(wall=time.wall, monotonic=time.monotonic)


def may(breaker: Breaker, place: str, keys: str = "keys") -> bool:
    try:
        breaker.check(keys, place)
    except ApiError:
        return False
    return True


def attempts(
    breaker: Breaker,
    time: FakeTime,
    places: Iterable[str],
    *,
    seconds: float,
    good: frozenset[str] = frozenset(),
) -> list[tuple[float, str]]:
    """When each place was tried, if each wants to every 15 seconds and only the good ones accept."""
    tried: list[tuple[float, str]] = []
    places = list(places)
    end = time.now + seconds
    while time.now < end:
        for place in places:
            if not may(breaker, place):
                continue
            tried.append((time.now, place))
            if place in good:
                breaker.accept("keys", place)
            else:
                breaker.refuse("keys", place, "why")
        time.now += 15.0
    return tried


def worst_window(times: Iterable[float]) -> int:
    times = list(times)
    return max(sum(start <= at < start + FIVE_MINUTES for at in times) for start in times)


@pytest.mark.parametrize("places", [1, 2, 3, 8, 40])
def test_wrong_keys_never_sign_more_than_thrice_in_five_minutes(
    breaker: Breaker, time: FakeTime, places: int
) -> None:
    """However many endpoints refuse them, for hours, all together; and each endpoint has its turn."""
    names = [str(number) for number in range(places)]
    tried = attempts(breaker, time, names, seconds=places * 400.0 + 3600.0)
    assert worst_window(at for at, _ in tried) <= 3
    assert {place for _, place in tried} == set(names)


def test_places_that_were_refused_take_turns(breaker: Breaker, time: FakeTime) -> None:
    """None is tried a second time before each of the others."""
    tried = attempts(breaker, time, "abcd", seconds=6 * 3600.0)
    later = [place for at, place in tried if at > tried[0][0] + 3600.0]
    assert all(len(set(later[first : first + 4])) == 4 for first in range(len(later) - 3))


@pytest.mark.parametrize("order", ["good_first", "good_last"])
def test_endpoints_that_refuse_leave_the_good_one_alone(breaker: Breaker, time: FakeTime, order: str) -> None:
    """Two refuse the keys and a third accepts them: that one is tried at once and every time."""
    places = ["good", "b", "c"] if order == "good_first" else ["b", "c", "good"]
    tried = attempts(breaker, time, places, seconds=3600.0, good=frozenset(["good"]))
    assert sum(place == "good" for _, place in tried) == 3600 / 15
    assert worst_window(at for at, place in tried if place != "good") <= 3


def test_a_new_place_needs_not_wait_for_those_that_were_refused(breaker: Breaker, time: FakeTime) -> None:
    """Eight endpoints that refuse the keys leave room for one that is added later."""
    attempts(breaker, time, "abcdefgh", seconds=3600.0)
    assert may(breaker, "new")


@pytest.mark.parametrize("under_way", [1, 2, 3])
def test_good_keys_that_end_everywhere_are_noticed_at_two_places(
    breaker: Breaker, time: FakeTime, under_way: int
) -> None:
    """Ten endpoints accepted them: after the requests under way at most two more signatures are made."""
    for place in "abcdefghij":
        breaker.accept("keys", place)
    sent = under_way
    for place in "abcdefghij"[:under_way]:
        breaker.refuse("keys", place, "why")
    sent += len(attempts(breaker, time, "abcdefghij", seconds=280.0))
    assert sent <= 4


def test_one_refusal_after_another_leaves_good_keys_alone(breaker: Breaker, time: FakeTime) -> None:
    """Where some place accepts the keys in between, refusals of others are no reason to doubt them."""
    places = ["a", "b", "c", "d", "good"]
    for place in places:
        breaker.accept("keys", place)
    for place in "abcd":
        breaker.refuse("keys", place, "why")
        assert may(breaker, "good")
        breaker.accept("keys", "good")


def test_changed_keys_are_tried_at_once_after_three_refusals(breaker: Breaker, time: FakeTime) -> None:
    """Whoever corrects the keys needs not wait; but a fourth refusal is the last one of five minutes."""
    attempts(breaker, time, "abcd", seconds=15.0)
    assert may(breaker, "a", keys="corrected")
    breaker.refuse("corrected", "a", "why")
    assert not may(breaker, "b", keys="corrected")
    assert not may(breaker, "a", keys="corrected again")


def test_a_denial_costs_no_trial(breaker: Breaker, time: FakeTime) -> None:
    """Ten targets without permission keep none from being tried; each is asked again after a minute."""
    for number in range(10):
        breaker.deny("keys", str(number), "no permission")
    assert may(breaker, "other")
    with pytest.raises(
        ApiError, match="access is denied and asked for again in 60 s: no permission"
    ) as caught:
        breaker.check("keys", "3")
    assert caught.value.denied
    time.now += 60
    assert all(may(breaker, str(number)) for number in range(10))


@pytest.mark.parametrize("step", [-86400.0, 86400.0], ids=["back", "ahead"])
def test_a_step_of_the_wall_clock_changes_no_wait(breaker: Breaker, time: FakeTime, step: float) -> None:
    """Five minutes are measured on the monotonic clock."""
    attempts(breaker, time, "abc", seconds=15.0)
    time.wall_offset += step
    time.now += 270
    assert not any(may(breaker, place) for place in "abcd")
    time.now += 30
    assert may(breaker, "a")


def restored(time: FakeTime, stored: bytes) -> Breaker:
    breaker = Breaker(wall=time.wall, monotonic=time.monotonic)
    breaker.restore(msgspec.json.decode(stored, type=tuple[Refused, ...]))
    return breaker


def test_a_restart_forgets_no_refusal(breaker: Breaker, time: FakeTime) -> None:
    """What was stored keeps its place waiting and counts for the others; a clock set back adds nothing."""
    attempts(breaker, time, "abc", seconds=15.0)
    time.wall_offset -= 86400
    again = restored(time, msgspec.json.encode(breaker.state))
    assert not any(may(again, place) for place in "abcd")
    time.now += FIVE_MINUTES
    assert may(again, "a")


def test_a_restart_leaves_good_keys_alone(breaker: Breaker, time: FakeTime) -> None:
    """Three endpoints refuse them; the one that accepted them is asked on at once, by a new process, too."""
    attempts(breaker, time, ["good", "a", "b", "c"], seconds=15.0, good=frozenset(["good"]))
    again = breaker
    for _ in range(3):
        again = restored(time, msgspec.json.encode(again.state))
        tried = attempts(again, time, ["good", "new", "a"], seconds=30.0, good=frozenset(["good"]))
        assert [place for _, place in tried] == ["good"] * 2


def test_good_keys_that_ended_before_a_restart_are_noticed(breaker: Breaker, time: FakeTime) -> None:
    """Places that accepted them lately are believed until two of them refuse."""
    attempts(breaker, time, "abcdefgh", seconds=15.0, good=frozenset("abcdefgh"))
    again = restored(time, msgspec.json.encode(breaker.state))
    assert len(attempts(again, time, "abcdefgh", seconds=280.0)) <= 3


def test_no_stored_state_helps_to_guess_a_good_secret(breaker: Breaker) -> None:
    """What was accepted is stored without its fingerprint."""
    breaker.accept("keys", "place")
    assert b"keys" not in msgspec.json.encode(breaker.state)


def test_refusals_that_an_older_version_stored_count(time: FakeTime) -> None:
    """They name no place: each is one of the few refusals, and no place waits for it."""
    old = [{"fingerprint": "keys", "until": time.wall() + 200, "reason": "why"}]
    breaker = restored(time, msgspec.json.encode(old))
    assert may(breaker, "a")
    tried = attempts(breaker, time, "abcd", seconds=30.0)
    assert len(tried) == 2


def test_one_request_at_a_time_tries_new_keys(breaker: Breaker, time: FakeTime) -> None:
    """Ten endpoints at once: the second signs only after the first was answered, and so on."""
    sent = 0

    async def one(place: str) -> None:
        nonlocal sent
        async with breaker.permit("keys", place, 60.0):
            sent += 1
            await asyncio.sleep(0)
            breaker.refuse("keys", place, "why")

    async def scenario() -> None:
        await asyncio.gather(*(one(place) for place in "abcdefghij"), return_exceptions=True)

    run(scenario())
    assert sent == 3


def test_a_trial_without_an_answer_lets_the_next_begin(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight endpoints that never answer do not keep the ninth from trying the keys."""
    monkeypatch.setattr(module, "_HANDOVER", 0.01)
    breaker = Breaker(wall=time.wall, monotonic=time.monotonic)

    async def hang(place: str) -> None:
        async with breaker.permit("keys", place, 60.0):
            await asyncio.sleep(3600)

    async def scenario() -> None:
        hanging = [asyncio.create_task(hang(place)) for place in "abcdefgh"]
        await asyncio.sleep(0)
        async with breaker.permit("keys", "good", 60.0):
            breaker.accept("keys", "good")
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    run(scenario())
    assert may(breaker, "good")
