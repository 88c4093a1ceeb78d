"""The breaker: a refusal concerns the place it came from; all places together are tried only a few times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress

import msgspec
import pytest

from exporter.cloud.http.breaker import Breaker
from exporter.cloud.http.refusals import PlaceRecord
from exporter.cloud.shared_limits import SharedLimits
from exporter.errors import ApiError
from tests.cloud.harness import FakeTime, run

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


@pytest.mark.slow
@pytest.mark.parametrize("places", [1, 2, 3, 8, 40])
def test_wrong_keys_never_sign_more_than_thrice_in_five_minutes(
    breaker: Breaker, time: FakeTime, places: int
) -> None:
    """However many endpoints refuse them, for hours, all together; and each endpoint has its turn."""
    names = [str(number) for number in range(places)]
    tried = attempts(breaker, time, names, seconds=places * 400.0 + 3600.0)
    assert worst_window(at for at, _ in tried) <= 3
    assert {place for _, place in tried} == set(names)


def test_the_example_of_the_module(breaker: Breaker, time: FakeTime) -> None:
    """Five targets with one wrong secret, until it is corrected."""
    began = time.now
    tried = attempts(breaker, time, "ABCDE", seconds=905.0)
    expected = [(0, "A"), (0, "B"), (0, "C"), (300, "A"), (300, "D"), (300, "E"), (600, "B"), (900, "C")]
    assert [(at - began, place) for at, place in tried] == expected
    assert all(may(breaker, place, "corrected keys") for place in "ABCDE")


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
def test_good_keys_that_expire_are_noticed_at_two_places(
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
    breaker.restore(msgspec.json.decode(stored, type=tuple[PlaceRecord, ...]))
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
    """Places that accepted them lately are believed until four signatures were refused in a row."""
    attempts(breaker, time, "abcdefgh", seconds=15.0, good=frozenset("abcdefgh"))
    again = restored(time, msgspec.json.encode(breaker.state))
    assert len(attempts(again, time, "abcdefgh", seconds=280.0)) <= 4


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


class SlowGateway:
    """Takes as long as it likes to answer; ``bad`` keys are refused."""

    def __init__(self, breaker: Breaker, *, corrects: bool = False, waits: float = 0.0) -> None:
        self.breaker = breaker
        self.waits = waits
        """How long, in real seconds, a corrected request may wait."""
        self.corrects = corrects
        """Is a refused signature followed by one with another time?"""
        self.good: set[str] = set()
        self.sent: list[str] = []
        self.signatures = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Event] = {}

    async def ask(self, *places: str) -> None:
        """One request to each of them."""
        for place in places:
            self._answers[place] = asyncio.Event()
            self._tasks[place] = asyncio.create_task(self._one(place))
            await self._settle()

    async def answer(self, *places: str) -> None:
        for place in places:
            self._answers[place].set()
            await self._settle()

    async def answer_all(self) -> None:
        """Again and again, until nothing is under way."""
        while waiting := [place for place in self.sent if not self._answers[place].is_set()]:
            await self.answer(*waiting)

    async def cancel(self, *places: str) -> None:
        for place in places:
            self._tasks[place].cancel()
        await self._settle()

    async def hang_up(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _one(self, place: str) -> None:
        with suppress(ApiError):
            async with self.breaker.use("keys", place) as use:
                await use.begin(60.0)
                self.sent.append(place)
                self.signatures += 1
                bad = place not in self.good
                await self._answers[place].wait()
                if bad:
                    try:
                        if self.corrects:
                            with suppress(TimeoutError, ApiError):
                                await use.begin(self.waits)
                                self.signatures += 1
                    finally:
                        self.breaker.refuse("keys", place, "why", signatures=use.signatures)
                else:
                    use.accept()

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


EVERYWHERE = [f"{endpoint}/{project}" for endpoint in "abcde" for project in "12"]
KNOWN = pytest.mark.parametrize(
    "known", [0, 1, 5, 10], ids=["new_keys", "one_accepted", "half_accepted", "all_accepted"]
)


@KNOWN
@pytest.mark.parametrize("trials", [2, 3], ids=["password", "keys"])
@pytest.mark.parametrize("restart", [False, True], ids=["running", "after_a_restart"])
def test_refusals_that_take_their_time_are_few(
    time: FakeTime, trials: int, known: int, restart: bool
) -> None:
    """All places poll at once, before any is answered: four bad signatures at most, of passwords three."""
    breaker = Breaker(wall=time.wall, monotonic=time.monotonic, trials=trials)
    for place in EVERYWHERE[:known]:
        breaker.accept("keys", place)
    if restart:
        stored = msgspec.json.encode(breaker.state)
        breaker = Breaker(wall=time.wall, monotonic=time.monotonic, trials=trials)
        breaker.restore(msgspec.json.decode(stored, type=tuple[PlaceRecord, ...]))

    async def scenario() -> int:
        gateway = SlowGateway(breaker)
        for _ in range(3):
            await gateway.ask(*EVERYWHERE)
            time.now += 8.0
            await gateway.answer_all()
            await gateway.hang_up()
        return len(gateway.sent)

    assert run(scenario()) <= trials + 1 - (known == 0)


def test_an_acceptance_on_its_way_settles_no_later_refusal(breaker: Breaker) -> None:
    """It was sent before the keys ended; that it arrives after a refusal makes them no better."""

    async def scenario() -> int:
        gateway = SlowGateway(breaker)
        for place in EVERYWHERE:
            breaker.accept("keys", place)
        gateway.good = {"a/1"}
        await gateway.ask("a/1", "b/1", "c/1")
        await gateway.answer("b/1", "c/1", "a/1")
        gateway.good = set()
        await gateway.ask(*EVERYWHERE)
        await gateway.answer_all()
        await gateway.hang_up()
        return len(gateway.sent) - 1

    assert run(scenario()) <= 4


@pytest.mark.parametrize("corrects", [False, True], ids=["once", "with_a_corrected_clock"])
@pytest.mark.parametrize("restart", [False, True], ids=["running", "after_a_restart"])
def test_one_sick_endpoint_silences_no_other(
    breaker: Breaker, time: FakeTime, restart: bool, corrects: bool
) -> None:
    """Its three targets, accepted before, are all refused; those of another endpoint go on."""
    sick, well = ["sick/1", "sick/2", "sick/3"], ["well/1", "well/2"]
    for place in (*well, *sick):
        breaker.accept("keys", place)

    async def scenario() -> list[str]:
        gateway = SlowGateway(breaker, corrects=corrects)
        await gateway.ask(*sick)
        await gateway.answer_all()
        await gateway.hang_up()
        gateway = SlowGateway(restored(time, msgspec.json.encode(breaker.state)) if restart else breaker)
        gateway.good = set(well)
        await gateway.ask(*well)
        await gateway.answer_all()
        await gateway.ask(*well)
        await gateway.answer_all()
        await gateway.hang_up()
        return gateway.sent

    assert run(scenario()) == well * 2


def test_what_hangs_leaves_room_for_the_others(breaker: Breaker, time: FakeTime) -> None:
    """Targets of one endpoint, or endpoints once known for it, are never answered; another is at once."""
    silent = [f"{name}/1" for name in "abcdef"]
    for place in (*silent, "a/2", "a/3", "a/4", "well/1"):
        breaker.accept("keys", place)

    async def scenario() -> None:
        gateway = SlowGateway(breaker)
        gateway.good = {"well/1"}
        for hanging in (["a/2", "a/3", "a/4"], *([name] for name in silent), silent):
            await gateway.ask(*hanging, "well/1")
            await gateway.answer("well/1")
            assert gateway.sent[-1] == "well/1"
            time.now += 30.0
            await gateway.hang_up()

    run(scenario())


def test_new_places_come_before_silent_endpoints(breaker: Breaker, time: FakeTime) -> None:
    """Three endpoints with many targets never answer: a fourth waits for one of them only."""

    async def scenario() -> None:
        gateway = SlowGateway(breaker)
        await gateway.ask(*(f"{endpoint}/{number}" for number in range(4) for endpoint in "abc"), "well/1")
        time.now += 30.0
        await gateway.cancel(*gateway.sent[:2])
        assert "well/1" in gateway.sent
        await gateway.hang_up()

    run(scenario())


def test_new_keys_are_tried_once_at_a_time_at_an_endpoint(breaker: Breaker) -> None:
    """Ten targets of one endpoint: the second signs only after the first was answered."""

    async def scenario() -> None:
        gateway = SlowGateway(breaker)
        await gateway.ask(*(f"a/{number}" for number in range(10)))
        assert len(gateway.sent) == 1
        await gateway.answer(*gateway.sent)
        assert len(gateway.sent) == 2
        await gateway.hang_up()

    run(scenario())


def test_accepted_keys_are_used_twice_at_a_time_at_an_endpoint(breaker: Breaker) -> None:
    """Also for the targets that wait behind hundreds of others, each as soon as one is answered."""

    async def scenario() -> None:
        gateway = SlowGateway(breaker)
        places = [f"a/{number}" for number in range(300)]
        gateway.good = set(places)
        for place in places:
            breaker.accept("keys", place)
        await gateway.ask(*places)
        for answered in range(5):
            assert len(gateway.sent) == answered + 2
            await gateway.answer(gateway.sent[answered])
        await gateway.hang_up()

    run(scenario())


def test_the_state_is_written_again_only_when_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for several times a second; whatever was accepted or refused, it is that of the moment."""
    rng = random.Random(3)
    made: list[Breaker] = []
    time = FakeTime()
    shared = SharedLimits(claims=None, monotonic=time.monotonic, wall=time.wall, sleep=time.sleep)
    breaker = shared.breaker("key")
    state = Breaker.state.fget  # type: ignore[attr-defined]  # of a property

    def noting(self: Breaker) -> tuple[PlaceRecord, ...]:
        made.append(self)
        return tuple(state(self))

    monkeypatch.setattr(Breaker, "state", property(noting))
    for _ in range(300):
        place = f"host/{rng.randrange(3)}"
        match rng.randrange(6):
            case 0:
                breaker.refuse("c", place, "bad signature")
            case 1:
                breaker.deny("c", place, "no permission")
            case 2:
                breaker.restore(
                    (PlaceRecord("", 0.0, "", f"host/{rng.randrange(9)}", signatures=0, accepted=True),)
                )
            case 3:
                time.now += rng.choice((1.0, 61.0, 301.0))
            case _:
                breaker.accept("c", place)
        now = state(breaker)
        wanted = {"key": msgspec.json.encode(now).decode()} if now else {}
        assert shared.states() == wanted
    for number in range(3):
        breaker.accept("c", f"host/{number}")
    shared.states()
    made.clear()
    for _ in range(10):
        shared.states()
        breaker.accept("c", "host/1")
    assert made == []
