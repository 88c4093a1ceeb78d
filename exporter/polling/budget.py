"""How many list requests a poll may make: what the rate limit allows in one interval.

Targets with the same credentials share one rate limit. Each poll may use an equal part of it in any case.
Beyond that it gets what the others do not use, but at most three times what its last poll used: a target that
catches up gets, within a few polls, all that quiet targets do not need.

This is no token bucket: it divides requests among polls before they are made. When each request is sent is
decided by ``RateLimiter`` of the cloud package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LEAST: Final = 4
"""Requests that even the smallest part allows: a probe of the clock, a head read, a settle read, a
recheck."""

GROWTH: Final = 3
"""How many times the requests of its last poll a target may use next. More than two, because a catch-up uses
only half of what it gets; not many more, or a target with little to read would reserve what others need."""


class Budget:
    """The requests of one interval, shared by the targets that joined."""

    def __init__(self, part: Callable[[], float] = lambda: 1.0) -> None:
        """``part``: how much of the requests is for this process now. The rest is for others that ask with
        the same credentials.
        """
        self._part = part
        self._wanted: dict[str, int] = {}
        self._granted: dict[str, int] = {}
        """Requests reserved for each target, which others cannot have: as many as its last poll used.

        While its poll runs: what the last one used of the equal part, and all that was granted beyond that
        part. With a part of 10, a target that used 4 and is granted 12 reserves 4 + 2. If equal parts were
        reserved whole, quiet targets would leave nothing to others.
        """

    def join(self, target: str, requests: int) -> None:
        """``requests`` is what the target's own rate and interval allow; the lowest is in force."""
        self._wanted[target] = requests
        self._granted.setdefault(target, 0)

    def leave(self, target: str) -> None:
        self._wanted.pop(target, None)
        self._granted.pop(target, None)

    def grant(self, target: str) -> int:
        """What the next poll of ``target`` may spend: it is under way until ``spent``, or the next grant."""
        whole = int(min(self._wanted.values()) * self._part())
        part = max(LEAST, whole // len(self._wanted))
        last = self._granted[target]
        left = whole - sum(self._granted.values()) + last
        granted = max(part, min(left, GROWTH * last))
        self._granted[target] = min(part, last) + granted - part
        return granted

    def spent(self, target: str, requests: int) -> None:
        """A poll of ``target`` ended."""
        if target in self._granted:
            self._granted[target] = requests
