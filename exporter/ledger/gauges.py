"""Present states of one target's jobs: which are open, which are new, which is the oldest.

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from exporter.ledger.ledger import Ledger
from exporter.ledger.record import SeriesLabels
from exporter.units import MINUTE


class JobGauges(msgspec.Struct, frozen=True, gc=False):
    """Known once counting has begun."""

    jobs: Mapping[SeriesLabels, int] | None
    """By (..., job_state): created in the last ``poll.window``; ``None`` until that time has been read."""
    open_jobs: Mapping[SeriesLabels, int]
    oldest_open: Mapping[SeriesLabels, int]
    """Creation time of the oldest open job; no key where there is none."""
    counted_until: int
    """Everything created before it, and listed within ``overlap``, is counted."""


def gauge_start(ledger: Ledger, now: int) -> int:
    """Where the window of the gauge of recent jobs begins: a whole minute."""
    return (now - ledger.settings.window) // MINUTE * MINUTE


def history_start(ledger: Ledger, now: int) -> int:
    """How far back before the baseline is read (R4, docs/counting.md): a window, wherever the baseline is."""
    start, baseline = gauge_start(ledger, now), ledger.watermarks.baseline
    if now - baseline > ledger.settings.max_catch_up + ledger.settings.window:
        return start  # counting began long ago
    return min(start, gauge_start(ledger, baseline))


def job_gauges(ledger: Ledger, now: int) -> JobGauges | None:
    """What the job gauges show at ``now``; ``None`` before the first start is committed.

    ``jobs`` covers whole minutes, and stays away until the time before the baseline has been read:
    half a window would look like a drop in traffic.
    """
    if not ledger.started:
        return None
    watermarks = ledger.watermarks
    window_start = gauge_start(ledger, now)
    in_window = ledger.minutes.since(window_start)
    open_jobs: dict[SeriesLabels, int] = defaultdict(int)
    for minute, counts in ledger.jobs.open_by_minute.items():
        for labels, jobs in counts.items():
            open_jobs[labels] += jobs
            if minute * MINUTE >= window_start:
                in_window[labels] += jobs
    return JobGauges(
        jobs=dict(in_window) if watermarks.history <= window_start else None,
        open_jobs=dict(open_jobs),
        oldest_open=ledger.jobs.oldest_open(),
        counted_until=watermarks.settled_until,
    )
