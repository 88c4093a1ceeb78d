"""How many list requests a poll may make: what the rate limit allows in one interval.

Targets with the same credentials draw on the same limit. Each is sure of an equal part of it, and may use
what the others left over in their last poll: a target that catches up takes what quiet ones do not need.
"""

from __future__ import annotations

from typing import Final

import msgspec

LEAST: Final = 4
"""Requests that even the smallest part allows: a clock, a head, a settle read, a look."""


class PollCost(msgspec.Struct, frozen=True):
    """What one poll cost, in list requests, and what it was allowed."""

    requests: int = 0
    budget: int = 0


class Budget:
    """The requests of one interval, shared by the targets that joined."""

    def __init__(self) -> None:
        self._wanted: dict[str, int] = {}
        self._used: dict[str, int] = {}

    def join(self, target: str, requests: int) -> None:
        """``requests`` is what the target's own rate and interval allow; the lowest is in force."""
        self._wanted[target] = requests
        self._used.setdefault(target, 0)

    def leave(self, target: str) -> None:
        self._wanted.pop(target, None)
        self._used.pop(target, None)

    def grant(self, target: str) -> int:
        """What the next poll of ``target`` may spend."""
        whole = min(self._wanted.values())
        others = sum(used for name, used in self._used.items() if name != target)
        return max(LEAST, whole // len(self._wanted), whole - others)

    def spent(self, target: str, requests: int) -> None:
        """A poll of ``target`` ended."""
        if target in self._used:
            self._used[target] = requests
