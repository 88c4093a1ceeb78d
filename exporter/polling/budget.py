"""How many list requests a poll may make: what the rate limit allows in one interval.

Targets with the same credentials draw on the same limit. Each poll is sure of an equal part of it. Beyond
that it gets what the others leave over, as much as a target that needs more and more may be expected to use:
one that catches up takes, within a few polls, what quiet ones do not need.
"""

from __future__ import annotations

from typing import Final

LEAST: Final = 4
"""Requests that even the smallest part allows: a clock, a head, a settle read, a look."""

GROWTH: Final = 3
"""How many times its last poll's requests a target may use next: more than two, as a catch-up uses only half
of what it gets; not many, as a target with little to read would keep from others what it does not need."""


class Budget:
    """The requests of one interval, shared by the targets that joined."""

    def __init__(self) -> None:
        self._wanted: dict[str, int] = {}
        self._claims: dict[str, int] = {}
        """What is kept for each target: as much as its last poll used; for a poll under way no more of its
        part, but all that it was granted beyond. Were whole parts kept, quiet targets would leave nothing.
        """

    def join(self, target: str, requests: int) -> None:
        """``requests`` is what the target's own rate and interval allow; the lowest is in force."""
        self._wanted[target] = requests
        self._claims.setdefault(target, 0)

    def leave(self, target: str) -> None:
        self._wanted.pop(target, None)
        self._claims.pop(target, None)

    def grant(self, target: str) -> int:
        """What the next poll of ``target`` may spend: it is under way until ``spent``, or the next grant."""
        whole = min(self._wanted.values())
        part = max(LEAST, whole // len(self._wanted))
        last = self._claims[target]
        left = whole - sum(self._claims.values()) + last
        granted = max(part, min(left, GROWTH * last))
        self._claims[target] = min(part, last) + granted - part
        return granted

    def spent(self, target: str, requests: int) -> None:
        """A poll of ``target`` ended."""
        if target in self._claims:
            self._claims[target] = requests
