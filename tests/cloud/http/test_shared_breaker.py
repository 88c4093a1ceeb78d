"""The breakers of several processes with the same credentials: together they do not lock them."""

from __future__ import annotations

import asyncio

import pytest

from exporter.cloud.http.breaker import Breaker
from exporter.cloud.http.shared_breaker import SharedBreaker
from exporter.errors import ApiError
from tests.cloud.harness import FakeTime, run
from tests.cloud.http.test_breaker import EVERYWHERE, FIVE_MINUTES, KNOWN, SlowGateway


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


class OneClaim:
    """What several processes have in their database."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time
        self._holder: OneOfClaim | None = None
        self._refused_until = float("-inf")

    def of_one(self) -> OneOfClaim:
        return OneOfClaim(self)

    def take(self, process: OneOfClaim) -> float:
        if (left := self._refused_until - self._time.now) > 0:
            return left
        if self._holder not in (None, process):
            return 0.001
        self._holder = process
        return 0.0

    def end(self, process: OneOfClaim, seconds: float) -> None:
        if self._holder is process:
            self._holder, self._refused_until = None, self._time.now + seconds


class OneOfClaim:
    """One process's side of it."""

    def __init__(self, claim: OneClaim) -> None:
        self._claim = claim

    async def take(self) -> float:
        await asyncio.sleep(0)
        return self._claim.take(self)

    async def end(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self._claim.end(self, seconds)


def of_processes(number: int, time: FakeTime, *, trials: int = 3) -> list[SharedBreaker]:
    """One breaker in each, for the same credentials."""
    claim = OneClaim(time)
    breakers = [
        SharedBreaker(claim.of_one(), wall=time.wall, monotonic=time.monotonic, trials=trials)
        for _ in range(number)
    ]
    for breaker in breakers:
        breaker.divide(number)
    return breakers


@KNOWN
@pytest.mark.parametrize("corrects", [False, True], ids=["once", "with_a_corrected_clock"])
@pytest.mark.parametrize("trials", [2, 3], ids=["password", "keys"])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_together_they_send_few_bad_signatures(
    time: FakeTime, processes: int, trials: int, corrects: bool, known: int
) -> None:
    """All poll all places at once, before any is answered and before any knows what the others were told."""
    breakers = of_processes(processes, time, trials=trials)

    async def scenario() -> int:
        gateways = [SlowGateway(breaker, corrects=corrects, waits=0.01) for breaker in breakers]
        for breaker in breakers:
            for place in EVERYWHERE[:known]:
                breaker.accept("keys", place)
        for _ in range(3):
            for gateway in gateways:
                await gateway.ask(*EVERYWHERE)
            time.now += 8.0
            for gateway in gateways:
                await gateway.answer_all()
            for gateway in gateways:
                await gateway.hang_up()
        return sum(gateway.signatures for gateway in gateways)

    assert run(scenario()) <= trials + 1


def test_corrected_credentials_are_tried_by_every_process(time: FakeTime) -> None:
    """At once, one after the other, though each has been refused: each that is accepted lets the next one."""
    breakers = of_processes(3, time)
    for breaker in breakers:
        breaker.refuse("wrong", "a/1", "why")

    async def scenario() -> None:
        for breaker in breakers:
            assert not await begun(breaker, "wrong")
        for breaker in breakers:
            assert await begun(breaker, "right", accepted=True)

    run(scenario())


def test_a_claim_that_was_refused_is_for_nobody(time: FakeTime) -> None:
    """Credentials were corrected, wrongly: one process tries them, for five minutes no other one does."""
    one, other, third = of_processes(3, time)
    for breaker in (one, other, third):
        breaker.refuse("wrong", "a/1", "why")

    async def scenario() -> None:
        assert await begun(one, "wrong too")
        assert not await begun(other, "wrong too")
        time.now += FIVE_MINUTES
        assert await begun(third, "wrong too")

    run(scenario())


def test_a_corrected_clock_without_an_answer_leaves_the_claim(time: FakeTime) -> None:
    """Only the first signature was refused: the next request may send the corrected one again."""
    one, other, _ = of_processes(3, time)

    async def corrected(breaker: Breaker) -> None:
        async with breaker.use("keys", "a/1") as use:
            await use.begin(1.0)
            await use.begin(1.0)
            breaker.refuse("keys", "a/1", "clock", correctable=True)

    async def scenario() -> None:
        for _ in range(2):
            await corrected(one)
            await corrected(other)
            assert await begun(one, "keys", accepted=True)
            assert await begun(other, "keys", accepted=True)

    run(scenario())


def test_wrong_clocks_of_others_leave_a_correction(time: FakeTime) -> None:
    """All were refused at the same place, and told each other: each may still send a corrected signature."""
    breakers = of_processes(3, time)
    for breaker in breakers:
        for other in breakers:
            breaker.restore(other.state)
        breaker.refuse("keys", "a/1", "clock", correctable=True)

    async def scenario() -> None:
        for breaker in breakers:
            assert await begun(breaker, "keys", accepted=True)

    run(scenario())


def test_a_refusal_for_its_time_is_told_to_nobody(time: FakeTime) -> None:
    """However many there are: others, whose clocks are right, may use the credentials wherever they want."""
    one, other, _ = of_processes(3, time)
    for number in range(5):
        one.refuse("keys", f"a/{number}", "clock", signatures=2, clock=True)
    other.restore(one.state)
    assert not list(one.state)
    one.refuse("keys", "b/1", "signature")
    one.refuse("keys", "b/1", "clock", clock=True)
    assert [(record.place, record.signatures) for record in one.state] == [("b/1", 2)]

    async def scenario() -> None:
        for number in range(5):
            assert await begun(other, "keys", f"a/{number}", accepted=True)

    run(scenario())


def test_a_request_that_hangs_does_not_stop_a_process(time: FakeTime) -> None:
    """Its first is not answered: for the next one it has the claim."""
    breaker, *_ = of_processes(3, time)

    async def scenario() -> list[str]:
        gateway = SlowGateway(breaker)
        gateway.good = {"a/1", "b/1", "c/1"}
        for place in gateway.good:
            breaker.accept("keys", place)
        await gateway.ask("a/1", "b/1")
        assert gateway.sent == ["a/1"]
        time.now += 5.0
        await gateway.ask("c/1")
        assert gateway.sent == ["a/1", "b/1"]
        await gateway.answer("b/1")
        assert gateway.sent == ["a/1", "b/1", "c/1"]
        await gateway.hang_up()
        return gateway.sent

    run(scenario())


async def begun(breaker: Breaker, keys: str, place: str = "a/1", *, accepted: bool = False) -> bool:
    """Is a request of that place sent? Then it is accepted or refused."""
    try:
        async with breaker.use(keys, place) as use:
            await use.begin(1.0)
            if accepted:
                use.accept()
            else:
                breaker.refuse(keys, place, "why")
    except ApiError:
        return False
    return True
