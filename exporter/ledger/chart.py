"""The last hour, minute by minute of creation: what became of the jobs.

Pure.
"""

from __future__ import annotations

from typing import Final

from exporter.ledger.ledger import Ledger
from exporter.ledger.record import FAILED, SUCCEED
from exporter.ledger.snapshot import MinuteCounts
from exporter.units import MINUTE

MINUTES: Final = 60


def chart_start(now: int) -> int:
    """Milliseconds: where the first of the minutes begins."""
    return (now // MINUTE - MINUTES + 1) * MINUTE


def last_hour(ledger: Ledger, now: int) -> tuple[MinuteCounts, ...]:
    """One entry a minute, the present one last."""
    first = chart_start(now) // MINUTE
    return tuple(_minute(ledger, minute) for minute in range(first, first + MINUTES))


def _minute(ledger: Ledger, minute: int) -> MinuteCounts:
    succeeded = failed = expired = 0
    for (_, _, state), jobs in ledger.minutes.rows.get(minute, {}).items():
        if state == SUCCEED:
            succeeded += jobs
        elif state == FAILED:
            failed += jobs
        else:
            expired += jobs
    return MinuteCounts(minute * MINUTE, succeeded, failed, expired, ledger.jobs.open_in(minute))
