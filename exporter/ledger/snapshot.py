"""What is published of one target: an immutable value, made of its ledger after a commit.

Pure. ``exposition`` turns it into samples, the status page into tables. Times are milliseconds since 1970
UTC.

Rules R3, R4 and R10 stand in docs/counting.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from exporter.failures import UnclassifiedTemplate
from exporter.ledger.first_start import FIRST_TRIED_MS
from exporter.ledger.gauges import JobGauges, job_gauges
from exporter.ledger.last_hour import Minute, jobs_by_minute
from exporter.ledger.ledger import Ledger
from exporter.ledger.record import LabelSet, SeriesLabels
from exporter.ledger.totals import (
    ANOMALIES,
    CREATED,
    DURATION_LOWER,
    DURATION_UPPER,
    EXPIRATIONS,
    FAILURES,
    FINISHED,
    FOLDED,
    POLL_BUCKETS,
    POLL_DURATION,
    POLLS,
    SKIPPED_MS,
    SYNTHESIZED,
    TEXT_LENGTH,
    Exemplar,
    Histogram,
    by_label_set,
    histograms,
)


class Activity(msgspec.Struct, frozen=True):
    """For the status page: the last hour as this process saw it."""

    minutes: tuple[Minute, ...] = ()
    """By minute of creation, oldest first."""
    failures: Mapping[str, int] = {}
    """FAILED jobs by class, most frequent first."""
    unclassified: tuple[UnclassifiedTemplate, ...] = ()
    """Most frequent first, since the start of the process."""


class LastPoll(msgspec.Struct, frozen=True, kw_only=True):
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


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything published about one target."""

    target: str
    region: str
    project_id: str
    """Empty until it is known."""
    api_endpoint: str
    label_sets: tuple[LabelSet, ...] = ()
    """Every label set in use: the documented ones that the filters allow, then those seen, in order."""
    classes: tuple[str, ...] = ()
    """Every ``fail_msg_class`` in use, in rule order, then ``unclassified`` and ``no_message``."""

    first_tried: int | None = None
    """By our own clock, while counting has not begun: it will begin from there (R4, docs/counting.md)."""
    counting_since: int | None = None
    """The baseline, where the counters below began; ``None`` when that is not known."""
    created: Mapping[LabelSet, int] = {}
    finished: Mapping[SeriesLabels, int] = {}
    failures: Mapping[SeriesLabels, int] = {}
    """By (..., fail_msg_class)"""
    failure_exemplars: Mapping[SeriesLabels, Exemplar] = {}
    """By (..., fail_msg_class); only since this process started."""
    expired: Mapping[SeriesLabels, int] = {}
    """By (..., reason)"""
    synthesized_characters: Mapping[LabelSet, int] = {}
    text_length: Mapping[LabelSet, Histogram] = {}
    duration_upper_bound: Mapping[LabelSet, Histogram] = {}
    duration_lower_bound: Mapping[LabelSet, Histogram] = {}
    gauges: JobGauges | None = None

    anomalies: Mapping[str, int] = {}
    skipped_ms: int = 0
    label_sets_folded: int = 0

    polls: Mapping[str, int] = {}
    """By outcome: complete, partial, failed."""
    poll_duration: Histogram | None = None
    """Milliseconds."""
    last_complete_poll: int | None = None
    last_poll: LastPoll = LastPoll()
    activity: Activity = Activity()


def take_snapshot(
    before: TargetView, ledger: Ledger, now: int | None, *, project_id: str, last_complete_poll: int | None
) -> TargetView:
    """``before`` with everything that is counted now. Nothing in the ledger may be uncommitted (R10).

    ``now`` is on the API's clock, as far as it is known.
    """
    groups, settings, exemplars = ledger.totals.grouped(), ledger.settings, ledger.exemplars
    if now is None and ledger.started:
        now = ledger.watermarks.settled_until + settings.overlap
    return replace(
        before,
        project_id=project_id,
        label_sets=ledger.label_sets.known,
        created=by_label_set(groups.get(CREATED, {})),
        finished=groups.get(FINISHED, {}),
        failures=groups.get(FAILURES, {}),
        failure_exemplars=exemplars.of(FAILURES),
        expired=groups.get(EXPIRATIONS, {}),
        synthesized_characters=by_label_set(groups.get(SYNTHESIZED, {})),
        text_length=histograms(groups.get(TEXT_LENGTH, {}), settings.text_length_buckets),
        duration_upper_bound=histograms(
            groups.get(DURATION_UPPER, {}), settings.duration_buckets, exemplars.of(DURATION_UPPER)
        ),
        duration_lower_bound=histograms(
            groups.get(DURATION_LOWER, {}), settings.duration_buckets, exemplars.of(DURATION_LOWER)
        ),
        gauges=None if now is None else job_gauges(ledger, now),
        activity=Activity() if now is None else _activity(ledger, now),
        first_tried=None if ledger.started else ledger.totals.plain(FIRST_TRIED_MS) or None,
        counting_since=ledger.watermarks.baseline if ledger.started else None,
        anomalies=ledger.totals.by_detail(ANOMALIES),
        skipped_ms=ledger.totals.plain(SKIPPED_MS),
        label_sets_folded=ledger.totals.plain(FOLDED),
        polls=ledger.totals.by_detail(POLLS),
        poll_duration=histograms(groups.get(POLL_DURATION, {}), POLL_BUCKETS).get(("", "")),
        last_complete_poll=last_complete_poll,
    )


def _activity(ledger: Ledger, now: int) -> Activity:
    recent = ledger.recent_failures
    return Activity(jobs_by_minute(ledger, now), recent.failures(now), recent.unclassified())
