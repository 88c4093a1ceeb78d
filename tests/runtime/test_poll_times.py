"""When targets poll: spread over one interval, each in its place."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from exporter.runtime.poll_times import PollTimes, phase

NAMES = [f"customer-{number}" for number in range(200)]


class TwoClocks:
    """A monotonic and a wall clock."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_750_000_000.0) -> None:
        self.monotonic = monotonic
        self.wall = wall

    def poll_times(self) -> PollTimes:
        return PollTimes(lambda: self.monotonic, lambda: self.wall)

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.mark.parametrize("name", ["production", "a", "音"])
@pytest.mark.parametrize("wall", [0.0, 1_750_000_003.7, 1_750_000_011.2])
def test_a_single_target_polls_at_once(name: str, wall: float) -> None:
    """Whenever the program starts."""
    assert TwoClocks(wall=wall).poll_times().start([name], 15.0) == {name: pytest.approx(1000.0)}


@pytest.mark.parametrize("interval", [1.0, 15.0, 60.0])
def test_many_targets_start_spread_over_one_interval(interval: float) -> None:
    """The first one at once, no twentieth of the interval with more than a tenth of them."""
    times = TwoClocks().poll_times().start(NAMES, interval)
    assert min(times.values()) == pytest.approx(1000.0)
    assert max(times.values()) < 1000.0 + interval
    twentieths = Counter(int((time - 1000.0) / interval * 20) for time in times.values())
    assert len(twentieths) == 20
    assert max(twentieths.values()) <= len(NAMES) / 10


def test_a_longer_interval_is_not_waited_for() -> None:
    """Every target is polled within the first minute, whatever the interval."""
    times = TwoClocks().poll_times().start(NAMES, 3600.0)
    assert 1055.0 < max(times.values()) < 1060.0


def test_a_restart_goes_on_where_the_round_ended() -> None:
    """After seven seconds without the program the targets whose places came meanwhile are the last ones."""
    clocks = TwoClocks()
    before = clocks.poll_times().start(NAMES, 15.0)
    clocks.advance(15 * 20 + 7)
    clocks.monotonic = 5.0  # the machine was started again, too
    after = clocks.poll_times().start(NAMES, 15.0)
    missed = [after[name] for name in NAMES if before[name] - 1000.0 < 6.5]
    next_ones = [after[name] for name in NAMES if before[name] - 1000.0 > 7.5]
    assert min(len(missed), len(next_ones)) > 50
    assert min(missed) > max(next_ones)


def test_each_target_keeps_its_place_on_the_clock() -> None:
    """After any number of them, at whatever time. That the first one polls at once moves all of them alike,
    by less than the gap between two neighbours.
    """
    clocks = TwoClocks()

    def places(times: dict[str, float]) -> list[float]:
        """Seconds that each is before its place, by its name alone, in the intervals of the wall clock."""
        ahead = clocks.wall - clocks.monotonic
        early = [(phase(name) * 15.0 - times[name] - ahead) % 15.0 for name in NAMES]
        return [seconds if seconds < 14.9 else seconds - 15.0 for seconds in early]

    ordered = sorted(map(phase, NAMES))
    gap = 15.0 * max(after - before for before, after in pairwise([*ordered, 1 + ordered[0]]))
    assert gap < 0.5
    for restart in range(50):
        times = clocks.poll_times()
        started = places(times.start(NAMES, 15.0))
        assert -1e-6 < min(started) <= max(started) <= gap
        assert max(started) - min(started) < 1e-6
        clocks.advance(123.4 * restart)
        assert places(times.resume(NAMES, 15.0)) == pytest.approx(started, abs=1e-6)
        clocks.wall += 7.7  # the time without the program
        clocks.monotonic = 5.0


def test_a_changed_target_goes_on_in_its_place() -> None:
    """A reload resumes it a whole number of intervals after its first poll, at most one interval from now."""
    clocks = TwoClocks()
    times = clocks.poll_times()
    first = times.start(NAMES, 15.0)
    clocks.advance(100.0)
    clocks.wall += 3.3  # somebody sets the clock: places in this process do not move
    resumed = times.resume(["customer-7", "new"], 15.0)
    assert (resumed["customer-7"] - first["customer-7"]) % 15.0 == pytest.approx(0.0)
    assert all(1100.0 <= time <= 1115.0 for time in resumed.values())
    assert (resumed["new"] - resumed["customer-7"]) / 15.0 % 1 == pytest.approx(
        (phase("new") - phase("customer-7")) % 1
    )
