"""What is published of one target: an immutable value, made of its ledger after a commit.

Pure. ``exposition`` turns it into samples, the status page into tables. Times are milliseconds since 1970
UTC. Nothing in here can be part of a cycle, so Python need not search it for some (``gc=False``): with
hundreds of targets that takes long.

Rules R3, R4 and R10 stand in docs/counting.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from exporter.failures import UnclassifiedTemplate
from exporter.ledger.first_start import FIRST_TRIED_MS
from exporter.ledger.gauges import JobGauges, job_gauges
from exporter.ledger.last_hour import Minute, jobs_by_minute
from exporter.ledger.ledger import Ledger
from exporter.ledger.record import LABEL_SET, LabelSet, SeriesLabels
from exporter.ledger.totals import (
    ANOMALIES,
    AS_OF_MS,
    CREATED,
    DURATION_LOWER,
    DURATION_UPPER,
    EXPIRATIONS,
    FAILURES,
    FINISHED,
    POLL_BUCKETS,
    POLL_DURATION,
    POLLS,
    SKIPPED_MS,
    SYNTHESIZED,
    TEXT_LENGTH,
    Exemplar,
    Histogram,
    histograms,
)


class Activity(msgspec.Struct, frozen=True, gc=False):
    """For the status page: what this process saw in the last hour; since its start where a field says so."""

    minutes: tuple[Minute, ...] = ()
    """By minute of creation, oldest first."""
    failures: Mapping[str, int] = {}
    """FAILED jobs by class, most frequent first."""
    unclassified: tuple[UnclassifiedTemplate, ...] = ()
    """Most frequent first, since the start of the process."""


class LastPoll(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the last poll found out beside jobs, or the one under way so far."""

    up: bool = False
    clock_skew_ms: int | None = None
    """API clock minus ours; ``None`` until an answer carried a usable ``Date``."""
    believed_skew_ms: int | None = None
    """The same for the time that counting goes by: ``Date`` as far as believed (R3, docs/counting.md)."""
    clocks_disagree: bool = False
    """By more than ``poll.overlap``; or what is counted is ahead of what the API's clock says."""
    problem: str = ""
    """Why the last poll that ended was not complete; empty after one that was. May quote the API."""
    requests: int = 0
    """List requests."""
    budget: int = 0
    """How many it may have made."""


class TargetView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything published about one target."""

    target: str
    region: str
    project_id: str
    """Empty until it is known."""
    api_endpoint: str
    label_sets: tuple[LabelSet, ...] = ()
    """Every label set in use: the documented ones that the filters allow, then those seen, in order."""
    seen_label_sets: tuple[LabelSet, ...] = ()
    """Those of them that a job had."""
    zero_series: Literal["documented", "seen"] = "documented"
    """Which of them are shown at 0 where nothing was counted (``metrics.zero_series``)."""
    histogram_labels: tuple[str, ...] = LABEL_SET
    """The labels of histograms of jobs, beside the target (``metrics.histogram_labels``)."""
    classes: tuple[str, ...] = ()
    """Every ``fail_msg_class`` in use, in rule order, then ``unclassified`` and ``no_message``."""
    lease_held: bool = True
    """Is it polled by this process? Otherwise another one commits what is shown."""

    first_tried: int | None = None
    """By our own clock, while counting has not begun: it will begin from there (R4, docs/counting.md)."""
    counting_since: int | None = None
    """The baseline, where the counters below began; ``None`` when that is not known."""
    totals: Mapping[str, Mapping[SeriesLabels, int]] = {}
    """All that are no histograms, by name (``totals.py``) and (job_type, tts_service_enum, detail)."""
    failure_exemplars: Mapping[SeriesLabels, Exemplar] = {}
    """By (..., fail_msg_class); only since this process started."""
    text_length: Mapping[LabelSet, Histogram] = {}
    duration_upper_bound: Mapping[LabelSet, Histogram] = {}
    duration_lower_bound: Mapping[LabelSet, Histogram] = {}
    gauges: JobGauges | None = None

    poll_duration: Histogram | None = None
    """Milliseconds."""
    last_complete_poll: int | None = None
    last_poll: LastPoll = LastPoll()
    activity: Activity = Activity()

    @property
    def zero_label_sets(self) -> tuple[LabelSet, ...]:
        """Those that are shown also where nothing was counted."""
        return self.label_sets if self.zero_series == "documented" else self.seen_label_sets

    def by_label_set(self, name: str) -> Mapping[LabelSet, int]:
        """A total that has job labels and no other."""
        return {(job_type, service): value for (job_type, service, _), value in self.by_labels(name).items()}

    def by_labels(self, name: str) -> Mapping[SeriesLabels, int]:
        """A total that has job labels and one more."""
        return self.totals.get(name, {})

    def by_detail(self, name: str) -> Mapping[str, int]:
        """A total that has a label, but no job labels."""
        return {detail: value for (_, _, detail), value in self.by_labels(name).items()}

    def plain(self, name: str) -> int:
        """A total without labels."""
        return self.by_labels(name).get(("", "", ""), 0)

    # Totals that several parts read. One that only its metric reads needs no property.

    @property
    def created(self) -> Mapping[LabelSet, int]:
        return self.by_label_set(CREATED)

    @property
    def finished(self) -> Mapping[SeriesLabels, int]:
        return self.by_labels(FINISHED)

    @property
    def failures(self) -> Mapping[SeriesLabels, int]:
        """By (..., fail_msg_class)"""
        return self.by_labels(FAILURES)

    @property
    def expired(self) -> Mapping[SeriesLabels, int]:
        """By (..., reason)"""
        return self.by_labels(EXPIRATIONS)

    @property
    def synthesized_characters(self) -> Mapping[LabelSet, int]:
        return self.by_label_set(SYNTHESIZED)

    @property
    def anomalies(self) -> Mapping[str, int]:
        return self.by_detail(ANOMALIES)

    @property
    def skipped_ms(self) -> int:
        return self.plain(SKIPPED_MS)

    @property
    def polls(self) -> Mapping[str, int]:
        """By outcome: complete, partial, failed."""
        return self.by_detail(POLLS)


def take_snapshot(
    before: TargetView, ledger: Ledger, now: int | None, *, project_id: str, last_complete_poll: int | None
) -> TargetView:
    """``before`` with everything that is counted now. Nothing in the ledger may be uncommitted (R10).

    ``now`` is on the API's clock; where it is not known, or somebody else commits, that of the last commit.
    """
    totals, settings, exemplars = ledger.totals.grouped(), ledger.settings, ledger.exemplars
    text_length, duration_upper, duration_lower, poll_duration = (
        totals.pop(name, {}) for name in (TEXT_LENGTH, DURATION_UPPER, DURATION_LOWER, POLL_DURATION)
    )
    if now is None and ledger.started:
        now = max(ledger.watermarks.settled_until + settings.overlap, ledger.totals.plain(AS_OF_MS))
    return replace(
        before,
        project_id=project_id,
        label_sets=ledger.label_sets.known,
        seen_label_sets=ledger.label_sets.seen,
        totals=totals,
        failure_exemplars=exemplars.of(FAILURES),
        text_length=histograms(text_length, settings.text_length_buckets),
        duration_upper_bound=histograms(
            duration_upper, settings.duration_buckets, exemplars.of(DURATION_UPPER)
        ),
        duration_lower_bound=histograms(
            duration_lower, settings.duration_buckets, exemplars.of(DURATION_LOWER)
        ),
        gauges=None if now is None else job_gauges(ledger, now),
        activity=Activity() if now is None else _activity(ledger, now),
        first_tried=None if ledger.started else ledger.totals.plain(FIRST_TRIED_MS) or None,
        counting_since=ledger.watermarks.baseline if ledger.started else None,
        poll_duration=histograms(poll_duration, POLL_BUCKETS).get(("", "")),
        last_complete_poll=last_complete_poll,
    )


def _activity(ledger: Ledger, now: int) -> Activity:
    recent = ledger.recent_failures
    return Activity(jobs_by_minute(ledger, now), recent.failures(now), recent.unclassified())
