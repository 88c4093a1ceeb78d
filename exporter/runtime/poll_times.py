"""When each target polls: all of them spread over one interval, each at its own phase of it.

The phase follows from the target's name alone. Must not know what a poll does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final
from zlib import crc32

LONGEST_SPREAD: Final = 60.0
"""Seconds. With a longer interval all polls begin in its first minute: nobody wants to wait an hour to see
whether a target works."""


class PollTimes:
    """One for the life of the process, so that a reload moves no phase.

    Phases follow the wall clock as it was at the start, as Prometheus' own scrapes do: after a restart the
    round goes on about where it ended. A process that is restarted again and again polls every target.
    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._origin = 0.0
        """On the monotonic clock: where a round began."""

    def start(self, targets: Iterable[str], interval: float) -> dict[str, float]:
        """By target: the monotonic time of its first poll, the earliest of them now."""
        self._origin = self._monotonic() - self._wall()
        times = self.resume(targets, interval)
        wait = min(times.values()) - self._monotonic()
        self._origin -= wait
        return {target: time - wait for target, time in times.items()}

    def resume(self, targets: Iterable[str], interval: float) -> dict[str, float]:
        """By target: the monotonic time at which its phase comes next."""
        now, spread = self._monotonic(), min(interval, LONGEST_SPREAD)
        return {target: now + (self._origin + phase(target) * spread - now) % spread for target in targets}


def phase(target: str) -> float:
    """Where in the interval a target's polls begin: 0 to 1. Adding a target moves no other."""
    return crc32(target.encode()) / 2**32
