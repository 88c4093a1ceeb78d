"""What a store keeps of one target, and a ledger that goes on from there.

Pure. A histogram whose buckets are configured differently than they were stored starts anew; everything else
in the configuration may change without a count being lost (R11, docs/counting.md).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from exporter.ledger.job_index import Job, JobIndex
from exporter.ledger.ledger import Ledger
from exporter.ledger.minutes import MinuteTable, StoredMinute
from exporter.ledger.record import LabelSet
from exporter.ledger.settings import LedgerSettings
from exporter.ledger.totals import (
    DURATION_LOWER,
    DURATION_UPPER,
    TEXT_LENGTH,
    LabelSets,
    TotalKey,
    Totals,
)
from exporter.ledger.watermarks import Watermarks


class StoredLedger(msgspec.Struct, kw_only=True):
    """All that is kept of one target. All empty, version 0: never committed."""

    version: int = 0
    project_id: str = ""
    """The project that was counted; empty until it is known."""
    watermarks: Watermarks | None = None
    jobs: dict[str, Job] = msgspec.field(default_factory=dict)
    totals: dict[TotalKey, int] = msgspec.field(default_factory=dict)
    label_sets: tuple[LabelSet, ...] = ()
    minutes: tuple[StoredMinute, ...] = ()
    """Some of a minute may have the same labels."""
    last_complete_poll: int | None = None
    buckets: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """Histogram name -> the upper bounds it was counted with."""
    by_others: int = 0
    """How many of the latest commits other processes made, since this one held the target."""


def open_ledger(stored: StoredLedger, settings: LedgerSettings, documented: tuple[LabelSet, ...]) -> Ledger:
    """A ledger that goes on from ``stored``."""
    totals = Totals(stored.totals)
    for change in bucket_changes(stored, settings):
        totals.drop(change.histogram)
    minutes = MinuteTable()
    minutes.load(stored.minutes)
    # Older stores have no documented ones here: that those were seen is known by their totals.
    counted = dict.fromkeys((job_type, service) for _, job_type, service, _ in stored.totals if job_type)
    return Ledger(
        settings,
        watermarks=stored.watermarks,
        jobs=JobIndex(stored.jobs),
        totals=totals,
        label_sets=LabelSets(documented, (*stored.label_sets, *counted), settings.max_label_sets),
        minutes=minutes,
    )


def configured_buckets(settings: LedgerSettings) -> dict[str, tuple[int, ...]]:
    """The configured bounds of every histogram of jobs."""
    return {
        TEXT_LENGTH: settings.text_length_buckets,
        DURATION_UPPER: settings.duration_buckets,
        DURATION_LOWER: settings.duration_buckets,
    }


class BucketChange(NamedTuple):
    """A histogram that starts anew: its upper bounds are not those it was counted with."""

    histogram: str
    stored: tuple[int, ...]
    configured: tuple[int, ...]


def bucket_changes(stored: StoredLedger, settings: LedgerSettings) -> tuple[BucketChange, ...]:
    """Of every histogram that was counted with other bounds than those configured."""
    return tuple(
        BucketChange(name, stored.buckets[name], bounds)
        for name, bounds in configured_buckets(settings).items()
        if name in stored.buckets and stored.buckets[name] != bounds
    )
