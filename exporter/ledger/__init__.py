"""Counts every job exactly once: what is open, what was counted, what may still come (docs/counting.md).

Knows the rules of counting; must not know HTTP, SQL, clocks or log lines. Pure: times are arguments, in
milliseconds on the API's clock.
"""

from exporter.ledger import totals
from exporter.ledger.anonymous import identify_anonymous
from exporter.ledger.changes import Changes
from exporter.ledger.clock_jump import JUMP, has_jumped
from exporter.ledger.first_start import Uptime, note_try, waited, was_tried
from exporter.ledger.gauges import JobGauges, gauge_start, history_start
from exporter.ledger.job_index import UNDATED, Job
from exporter.ledger.last_hour import last_hour_start
from exporter.ledger.ledger import Ledger
from exporter.ledger.minutes import (
    IDS_MASK,
    UNCOUNTED,
    MinuteKey,
    id_number,
    series_labels,
    split_length,
)
from exporter.ledger.missing import MissedBy
from exporter.ledger.record import (
    EXPIRED_REASONS,
    FAILED,
    FINAL_STATES,
    JOB_TYPES,
    LABEL_SET,
    OPEN_STATES,
    OTHER,
    PROCESSING,
    SUCCEED,
    TTS_SERVICES,
    UNKNOWN,
    WAITING,
    Anomaly,
    JobsQuery,
    LabelSet,
    Page,
    Record,
    SeriesLabels,
    is_anonymous,
)
from exporter.ledger.settings import LedgerSettings
from exporter.ledger.sighting import CLOCKS_DIFFER, WINDOW_MARGIN, Sighting
from exporter.ledger.snapshot import LastPoll, TargetView, take_snapshot
from exporter.ledger.stored import (
    BucketChange,
    StoredLedger,
    bucket_changes,
    configured_buckets,
    open_ledger,
)
from exporter.ledger.totals import Exemplar, Histogram, LabelSets, documented_label_sets, total_key
from exporter.ledger.watermarks import Watermarks, floor_second

__all__ = [
    "CLOCKS_DIFFER",
    "EXPIRED_REASONS",
    "FAILED",
    "FINAL_STATES",
    "IDS_MASK",
    "JOB_TYPES",
    "JUMP",
    "LABEL_SET",
    "OPEN_STATES",
    "OTHER",
    "PROCESSING",
    "SUCCEED",
    "TTS_SERVICES",
    "UNCOUNTED",
    "UNDATED",
    "UNKNOWN",
    "WAITING",
    "WINDOW_MARGIN",
    "Anomaly",
    "BucketChange",
    "Changes",
    "Exemplar",
    "Histogram",
    "Job",
    "JobGauges",
    "JobsQuery",
    "LabelSet",
    "LabelSets",
    "LastPoll",
    "Ledger",
    "LedgerSettings",
    "MinuteKey",
    "MissedBy",
    "Page",
    "Record",
    "SeriesLabels",
    "Sighting",
    "StoredLedger",
    "TargetView",
    "Uptime",
    "Watermarks",
    "bucket_changes",
    "configured_buckets",
    "documented_label_sets",
    "floor_second",
    "gauge_start",
    "has_jumped",
    "history_start",
    "id_number",
    "identify_anonymous",
    "is_anonymous",
    "last_hour_start",
    "note_try",
    "open_ledger",
    "series_labels",
    "split_length",
    "take_snapshot",
    "total_key",
    "totals",
    "waited",
    "was_tried",
]
