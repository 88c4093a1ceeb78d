"""Which replica polls which target.

Pure. Every replica computes it from what the database says, and all get the same. A target stays where it is
unless its replica is gone or cannot poll it, or has at least two more than another one that can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec


class LeaseTable(msgspec.Struct, frozen=True):
    """What the database says, by its own clock."""

    replicas: Mapping[str, frozenset[str]]
    """Those whose leases are not over, with the targets that each can poll."""
    holders: Mapping[str, str]
    """By target: who took it last and has not released it. Its lease may be over."""
    versions: Mapping[str, int]
    """By target: how many commits were made."""

    def holder(self, target: str) -> str | None:
        """The live replica that holds it."""
        holder = self.holders.get(target)
        return holder if holder in self.replicas else None


def spread(table: LeaseTable) -> dict[str, str]:
    """By target: the replica that shall poll it. A target that no live replica can poll is left out."""
    able = {
        target: sorted(replica for replica, targets in table.replicas.items() if target in targets)
        for target in sorted(frozenset().union(*table.replicas.values()))
    }
    placed = {
        target: holder for target in able if (holder := table.holder(target)) in able[target] and holder
    }
    loads = Counter(placed.values())

    def least(target: str) -> str:
        return min(able[target], key=lambda replica: (loads[replica], replica))

    for target in able:
        if target not in placed:
            placed[target] = least(target)
            loads[placed[target]] += 1
    while True:
        gains = {target: loads[replica] - loads[least(target)] for target, replica in placed.items()}
        target = max(gains, key=lambda target: (gains[target], target), default="")
        if gains.get(target, 0) < 2:
            return placed
        loads[placed[target]] -= 1
        placed[target] = least(target)
        loads[placed[target]] += 1
