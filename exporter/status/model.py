"""What ``/`` and ``/api/v1/status`` show: one immutable value, made from what is published.

Knows published values, API facts and the configuration in force; knows neither HTML nor JSON. All times are
Unix seconds: here the milliseconds of published values become that. Texts of the API are in it as they came:
whoever renders them escapes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from exporter.config import Config
from exporter.exposition import JOB_STATES, ApiView, FailedRequest, ProcessView
from exporter.ledger import FAILED, FINAL_STATES, JobGauges, LabelSet, TargetView
from exporter.units import SECOND

State = Literal["ok", "behind", "clock", "failing", "refused", "denied", "starting"]
"""ok: read in time; behind: read, but late; clock: the API's clock and ours differ by more than
``poll.overlap``, or what is counted is ahead of it; failing: no valid answer in the last poll; refused: the
API refuses the credentials; denied: it knows them, but does not allow them what this target asks for;
starting: not polled yet."""

PROBLEM_LIMIT: Final = 1000
NOTABLE_LAG: Final = 1.0
"""Seconds by which "counted until" may seem ahead of the API's time, by rounding."""
MISSED_POLLS: Final = 4
"""A complete poll is late after so many intervals, or after one poll's deadline if that is longer."""


class Jobs(msgspec.Struct, frozen=True):
    """Jobs of one label set, by present state."""

    job_type: str
    tts_service_enum: str
    states: Mapping[str, int]


class FailureClass(msgspec.Struct, frozen=True):
    """Failed jobs of one class, over all label sets."""

    fail_msg_class: str
    last_hour: int
    """As this process saw it."""
    total: int
    """Since counting began."""


class UnclassifiedMessages(msgspec.Struct, frozen=True):
    """Failure messages that no rule knows, by what varies in them, and the rule that would match."""

    template: str
    """Untrusted text: one line, bounded, with placeholders."""
    jobs: int
    last_seen: float
    rule: str
    """An entry of ``fail_msg_classes``, as YAML."""


class MinuteOfJobs(msgspec.Struct, frozen=True):
    """Jobs created in one minute, by what became of them."""

    start: float
    created: int
    finished: int
    failed: int
    expired: int
    open: int


class CredentialsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the API thinks of a target's credentials."""

    rejected: bool
    denied: bool
    """Known to the API, and not allowed what this target asks for."""
    expires: float | None
    """``None``: permanent keys, or not known yet."""


class TargetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One target, as docs/status-api.md has it."""

    name: str
    state: State
    region: str
    project_id: str
    api_endpoint: str
    first_tried: float | None
    """Our own clock; only while counting has not begun: jobs created since then will be counted."""
    counting_since: float | None
    last_complete_poll: float | None
    counted_until: float | None
    lag_seconds: float | None
    """The API's time, as far as it is believed, minus ``counted_until``; below 0 only for a wrong clock."""
    usual_lag_seconds: float
    """Up to this a lag is no reason to worry: twice ``poll.overlap``."""
    last_poll_problem: str
    """Why the last poll was not complete; empty after one that was."""
    last_poll_requests: int
    poll_budget: int
    open_jobs: int
    oldest_open_job: float | None
    credentials: CredentialsStatus
    clock_skew_seconds: float | None
    clocks_disagree: bool
    """By more than ``poll.overlap``; or "counted until" is ahead of the API's clock."""
    skipped_seconds: float
    polls: Mapping[str, int]
    anomalies: Mapping[str, int]
    window_seconds: float
    """``poll.window``."""
    jobs: tuple[Jobs, ...] | None
    """Created in that window, most failures first; ``None`` until all of it has been read."""
    failures: tuple[FailureClass, ...]
    unclassified: tuple[UnclassifiedMessages, ...]
    last_hour: tuple[MinuteOfJobs, ...]


class Reload(msgspec.Struct, frozen=True):
    """The configuration in force, and why a newer one is not."""

    loaded: float
    last_attempt: float
    problems: tuple[str, ...]
    """Of the last attempt; empty when it succeeded."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows, as docs/status-api.md has it."""

    now: float
    started: float
    ready: bool
    version: str
    revision: str
    python: str
    reload: Reload
    targets: tuple[TargetStatus, ...]
    api_errors: tuple[FailedRequest, ...]
    """Newest first."""
    configuration: str
    """In force, as YAML; every secret is ``<secret>``."""


def build_status(
    *,
    now: float,
    started: float,
    ready: bool,
    process: ProcessView,
    reload: Reload,
    published: Iterable[TargetView],
    api: Iterable[ApiView],
    config: Config,
    configuration: str,
) -> Status:
    facts = {view.target: view for view in api}
    targets = tuple(_target(view, facts.get(view.target), config, now) for view in published)
    errors = [error for view in facts.values() for error in view.failed_requests]
    return Status(
        now=now,
        started=started,
        ready=ready,
        version=process.version,
        revision=process.revision,
        python=process.pythonversion,
        reload=reload,
        targets=targets,
        api_errors=tuple(sorted(errors, key=lambda error: error.time, reverse=True)),
        configuration=configuration,
    )


def _target(view: TargetView, api: ApiView | None, config: Config, now: float) -> TargetStatus:
    gauges = view.gauges
    credentials = CredentialsStatus(
        rejected=api is not None and api.credentials_rejected,
        denied=api is not None and api.access_denied,
        expires=api.credentials_expiry if api is not None else None,
    )
    counted_until = gauges.counted_until / SECOND if gauges else None
    lag = None if counted_until is None else now + _api_ahead(view) - counted_until
    return TargetStatus(
        name=view.target,
        state=_state(view, credentials, lag, config, now),
        region=view.region,
        project_id=view.project_id,
        api_endpoint=view.api_endpoint,
        first_tried=_seconds(view.first_tried),
        counting_since=_seconds(view.counting_since),
        last_complete_poll=_seconds(view.last_complete_poll),
        counted_until=counted_until,
        lag_seconds=lag,
        usual_lag_seconds=2 * config.poll.overlap,
        last_poll_problem=view.last_poll.problem[:PROBLEM_LIMIT],
        last_poll_requests=view.last_poll.requests,
        poll_budget=view.last_poll.budget,
        open_jobs=sum(gauges.open_jobs.values()) if gauges else 0,
        oldest_open_job=_seconds(min(gauges.oldest_open.values(), default=None)) if gauges else None,
        credentials=credentials,
        clock_skew_seconds=_seconds(view.last_poll.clock_skew_ms),
        clocks_disagree=view.last_poll.clocks_disagree,
        skipped_seconds=view.skipped_ms / SECOND,
        polls=view.polls,
        anomalies=view.anomalies,
        window_seconds=config.poll.window,
        jobs=_jobs(gauges),
        failures=_failures(view),
        unclassified=tuple(
            UnclassifiedMessages(seen.template, seen.jobs, seen.last_seen / SECOND, seen.rule)
            for seen in view.activity.unclassified
        ),
        last_hour=tuple(
            MinuteOfJobs(one.start / SECOND, one.created, one.finished, one.failed, one.expired, one.open)
            for one in view.activity.minutes
        ),
    )


def _api_ahead(view: TargetView) -> float:
    """The API's time, as far as it is believed, minus ours, in seconds."""
    poll = view.last_poll
    ahead = poll.clock_skew_ms if poll.believed_skew_ms is None else poll.believed_skew_ms
    return (ahead or 0) / SECOND


def _state(
    view: TargetView, credentials: CredentialsStatus, lag: float | None, config: Config, now: float
) -> State:
    """The worst that is true."""
    poll = config.poll
    if credentials.rejected:
        return "refused"
    if credentials.denied:
        return "denied"
    if not view.polls:
        return "starting"
    if not view.last_poll.up:
        return "failing"
    if view.last_poll.clocks_disagree or (lag or 0) < -NOTABLE_LAG:
        return "clock"
    patience = max(MISSED_POLLS * poll.interval, poll.timeout)
    late = now - (view.last_complete_poll or 0) / SECOND > patience
    return "behind" if late or (lag or 0) > 2 * poll.overlap + patience else "ok"


def _jobs(gauges: JobGauges | None) -> tuple[Jobs, ...] | None:
    if gauges is None or gauges.jobs is None:
        return None
    label_sets: dict[LabelSet, dict[str, int]] = {}
    for (job_type, service, state), count in gauges.jobs.items():
        if count:
            label_sets.setdefault((job_type, service), dict.fromkeys(JOB_STATES, 0))[state] = count
    rows = [Jobs(*label_set, states) for label_set, states in sorted(label_sets.items())]
    return tuple(sorted(rows, key=_trouble, reverse=True))


def _trouble(row: Jobs) -> tuple[int, int, int]:
    """Failed before open before the rest."""
    states = row.states
    ended = sum(states[state] for state in FINAL_STATES)
    return states[FAILED], sum(states.values()) - ended, ended


def _failures(view: TargetView) -> tuple[FailureClass, ...]:
    totals: Counter[str] = Counter()
    for (_, _, fail_class), count in view.failures.items():
        totals[fail_class] += count
    last_hour = view.activity.failures
    names = sorted(totals, key=lambda name: (-last_hour.get(name, 0), -totals[name], name))
    return tuple(FailureClass(name, last_hour.get(name, 0), totals[name]) for name in names if totals[name])


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / SECOND
