"""When, and in which window, records were seen: what a ledger is given beside records. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

WINDOW_MARGIN: Final = 1000
"""A window is asked for from this many milliseconds before its begin.

It is not documented whether the API's bounds are inclusive, nor whether ``create_time`` is cut, rounded or
rounded up to the second while the filter compares exact times. Whichever it is, asking for [since - 1 s,
until] shows every record whose ``create_time`` is in [since, until).
"""

CLOCKS_DIFFER: Final = 300_000
"""Milliseconds by which ``create_time`` may be ahead of the ``Date`` of the answer that shows it."""


class Sighting(msgspec.Struct, frozen=True):
    """When, and in which window, records were seen. Times on the API's clock."""

    begun: int
    """A time surely not after the request was made."""
    ended: int
    """A time surely not before the answer came."""
    since: int | None
    until: int | None
    """The bounds asked for, inclusive; ``None``: unbounded. Wider than the window that is proven."""

    def covers(self, created: int) -> bool:
        """May a record with this creation time be shown? Both bounds are inclusive (docs/api.md)."""
        after = self.since is None or created >= self.since
        return after and (self.until is None or created <= self.until)

    def believes(self, created: int) -> bool:
        """Can it be the time of creation? It is covered, and not in the future."""
        return self.covers(created) and created <= self.ended + CLOCKS_DIFFER
