"""For how long a first start has been tried (R4, docs/counting.md). Kept in the totals across restarts."""

from __future__ import annotations

from typing import Final, NamedTuple

from exporter.ledger.totals import Totals

FIRST_TRIED_MS: Final = "first_tried_ms"
"""When it was first tried, by our own clock, since 1970: for people alone."""
_WAITED_MS: Final = "waited_ms"
"""From the first try to the last one, as far as a clock can tell that nobody sets."""
_TRIED_UPTIME_MS: Final = "tried_uptime_ms"
"""The uptime of the machine at the last try, by its boot."""


class Uptime(NamedTuple):
    """For how long the machine runs: a clock that nobody sets, and that a restart of the program keeps."""

    boot: str
    """Tells one start of the machine from another: their uptimes cannot be compared."""
    ms: int


def note_try(totals: Totals, wall: int, uptime: Uptime) -> None:
    """A first start is tried, at ``wall`` by our own clock.

    How long it has been tried goes by ``uptime``: what passed while the machine was off is not known.
    """
    if not totals.plain(FIRST_TRIED_MS):
        totals.add_plain(FIRST_TRIED_MS, amount=wall)
    last = totals.by_detail(_TRIED_UPTIME_MS).get(uptime.boot)
    if last is None:
        totals.drop(_TRIED_UPTIME_MS)
        last = uptime.ms
        totals.add_plain(_TRIED_UPTIME_MS, uptime.boot, last)
    passed = max(0, uptime.ms - last)
    totals.add_plain(_TRIED_UPTIME_MS, uptime.boot, passed)
    totals.add_plain(_WAITED_MS, amount=passed)


def was_tried(totals: Totals) -> bool:
    return totals.plain(FIRST_TRIED_MS) > 0


def waited(totals: Totals) -> int:
    """Milliseconds from the first try to the last one."""
    return totals.plain(_WAITED_MS)
