"""The exporter leaves half of the rate to a command that asks with the same credentials."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cloud import SharedLimits
from exporter.cloud.http import RateLimiter
from exporter.errors import StoreError
from exporter.runtime.asking_commands import AskingCommands
from testkit.world import NoStore


class AtOnce(Executor):
    """Work is done when it is submitted, or when ``hangs`` is over."""

    hangs = False
    submitted = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        future = Future[Any]()
        if not self.hangs:
            future.set_result(fn(*args, **kwargs))
        return future


class StoreWithCommands(NoStore):
    def __init__(self) -> None:
        self.asking = set[str]()
        self.error: StoreError | None = None

    def command_asks(self, credentials: str) -> bool:
        if self.error is not None:
            raise self.error
        return credentials in self.asking


class Setting:
    def __init__(self) -> None:
        self.now = 100.0
        self.store = StoreWithCommands()
        self.executor = AtOnce()
        self.commands = AskingCommands(self.store, self.executor, lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_command_is_noticed_within_a_second() -> None:
    """And so is its end. The store is asked no more often."""
    setting = Setting()
    assert [setting.commands("key") for _ in range(10)] == [False] * 10
    assert setting.executor.submitted == 1
    setting.store.asking.add("key")
    setting.now += 1.0
    assert setting.commands("key")
    assert not setting.commands("other")
    setting.store.asking.clear()
    setting.now += 1.0
    assert not setting.commands("key")


def test_a_store_that_hangs_or_fails_holds_no_request_up() -> None:
    """It is asked once, however long that takes; an error means that nobody is known to ask."""
    setting = Setting()
    setting.executor.hangs = True
    for _ in range(5):
        assert not setting.commands("key")
        setting.now += 60.0
    assert setting.executor.submitted == 1
    failing = Setting()
    failing.store.error = StoreError("the disk is gone")
    assert not failing.commands("key")


def test_at_the_end_of_the_program_nothing_is_asked() -> None:
    """Its threads are gone, and a request may still be under way."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    assert not AskingCommands(NoStore(), executor)("key")


@given(
    rate=st.sampled_from([0.5, 1.0, 5.0, 20.0]),
    begins=st.floats(0.0, 30.0),
    lasts=st.floats(0.0, 30.0),
    idle=st.floats(0.0, 20.0),
)
def test_both_together_never_send_more_than_the_rate(
    rate: float, begins: float, lasts: float, idle: float
) -> None:
    """In any stretch of time, beside the first request of each and one for an answer that was old."""
    setting = Setting()
    shared = SharedLimits(
        claims=None, command_asks=setting.commands, monotonic=lambda: setting.now, sleep=setting.sleep
    )
    limiter, start = shared.limiter("key", "t", rate), setting.now
    begun, ended, sent = start + idle + begins, start + idle + begins + lasts, list[float]()

    async def poll() -> None:
        """Busy all the time, but for ``idle`` seconds at the beginning."""
        await limiter.token(float("inf"))
        setting.now += idle
        while setting.now < start + idle + 90.0:
            if begun <= setting.now < ended:
                setting.store.asking.add("key")
            else:
                setting.store.asking.discard("key")
            await limiter.token(float("inf"))
            sent.append(setting.now)

    asyncio.run(poll())
    # The command knows that the exporter knows after a second, and sends at half the rate until its end.
    at = begun + 1.0
    while at < ended:
        sent.append(at)
        at += 2 / rate
    level, last = 0.0, 0.0
    for moment in sorted(sent):
        level = max(0.0, level - rate * (moment - last)) + 1
        last = moment
        assert level <= 3 + 1e-6


def test_the_part_of_a_command_is_taken_of_what_replicas_leave() -> None:
    """A replica that polls two of four targets has a quarter of the rate, and reports it."""
    setting = Setting()
    setting.store.asking.add("key")
    shared = SharedLimits(claims=None, command_asks=setting.commands)
    for name in "abcd":
        limiter = shared.limiter("key", name, 8.0)
    shared.divide(2, frozenset("ab"))
    assert limiter.rate == pytest.approx(2.0)
    assert shared.part("other") == 1.0


def test_a_limiter_asks_for_its_part_at_each_request() -> None:
    """What it is when a request is allowed decides when the next one is."""
    parts, now = [1.0, 0.5, 0.5, 1.0], [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    limiter = RateLimiter(2.0, monotonic=lambda: now[0], sleep=sleep, part=lambda: parts.pop(0))

    async def ask() -> list[float]:
        times = []
        for _ in range(4):
            await limiter.token(float("inf"))
            times.append(now[0])
        return times

    assert asyncio.run(ask()) == [0.0, 0.5, 1.5, 2.5]
