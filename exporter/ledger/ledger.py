"""One target's ledger: which jobs are open, and what was counted (R1, R2, R4, R9, R12, docs/counting.md).

Pure: no I/O, no clock, no randomness. Records go in as they are seen, and jobs that an answer missed.
``changes()`` gives what to write, for one atomic commit. After a failed commit the ledger is thrown away and
loaded again from the store, so that the two never differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from exporter.failures import RecentFailures
from exporter.ledger.anomalies import SeenOnce
from exporter.ledger.changes import Changes
from exporter.ledger.exemplars import Exemplars
from exporter.ledger.job_index import EXEMPT, EXPIRED, FLAGS, UNDATED, Job, JobIndex
from exporter.ledger.minutes import MinuteTable, with_length
from exporter.ledger.missing import MissedBy, MissingJobs, MissVerdict
from exporter.ledger.record import FAILED, FINAL_STATES, OPEN_STATES, UNKNOWN, Anomaly, LabelSet, Record
from exporter.ledger.settings import LedgerSettings
from exporter.ledger.sighting import WINDOW_MARGIN, Sighting
from exporter.ledger.totals import (
    ANOMALIES,
    CREATED,
    DURATION_LOWER,
    DURATION_UPPER,
    EXPIRATIONS,
    FAILURES,
    FINISHED,
    FOLDED,
    FOLDED_LABEL_SET,
    SKIPPED_MS,
    SYNTHESIZED,
    TEXT_LENGTH,
    LabelSets,
    Totals,
)
from exporter.ledger.two_times import finished_before_counting, latest, remember_uncounted
from exporter.ledger.watermarks import Watermarks, floor_second


class Ledger:
    """What was counted, the jobs that may still change it, and how far the list was read."""

    def __init__(
        self,
        settings: LedgerSettings,
        *,
        watermarks: Watermarks | None,
        jobs: JobIndex,
        totals: Totals,
        label_sets: LabelSets,
        minutes: MinuteTable,
    ) -> None:
        self.settings = settings
        self._watermarks = watermarks
        self.jobs = jobs
        self.totals = totals
        self.label_sets = label_sets
        self.minutes = minutes
        self.exemplars = Exemplars()
        self.recent_failures = RecentFailures()
        self.missing_jobs = MissingJobs(settings, jobs)
        self._seen_once = SeenOnce()
        if watermarks is not None:  # with other settings, more may have been remembered
            jobs.evict_finals(0, self._remembered_since)
        late = FLAGS[Anomaly.LATE_RECORD]
        self.late = any(
            job.flags & late and job.created >= self.watermarks.evicted_until for _, job in jobs.items()
        )
        """Was a late record seen since ``take_late``? Also if it was before the last stop."""

    @property
    def started(self) -> bool:
        """Has the first start (R4) happened? Before it there are no watermarks, and nothing is counted."""
        return self._watermarks is not None

    @property
    def watermarks(self) -> Watermarks:
        if self._watermarks is None:
            raise ValueError("this ledger has no baseline yet")
        return self._watermarks

    @property
    def _remembered_since(self) -> int:
        """Jobs that are no longer open and were created before it are not remembered."""
        return self.watermarks.evicted_until - self.settings.time_may_repeat

    # --- what a window showed -------------------------------------------------------------------------

    def see(self, record: Record, sighting: Sighting) -> None:
        """Count what one record shows. Calling it again with the same record changes nothing.

        Records without an id are left out: ``see_as`` counts those, from complete windows only.
        """
        missing_jobs = self.missing_jobs
        if sighting.begun > missing_jobs.last_nonempty or missing_jobs.empty_answers is not None:
            missing_jobs.showed_something(sighting.begun)
        if record.malformed:
            self._count_once(Anomaly.MALFORMED_RECORD, record.key)
        elif record.job_id is not None:
            self.see_as(record.job_id, record, sighting)

    def see_as(self, job_id: str, record: Record, sighting: Sighting) -> None:
        """Count what one record shows, as the job with this identity (see ``anonymous.py``)."""
        job = self.jobs.get(job_id)
        if job is not None:
            self._see_again(job_id, job, record, sighting)
            return
        created = self._place(job_id, record, sighting)
        if created is not None:
            self._count_created(job_id, created, record, sighting)

    def _place(self, job_id: str, record: Record, sighting: Sighting) -> int | None:
        """Where in time an unknown record belongs; ``None`` when it is not to be counted (R2, R7)."""
        created = record.create_time
        if created is None:
            # Undated: only a window that lies wholly after "evicted until" proves it new.
            if sighting.since is None or sighting.until is None:
                self._count_once(Anomaly.BAD_CREATE_TIME, job_id)
                return None
            if sighting.since + WINDOW_MARGIN < self.watermarks.evicted_until:
                return None
            # As late as it can be: dated too early, it would be forgotten while it may be listed again.
            return min(sighting.until, sighting.ended + self.settings.max_catch_up)
        if not sighting.covers(created):
            self._count_once(Anomaly.OUTSIDE_WINDOW, job_id)
            return None
        if record.other_time is not None:
            if sighting.since is not None:
                return None  # see ``undecided``
            if finished_before_counting(record, self.watermarks):
                return None
            created = latest(record, sighting)
        return created if created >= self.watermarks.evicted_until else None

    def undecided(self, record: Record, since: int) -> bool:
        """Is it unknown which of two times the record was created at, in a window that has both? (R7)

        It matters for a job that is not remembered, if one of the two is not before ``since``, and for a
        record that is known by its time alone. A smaller window shows which it is.
        """
        known = record.job_id is not None and self.jobs.get(record.job_id) is not None
        return record.job_id is None or (not known and (record.other_time or 0) >= since)

    def _count_created(self, job_id: str, created: int, record: Record, sighting: Sighting) -> None:
        shown = (record.job_type, record.tts_service_enum)
        label_set = self.label_sets.fit(shown)
        if label_set != shown:
            self.totals.add_plain(FOLDED)
        job = Job(created, record.job_state, *label_set)
        job.flags |= UNDATED if record.create_time is None else 0
        self.jobs.add(job_id, job)
        self.totals.add(CREATED, label_set)
        if record.job_id is None:
            self._flag(job, Anomaly.MISSING_JOB_ID)
        if record.create_time is None:
            self._flag(job, Anomaly.BAD_CREATE_TIME)
        elif (watermarks := self.watermarks).baseline <= created < watermarks.settled_until:
            self._flag(job, Anomaly.LATE_RECORD)
            self.late = True
        self._take_text(job, record.text_length)
        if job.open:
            self._record_open(job_id, job, sighting)
        else:
            self._count_finished(job_id, job, record, sighting)

    def _see_again(self, job_id: str, job: Job, record: Record, sighting: Sighting) -> None:
        if job.misses:
            # Windows that were settled without this job may lack others, too.
            self.late |= bool(job.flags & EXEMPT) and job.created >= self.watermarks.evicted_until
            self.missing_jobs.shown_again(job_id, job, self.watermarks.settled_until)
        state = record.job_state
        if job.state not in OPEN_STATES:
            regressed = state != job.state if job.state != EXPIRED else state in FINAL_STATES
            if regressed and self._flag(job, Anomaly.STATE_REGRESSION):
                self.jobs.changed(job_id)
            return
        if record.job_type != job.job_type or record.tts_service_enum != job.tts_service_enum:
            self._take_labels(job, record)
        if job.text_length < 0 or record.text_length is None:
            self._take_text(job, record.text_length)
        if state in FINAL_STATES:
            self.jobs.close(job_id, job, state)
            self._count_finished(job_id, job, record, sighting)
            return
        if state != job.state:
            self.jobs.relabel(job, job.label_set, state)
        self.jobs.changed(job_id)
        self._record_open(job_id, job, sighting)

    def _take_labels(self, job: Job, record: Record) -> None:
        """An event is counted under the labels that the record shows then; a folded job stays folded."""
        if job.label_set != FOLDED_LABEL_SET:
            self.jobs.relabel(job, self.label_sets.fit((record.job_type, record.tts_service_enum)), job.state)
            self._flag(job, Anomaly.LABEL_CHANGED)

    def _take_text(self, job: Job, length: int | None) -> None:
        """The text length is counted at the first sighting that has one."""
        if length is None:
            self._flag(job, Anomaly.MISSING_TEXT_LENGTH)
        elif job.text_length < 0:
            job.text_length = length
            self.totals.observe(TEXT_LENGTH, job.label_set, self.settings.text_length_buckets, length)

    def _record_open(self, job_id: str, job: Job, sighting: Sighting) -> None:
        """A job was seen open: it stays so, unless it is too old."""
        if job.state == UNKNOWN:
            self._flag(job, Anomaly.UNKNOWN_STATE)
        job.last_checked = max(job.last_checked, sighting.begun)
        if sighting.begun >= job.created + self.settings.max_job_age:
            self._count_expired(job_id, job, "max_age")

    def _count_finished(self, job_id: str, job: Job, record: Record, sighting: Sighting) -> None:
        """Count a job whose state in the job index is final now."""
        label_set, state, ended, characters = (
            job.label_set,
            job.state,
            sighting.ended,
            max(0, job.text_length),
        )
        self.totals.add(FINISHED, label_set, state)
        fail_class = ""
        if state == FAILED:
            fail_class = self.settings.classify(record.fail_msg)
            total = self.totals.add(FAILURES, label_set, fail_class)
            self.recent_failures.failed(ended, fail_class, record.fail_msg)
            self.exemplars.take(total, record.job_id, 1, ended)
        else:
            self.totals.add(SYNTHESIZED, label_set, amount=characters)
            if not job.flags & UNDATED:
                self._observe_duration(job, label_set, record.job_id, ended)
        self._add_to_minute(job_id, job, state, fail_class)
        self._evict_if_old(job_id, job)

    def _observe_duration(self, job: Job, label_set: LabelSet, job_id: str | None, ended: int) -> None:
        """Observe both bounds of the duration, unless we checked so late that our delay would show."""
        created, last_checked = job.created, max(job.last_checked, job.created)
        if ended - last_checked > 2 * job.spacing(ended, self.settings.interval):
            return
        buckets = self.settings.duration_buckets
        for name, duration in (
            (DURATION_UPPER, max(0, ended - created)),
            (DURATION_LOWER, last_checked - created),
        ):
            bucket = self.totals.observe(name, label_set, buckets, duration)
            self.exemplars.take(bucket, job_id, duration, ended)

    def _count_expired(self, job_id: str, job: Job, reason: str) -> None:
        self.totals.add(EXPIRATIONS, job.label_set, reason)
        self._add_to_minute(job_id, job, job.state, reason)
        self.jobs.close(job_id, job, EXPIRED)
        self._evict_if_old(job_id, job)

    def _add_to_minute(self, job_id: str, job: Job, state: str, detail: str) -> None:
        if job.created < self.watermarks.baseline:
            detail = with_length(detail, job.text_length)
        self.minutes.add(job.created, job.label_set, state, detail, max(0, job.text_length), job_id)

    def _evict_if_old(self, job_id: str, job: Job) -> None:
        """A job that is no longer open is remembered only as long as it may be listed again."""
        if job.created < self._remembered_since:
            self.jobs.evict(job_id)

    # --- what a window did not show ---------------------------------------------------------------------

    def missing(self, since: int, until: int, shown: Iterable[str]) -> list[str]:
        """Remembered ids that a complete listing of [since, until) should have shown, and did not."""
        seen = set(shown)
        return [
            job_id
            for job_id, job in self.jobs.created_in(since, until)
            if job_id not in seen and not job.flags & UNDATED and (job.open or not job.flags & EXEMPT)
        ]

    def miss(self, job_id: str, begun: int, missed_by: MissedBy, now: int = 0) -> bool:
        """An answer to a request made at ``begun`` should have shown this job and did not (R6, R9).

        ``now``, if later, is surely not before that answer. Returns whether windows are complete without it.
        """
        job = self.jobs.get(job_id)
        if job is None:
            return True
        verdict = self.missing_jobs.missed(job_id, job, begun, max(begun, now), missed_by)
        if verdict is MissVerdict.GONE and job.open:
            self._count_expired(job_id, job, "vanished")
        return verdict is not MissVerdict.UNCERTAIN

    def take_late(self) -> bool:
        """Was a record created before "settled until" found since the last call?"""
        late, self.late = self.late, False
        return late

    # --- progress -------------------------------------------------------------------------------------

    def start(self, now: int, waited: int = 0) -> None:
        """First start (R4): nothing created before ``now`` less ``waited`` milliseconds is counted.

        Of what was waited no more than ``max_catch_up`` is read, the rest counts as skipped (R8).
        """
        if self._watermarks is not None:
            raise ValueError("this ledger has a baseline already")
        read = min(waited, self.settings.max_catch_up)
        self._watermarks = Watermarks.start(now - read, now if read else 0)
        if waited > read:
            self.totals.add_plain(SKIPPED_MS, amount=waited - read)

    def settle(self, until: int, now: int) -> None:
        """Everything from "settled until" to ``until`` was read.

        ``now`` is a time from before the first request of the last window.

        "Settled until" moves on, at most to the first job that should have been shown and was not.
        """
        blocking = self.missing_jobs.blocking
        missing = (
            floor_second(created) for created in blocking.values() if created >= self.watermarks.settled_until
        )
        before = self._remembered_since
        self.watermarks.settle(min(until, min(missing, default=until)), now, self.settings.overlap)
        self.jobs.evict_finals(before, self._remembered_since)
        for job_id in [job_id for job_id in blocking if self.jobs.get(job_id) is None]:
            del blocking[job_id]

    def jump(self, now: int) -> int:
        """Skip what is further back than ``max_catch_up`` (R8). Returns the milliseconds skipped."""
        before = self._remembered_since
        skipped = self.watermarks.jump(now, self.settings.max_catch_up)
        if skipped:
            self.totals.add_plain(SKIPPED_MS, amount=skipped)
            self.jobs.evict_finals(before, self._remembered_since)
        return skipped

    def see_history(self, records: Collection[Record], since: int, sighting: Sighting) -> None:
        """Read back before the baseline (R4, docs/counting.md): [since, history) was read completely.

        Open jobs are counted as created; finished ones only feed the gauge ``metastudio_tts_jobs``.
        """
        for record in records:
            created = record.create_time
            if created is not None and record.other_time is not None:
                created = latest(record, sighting)
            if created is None or not since <= created < self.watermarks.history:
                continue
            if record.job_id is not None and self.jobs.get(record.job_id) is not None:
                self.see_as(record.job_id, record, sighting)
            elif record.job_state in OPEN_STATES and record.job_id is not None:
                self._count_created(record.job_id, created, record, sighting)
            elif record.job_state in FINAL_STATES:
                label_set = self.label_sets.fit((record.job_type, record.tts_service_enum))
                self.minutes.add_uncounted(created, label_set, record.job_state)
        if sighting.since is None:
            remember_uncounted(records, self.watermarks, self.jobs)
        self.watermarks.history = since

    # --- commit ---------------------------------------------------------------------------------------

    def changes(self) -> Changes:
        """What to write since the last ``committed()``. RuntimeError when R12 is broken: a defect."""
        if off := self.imbalance():
            raise RuntimeError(f"created - finished - expired - open is {off}: wrong books are not kept")
        return Changes(
            watermarks=self._watermarks,
            jobs=self.jobs.changes(),
            evicted=tuple(self.jobs.evicted),
            totals={key: self.totals.values.get(key) for key in self.totals.dirty},
            minutes=dict(self.minutes.pending),
            label_sets=tuple(self.label_sets.added),
            minute_ids=dict(self.minutes.pending_ids),
        )

    def committed(self) -> None:
        """The store has all of ``changes()``."""
        self.recent_failures.committed()
        self.jobs.dirty.clear()
        self.jobs.evicted.clear()
        self.totals.dirty.clear()
        self.minutes.committed()
        self.label_sets.added.clear()

    def imbalance(self) -> int:
        """Jobs created less those finished, expired and open (R12): anything but 0 is a defect."""
        total = self.totals.sum
        return total(CREATED) - total(FINISHED) - total(EXPIRATIONS) - self.jobs.open_count

    # --- anomalies ------------------------------------------------------------------------------------

    def _flag(self, job: Job, anomaly: Anomaly) -> bool:
        """Count an anomaly once per record. Returns whether it was the first time."""
        if job.flags & FLAGS[anomaly]:
            return False
        job.flags |= FLAGS[anomaly]
        self.totals.add_plain(ANOMALIES, anomaly)
        return True

    def _count_once(self, anomaly: Anomaly, key: str) -> None:
        """Count, once, an anomaly of something that is not remembered as a job."""
        if self._seen_once.first_time(anomaly, key):
            self.totals.add_plain(ANOMALIES, anomaly)
