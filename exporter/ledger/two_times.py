"""Records whose text may mean two times, where no window asked for tells which: a list without time filters.

Pure. They come from the hour that is repeated when clocks are set back, in times without an offset.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.ledger.changes import Sighting
from exporter.ledger.job_index import EXEMPT, EXPIRED, FLAGS, Job, JobIndex
from exporter.ledger.record import OPEN_STATES, Anomaly, Record
from exporter.ledger.totals import FOLDED_LABEL_SET
from exporter.ledger.watermarks import Watermarks


def latest(record: Record, sighting: Sighting) -> int:
    """When a job was created whose time may mean two, shown by an answer to no window: as late as can be.

    Jobs are seen first soon after their creation, most of the time.
    """
    assert record.create_time is not None  # noqa: S101 - has another time as well
    other = record.other_time
    return other if other is not None and sighting.believes(other) else record.create_time


def of_first_look(record: Record, watermarks: Watermarks) -> bool:
    """Was a finished job that may be older than the baseline there when counting began? Then it is old.

    Until the list was read once: then ``remember_uncounted`` was told of all of those.
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
            # Neither waited for nor told when it ends: nothing of it was booked.
            flags = EXEMPT | FLAGS[Anomaly.STATE_REGRESSION]
            jobs.add(job_id, Job(later, EXPIRED, *FOLDED_LABEL_SET, flags=flags))
