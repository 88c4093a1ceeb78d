"""The last hour, minute by minute of creation: what became of the jobs.

Pure.
"""

from __future__ import annotations

from typing import Final

from exporter.ledger.ledger import Ledger
from exporter.ledger.record import FAILED, SUCCEED
from exporter.ledger.snapshot import Minute
from exporter.units import MINUTE, SECOND

MINUTES: Final = 60


def chart_start(now: int) -> int:
    """Milliseconds: where the first of the minutes begins."""
    return (now // MINUTE - MINUTES + 1) * MINUTE


def last_hour(ledger: Ledger, now: int) -> tuple[Minute, ...]:
    """One entry a minute, the present one last."""
    first = chart_start(now) // MINUTE
    return tuple(_minute(ledger, minute) for minute in range(first, first + MINUTES))


def _minute(ledger: Ledger, minute: int) -> Minute:
    succeeded = failed = expired = 0
    for (_, _, state), jobs in ledger.minutes.rows.get(minute, {}).items():
        if state == SUCCEED:
            succeeded += jobs
        elif state == FAILED:
            failed += jobs
        else:
            expired += jobs
    still_open = ledger.jobs.open_in(minute)
    return Minute(
        start=minute * MINUTE / SECOND,
        created=succeeded + failed + expired + still_open,
        finished=succeeded + failed,
        failed=failed,
        expired=expired,
        open=still_open,
    )
