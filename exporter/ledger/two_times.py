"""Records whose text may mean two times, in a list without time filters, where no window says which.

Pure (R7, docs/counting.md). They come from the hour that is repeated when clocks are set back, in times
without an offset.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.ledger.job_index import EXEMPT, EXPIRED, FLAGS, Job, JobIndex
from exporter.ledger.record import OPEN_STATES, Anomaly, Record
from exporter.ledger.sighting import Sighting
from exporter.ledger.totals import FOLDED_LABEL_SET
from exporter.ledger.watermarks import Watermarks


def latest(record: Record, sighting: Sighting) -> int:
    """The later of the two, where it is possible: most jobs are first seen soon after their creation."""
    assert record.create_time is not None  # noqa: S101 - has another time as well
    other = record.other_time
    return other if other is not None and sighting.believes(other) else record.create_time


def finished_before_counting(record: Record, watermarks: Watermarks) -> bool:
    """Is it a finished job that may be older than the baseline, in the first reading of the list?

    In later readings ``remember_uncounted`` has remembered all such jobs.
    """
    first = watermarks.history >= watermarks.baseline and record.job_state not in OPEN_STATES
    return first and (record.create_time or 0) < watermarks.baseline


def remember_uncounted(records: Iterable[Record], watermarks: Watermarks, jobs: JobIndex) -> None:
    """Jobs from before the baseline that would look new once their second time has come (R7)."""
    for record in records:
        job_id, created, later = record.job_id, record.create_time, record.other_time
        if job_id is None or created is None or later is None or jobs.get(job_id) is not None:
            continue
        if created < watermarks.baseline and later >= watermarks.evicted_until:
            # It neither blocks nor counts as going back to open: nothing of it was counted.
            flags = EXEMPT | FLAGS[Anomaly.STATE_REGRESSION]
            jobs.add(job_id, Job(later, EXPIRED, *FOLDED_LABEL_SET, flags=flags))
