"""The API's clock: never ahead of the truth, whatever single answers claim."""

from __future__ import annotations

import contextlib
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cloud.clock import ApiClock
from exporter.errors import ApiError
from tests.cloud.harness import START, ClientHarness, FakeTime, reply, run


def _observe(
    clock: ApiClock, time: FakeTime, *, date: float, age: str | None = None, took: float = 0.0
) -> None:
    clock.observe(formatdate(date, usegmt=True), age, time.now - took, time.now)


def test_one_answer_is_not_enough() -> None:
    """A single Date proves nothing; from the second on there is a clock."""
    time = FakeTime()
    clock = ApiClock(time.monotonic, time.wall)
    _observe(clock, time, date=START)
    assert (clock.now_ms(), clock.latest_ms(), clock.skew(START)) == (None, None, None)
    _observe(clock, time, date=START)
    assert clock.now_ms() == START * 1000


def test_it_runs_on_between_answers() -> None:
    """Time passes on the monotonic clock, not on the wall clock."""
    time = FakeTime()
    clock = ApiClock(time.monotonic, time.wall)
    for _ in range(2):
        _observe(clock, time, date=START)
    time.now += 12.5
    time.wall_offset -= 86400
    assert clock.now_ms() == (START + 12.5) * 1000
    assert clock.skew(time.wall()) == pytest.approx(86400.5)


@pytest.mark.parametrize("age", ["1", "300", "x", "-1", ""])
def test_answers_from_a_cache_teach_nothing(age: str) -> None:
    """An answer with an Age is as old as it says, or older."""
    time = FakeTime()
    clock = ApiClock(time.monotonic, time.wall)
    for _ in range(5):
        _observe(clock, time, date=START, age=age)
    assert clock.now_ms() is None


def test_age_zero_is_fresh() -> None:
    """Age 0 says that the answer was not cached."""
    time = FakeTime()
    clock = ApiClock(time.monotonic, time.wall)
    for _ in range(2):
        _observe(clock, time, date=START, age="0")
    assert clock.now_ms() is not None


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT"])
def test_answers_without_a_readable_date_teach_nothing(date: str | None) -> None:
    """No date, no sighting."""
    clock = ApiClock(lambda: 0.0, lambda: START)
    for _ in range(5):
        clock.observe(date, None, 0.0, 0.0)
    assert clock.now_ms() is None


def test_the_least_of_ten_wins_and_is_forgotten_after_ten() -> None:
    """A stale date holds the clock back for ten answers; a date of the future never moves it."""
    time = FakeTime()
    clock = ApiClock(time.monotonic, time.wall)
    _observe(clock, time, date=START - 600)
    _observe(clock, time, date=START + 9999)
    for _ in range(8):
        _observe(clock, time, date=START)
    assert clock.now_ms() == (START - 600) * 1000
    assert clock.skew(START) == pytest.approx(0.5)
    _observe(clock, time, date=START)
    assert clock.now_ms() == START * 1000


@pytest.mark.slow
@given(
    steps=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5), st.floats(0, 1)), min_size=2, max_size=30),
    later=st.floats(0, 100),
)
def test_the_truth_lies_between_the_bounds(steps: list[tuple[float, float, float]], later: float) -> None:
    """However long answers took and whenever they were dated, now is between now_ms and latest_ms."""
    time = FakeTime()
    clock = ApiClock(time.monotonic, time.wall)
    for pause, took, when in steps:
        time.now += pause
        sent, dated = time.now, time.wall() + took * when
        time.now += took
        clock.observe(formatdate(int(dated), usegmt=True), None, sent, time.now)
    time.now += later
    least, most = clock.now_ms(), clock.latest_ms()
    assert least is not None
    assert most is not None
    assert least <= time.wall() * 1000 + 1  # rounding of floats
    assert time.wall() * 1000 - 1 <= most


def test_only_good_list_answers_teach_the_clock() -> None:
    """Errors may come from a proxy with a clock of its own."""
    far = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    harness = ClientHarness(
        lambda request: reply(400, None, far) if len(harness.requests) < 4 else reply(200, {"count": 0})
    )

    async def scenario() -> None:
        for _ in range(5):
            with contextlib.suppress(ApiError):
                await harness.list_jobs()

    run(scenario())
    assert harness.client.clock.now_ms() is None
