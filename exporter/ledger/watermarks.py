"""How far one target's list was read: baseline, settled until, evicted until (R3, R4, R8, docs/counting.md).

Pure. Milliseconds since 1970 UTC on the API's clock, whole seconds (windows are asked for by the second).
"""

from __future__ import annotations

import msgspec

from exporter.units import SECOND


def floor_second(ms: int) -> int:
    return ms - ms % SECOND


class Watermarks(msgspec.Struct):
    """The first three never go back. At first all but the last are the time of the first start."""

    baseline: int
    """What was created before it is not counted, except jobs found open at the first start."""
    settled_until: int
    """Every record created before it was read at least ``overlap`` after its creation."""
    evicted_until: int
    """Ids of finished jobs created before it are no longer remembered; unknown ones are ignored."""
    history: int
    """Down to where the time before the baseline has been read for the gauge (R4, docs/counting.md)."""
    catching_up: int = 0
    """When the reading of a backlog last went on; 0 without one. No jump while it goes on (R8)."""

    @classmethod
    def start(cls, baseline: int, now: int = 0) -> Watermarks:
        """``now`` where the baseline lies further back: what came since then is caught up on."""
        baseline = floor_second(baseline)
        return cls(baseline, baseline, evicted_until=baseline, history=baseline, catching_up=now)

    def settle(self, until: int, now: int, overlap: int) -> None:
        """After a complete read of [settled, until], begun at ``now`` on the API's clock."""
        before = self.settled_until
        self.settled_until = max(before, min(until, floor_second(now - overlap)))
        self.evicted_until = max(self.evicted_until, self.settled_until - overlap)
        if now - self.settled_until <= 2 * overlap:
            self.catching_up = 0
        elif self.settled_until > before:
            self.catching_up = now

    def too_far(self, now: int, max_catch_up: int) -> bool:
        """Is it time to jump (R8)? Not while a backlog is being read, unless that got stuck for as long."""
        return floor_second(now - max_catch_up) > max(self.settled_until, self.catching_up)

    def jump(self, now: int, max_catch_up: int) -> int:
        """Skip what is too far back (R8). Returns the milliseconds skipped: 0 most of the time."""
        if not self.too_far(now, max_catch_up):
            return 0
        target = floor_second(now - max_catch_up)
        skipped = target - self.settled_until
        self.settled_until = target
        self.evicted_until = target
        self.catching_up = now  # also when nothing can be read yet: there is no second jump
        return skipped
