"""The last hour, minute by minute of creation: what became of the jobs.

Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from exporter.ledger.ledger import Ledger
from exporter.ledger.record import FAILED, SUCCEED
from exporter.units import MINUTE

MINUTES: Final = 60


class Minute(msgspec.Struct, frozen=True, gc=False):
    """Jobs created in one minute, by what became of them."""

    start: int
    """Milliseconds since 1970 UTC."""
    created: int
    finished: int
    failed: int
    expired: int
    open: int


def last_hour_start(now: int) -> int:
    """Milliseconds: where the first of the minutes begins."""
    return (now // MINUTE - MINUTES + 1) * MINUTE


def jobs_by_minute(ledger: Ledger, now: int) -> tuple[Minute, ...]:
    """One entry a minute, the present one last."""
    first = last_hour_start(now) // MINUTE
    return tuple(_minute(ledger, minute) for minute in range(first, first + MINUTES))


def _minute(ledger: Ledger, minute: int) -> Minute:
    succeeded = failed = expired = 0
    for (_, _, state), jobs in ledger.minutes.of_minute(minute):
        if state == SUCCEED:
            succeeded += jobs
        elif state == FAILED:
            failed += jobs
        else:
            expired += jobs
    still_open = ledger.jobs.open_in(minute)
    return Minute(
        start=minute * MINUTE,
        created=succeeded + failed + expired + still_open,
        finished=succeeded + failed,
        failed=failed,
        expired=expired,
        open=still_open,
    )
