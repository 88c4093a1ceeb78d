"""Every metric, declared once: name, type, help, labels, scope, and the function that yields its samples.

Knows the names of contract and documentation; knows no text format, no HTTP and no clock.
``docs/metrics.md`` is generated from these tables; dashboards and rules are checked against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from exporter.cloud import OPERATIONS
from exporter.exposition import samples
from exporter.exposition.api_stats import ApiView
from exporter.exposition.samples import ProcessView, SampleExemplars, Samples, no_exemplars
from exporter.ledger import EXPIRED_REASONS, FINAL_STATES, Anomaly, TargetView, totals
from exporter.units import SECOND

POLL_OUTCOMES: Final = ("complete", "partial", "failed")

_J: Final = ("target", "job_type", "tts_service_enum")

S = TypeVar("S", TargetView, ApiView, ProcessView)


@dataclass(frozen=True)
class Metric(Generic[S]):
    """One metric family. ``name`` is the one that users query: counters end in ``_total``."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    samples: Callable[[S], Samples]
    scope: Literal["books", "process"] = "books"
    """``books``: the same on every replica; ``process``: each replica's own. Gauges of a target
    with this scope are known to the replica that polls it."""
    exemplars: Callable[[S], SampleExemplars] = no_exemplars
    """A counter's. (A histogram's come with its samples.) Shown in OpenMetrics only."""
    per_unit: int = 1
    """What its values are divided by where they are written: ``SECOND`` for milliseconds shown in seconds."""

    @property
    def family(self) -> str:
        """The name in OpenMetrics' metadata: a counter's without its suffix."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name


JOB_METRICS: Final[tuple[Metric[TargetView], ...]] = (
    Metric(
        "metastudio_tts_jobs",
        "gauge",
        "Jobs created in the last poll.window, by present state.",
        (*_J, "job_state"),
        samples.jobs,
    ),
    Metric(
        "metastudio_tts_open_jobs",
        "gauge",
        "Jobs neither finished nor expired, whenever they were created.",
        (*_J, "job_state"),
        samples.open_jobs,
    ),
    Metric(
        "metastudio_tts_oldest_open_job_timestamp_seconds",
        "gauge",
        "Creation time of the oldest open job; absent when there is none.",
        (*_J, "job_state"),
        samples.oldest_open,
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_tts_jobs_created_total",
        "counter",
        "Jobs seen for the first time.",
        _J,
        lambda view: samples.each_label_set(view, view.created),
    ),
    Metric(
        "metastudio_tts_jobs_finished_total",
        "counter",
        "Jobs seen to reach SUCCEED or FAILED.",
        (*_J, "job_state"),
        lambda view: samples.each_value(view, view.finished, FINAL_STATES),
    ),
    Metric(
        "metastudio_tts_job_failures_total",
        "counter",
        "FAILED jobs by class of fail_msg: unclassified when no rule matches, no_message when it is empty.",
        (*_J, "fail_msg_class"),
        lambda view: samples.each_value(view, view.failures, view.classes),
        exemplars=samples.failure_exemplars,
    ),
    Metric(
        "metastudio_tts_jobs_expired_total",
        "counter",
        "Open jobs given up: unfinished at poll.max_job_age, or vanished from the list.",
        (*_J, "reason"),
        lambda view: samples.each_value(view, view.expired, EXPIRED_REASONS),
    ),
    Metric(
        "metastudio_tts_text_length_characters",
        "histogram",
        "Text length of created jobs.",
        _J,
        lambda view: samples.histogram_samples(view, view.text_length),
    ),
    Metric(
        "metastudio_tts_synthesized_characters_total",
        "counter",
        "Text length of jobs that succeeded: an estimate of billed characters.",
        _J,
        lambda view: samples.each_label_set(view, view.synthesized_characters),
    ),
    Metric(
        "metastudio_tts_job_duration_upper_bound_seconds",
        "histogram",
        "Succeeded jobs: from creation to the first sighting as finished. True durations are not longer.",
        _J,
        lambda view: samples.histogram_samples(view, view.duration_upper_bound),
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_tts_job_duration_lower_bound_seconds",
        "histogram",
        "The same jobs: from creation to the last sighting as open. True durations are not shorter.",
        _J,
        lambda view: samples.histogram_samples(view, view.duration_lower_bound),
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_tts_counted_until_timestamp_seconds",
        "gauge",
        "Every job created before this time, and listed within poll.overlap, is counted.",
        ("target",),
        samples.counted_until,
        per_unit=SECOND,
    ),
)

API_METRICS: Final[tuple[Metric[ApiView], ...]] = (
    Metric(
        "metastudio_api_requests_total",
        "counter",
        "Requests to the cloud by HTTP status; code none when there was no answer.",
        ("target", "operation", "code"),
        lambda api: (((api.target, *labels), count) for labels, count in sorted(api.requests.items())),
        "process",
    ),
    Metric(
        "metastudio_api_errors_total",
        "counter",
        "Requests to the cloud that failed, by kind of error.",
        ("target", "operation", "kind"),
        samples.errors,
        "process",
    ),
    Metric(
        "metastudio_api_error_codes_total",
        "counter",
        "Failed requests by the error code of the API; other when malformed or beyond 50 codes.",
        ("target", "error_code"),
        lambda api: (((api.target, code), count) for code, count in sorted(api.error_codes.items())),
        "process",
    ),
    Metric(
        "metastudio_api_retries_total",
        "counter",
        "Requests sent again after a failure.",
        ("target", "operation"),
        lambda api: (((api.target, name), api.retries.get(name, 0)) for name in OPERATIONS),
        "process",
    ),
    Metric(
        "metastudio_api_request_duration_seconds",
        "histogram",
        "Time from sending a request to its whole answer or its failure.",
        ("target", "operation"),
        samples.request_duration,
        "process",
    ),
    Metric(
        "metastudio_api_throttle_wait_seconds_total",
        "counter",
        "Time spent waiting for the rate limit or for Retry-After.",
        ("target",),
        lambda api: samples.one(api.target, api.throttle_wait),
        "process",
    ),
    Metric(
        "metastudio_api_rate_limit_requests_per_second",
        "gauge",
        "The rate limit in force.",
        ("target",),
        lambda api: samples.one(api.target, api.rate_limit),
        "process",
    ),
    Metric(
        "metastudio_api_credentials_rejected",
        "gauge",
        "1 while the API refuses the credentials.",
        ("target",),
        lambda api: samples.one(api.target, float(api.credentials_rejected)),
        "process",
    ),
    Metric(
        "metastudio_api_access_denied",
        "gauge",
        "1 while the API knows the credentials and does not allow them what this target asks for (HTTP 403).",
        ("target",),
        lambda api: samples.one(api.target, float(api.access_denied)),
        "process",
    ),
    Metric(
        "metastudio_api_credentials_expiry_timestamp_seconds",
        "gauge",
        "When the token or the temporary keys end; absent for permanent keys.",
        ("target",),
        lambda api: samples.one(api.target, api.credentials_expiry),
        "process",
    ),
)

POLL_METRICS: Final[tuple[Metric[TargetView], ...]] = (
    Metric(
        "metastudio_up",
        "gauge",
        "1 if the last poll got at least one valid list answer, 0 otherwise and before the first.",
        ("target",),
        lambda view: samples.one(view.target, float(view.last_poll.up)),
        scope="process",
    ),
    Metric(
        "metastudio_exporter_lease_held",
        "gauge",
        "1 on the replica that polls the target; always where there are no others.",
        ("target",),
        lambda view: samples.one(view.target, float(view.lease_held)),
        scope="process",
    ),
    Metric(
        "metastudio_exporter_polls_total",
        "counter",
        "Polls: complete when every read they planned succeeded, partial when some did, failed when none.",
        ("target", "outcome"),
        lambda view: samples.each_name(view, view.polls, POLL_OUTCOMES),
    ),
    Metric(
        "metastudio_exporter_poll_duration_seconds",
        "histogram",
        "Duration of polls.",
        ("target",),
        samples.poll_duration,
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_exporter_last_complete_poll_timestamp_seconds",
        "gauge",
        "When the last complete poll ended.",
        ("target",),
        lambda view: samples.one(view.target, view.last_complete_poll),
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_exporter_last_commit_timestamp_seconds",
        "gauge",
        "When what is shown was committed, on the API's clock. Of several replicas the latest is right.",
        ("target",),
        lambda view: samples.one(view.target, view.plain(totals.AS_OF_MS) or None),
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_exporter_record_anomalies_total",
        "counter",
        "Records that are not as documented, once per record and anomaly where it can be told apart.",
        ("target", "anomaly"),
        lambda view: samples.each_name(view, view.anomalies, Anomaly),
    ),
    Metric(
        "metastudio_exporter_skipped_seconds_total",
        "counter",
        "Stretches of time never read because downtime exceeded poll.max_catch_up.",
        ("target",),
        lambda view: samples.one(view.target, view.skipped_ms),
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_exporter_clock_skew_seconds",
        "gauge",
        "Clock of the API minus ours.",
        ("target",),
        lambda view: samples.one(view.target, view.last_poll.clock_skew_ms),
        scope="process",
        per_unit=SECOND,
    ),
    Metric(
        "metastudio_exporter_clocks_disagree",
        "gauge",
        "1 while the clocks of the API and ours differ by more than poll.overlap, or what is counted is ahead"
        " of the API's.",
        ("target",),
        samples.clocks_disagree,
        scope="process",
    ),
    Metric(
        "metastudio_exporter_label_sets_folded_total",
        "counter",
        "Jobs booked under other/other because metrics.max_label_sets was reached.",
        ("target",),
        lambda view: samples.one(view.target, view.plain(totals.FOLDED)),
    ),
    Metric(
        "metastudio_exporter_target_info",
        "gauge",
        "Where the target is; always 1.",
        ("target", "region", "project_id", "api_endpoint"),
        samples.target_info,
    ),
)

PROCESS_METRICS: Final[tuple[Metric[ProcessView], ...]] = (
    Metric(
        "metastudio_exporter_build_info",
        "gauge",
        "What is running; always 1.",
        ("version", "revision", "pythonversion"),
        lambda process: (((process.version, process.revision, process.pythonversion), 1),),
        scope="process",
    ),
    Metric(
        "metastudio_exporter_config_last_reload_successful",
        "gauge",
        "1 if the last start or reload of the configuration succeeded.",
        (),
        lambda process: (((), float(process.reload_successful)),),
        scope="process",
    ),
    Metric(
        "metastudio_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration was last loaded with success.",
        (),
        lambda process: (((), process.reload_success_timestamp),),
        scope="process",
    ),
    Metric(
        "metastudio_exporter_log_lines_dropped_total",
        "counter",
        "Log lines that were dropped because standard error was not read, or could not be written.",
        (),
        lambda process: (((), process.log_lines_dropped),),
        scope="process",
    ),
)

METRICS: Final[tuple[Metric[Any], ...]] = (*JOB_METRICS, *API_METRICS, *POLL_METRICS, *PROCESS_METRICS)
