"""What one commit of a ledger writes. Pure values."""

from __future__ import annotations

import msgspec

from exporter.ledger.job_index import Job
from exporter.ledger.minutes import MinuteKey
from exporter.ledger.record import LabelSet
from exporter.ledger.totals import TotalKey
from exporter.ledger.watermarks import Watermarks


class Changes(msgspec.Struct, frozen=True):
    """Everything one commit writes. Totals are absolute values; minute counts are increments."""

    watermarks: Watermarks | None
    jobs: dict[str, Job]
    evicted: tuple[tuple[str, int], ...]
    """Ids, with the times of creation."""
    totals: dict[TotalKey, int | None]
    """``None``: the total is gone (its histogram started anew)."""
    minutes: dict[MinuteKey, tuple[int, int]]
    label_sets: tuple[LabelSet, ...]
    minute_ids: dict[MinuteKey, int] = {}
    """What the jobs of ``minutes`` add to the sums of their ids."""
