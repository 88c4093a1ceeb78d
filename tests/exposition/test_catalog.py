"""The table of metrics: what each yields, and when it yields nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cloud.events import OPERATIONS, ApiEvents
from exporter.errors import ErrorKind
from exporter.exposition import catalog
from exporter.exposition.api_stats import MAX_ERROR_CODES, ApiMetrics
from exporter.exposition.catalog import METRICS, Metric
from exporter.exposition.text import Format, write_block, write_family
from exporter.ledger import totals
from exporter.ledger.gauges import JobGauges
from exporter.ledger.record import LABEL_SET, Anomaly
from exporter.ledger.snapshot import TargetView
from exporter.ledger.totals import Exemplar, Histogram
from tests.exposition.views import (
    CLASSES,
    LABEL_SETS,
    LLM,
    PROCESS,
    api_error,
    bare_view,
    full_api,
    full_view,
)

HISTOGRAMS_OF_JOBS = [metric for metric in catalog.JOB_METRICS if metric.type == "histogram"]
Values = dict[tuple[str, ...], float | Histogram]


def named(name: str) -> Metric[Any]:
    return next(metric for metric in METRICS if metric.name == name)


def samples(name: str, view: TargetView) -> Values:
    """Numbers in the metric's unit; histograms as they are kept."""
    metric = named(name)
    return {
        labels: value if isinstance(value, Histogram) else value / metric.per_unit
        for labels, value in metric.samples(view)
    }


def written(name: str, view: TargetView) -> dict[tuple[str, str], float]:
    """What users see of it: by end of the sample's name, and ``le``."""
    metric, form = named(name), Format.PROMETHEUS
    text = "".join(write_family(metric, [write_block(metric, view, form)], form))
    return {
        (sample.name.removeprefix(name), sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def api_samples(name: str, api: ApiMetrics) -> Values:
    return {labels: value for view in api.views() for labels, value in named(name).samples(view)}


# Written a second time: what users query must not change by accident. A new metric becomes a part of it with
# the release that has it; until then docs/metrics.md shows it.
CONTRACT = {
    "metastudio_tts_jobs": ("gauge", "J job_state", "books"),
    "metastudio_tts_open_jobs": ("gauge", "J job_state", "books"),
    "metastudio_tts_oldest_open_job_timestamp_seconds": ("gauge", "J job_state", "books"),
    "metastudio_tts_jobs_created_total": ("counter", "J", "books"),
    "metastudio_tts_jobs_finished_total": ("counter", "J job_state", "books"),
    "metastudio_tts_job_failures_total": ("counter", "J fail_msg_class", "books"),
    "metastudio_tts_jobs_expired_total": ("counter", "J reason", "books"),
    "metastudio_tts_text_length_characters": ("histogram", "J", "books"),
    "metastudio_tts_synthesized_characters_total": ("counter", "J", "books"),
    "metastudio_tts_job_duration_upper_bound_seconds": ("histogram", "J", "books"),
    "metastudio_tts_job_duration_lower_bound_seconds": ("histogram", "J", "books"),
    "metastudio_tts_counted_until_timestamp_seconds": ("gauge", "target", "books"),
    "metastudio_api_requests_total": ("counter", "target operation code", "process"),
    "metastudio_api_errors_total": ("counter", "target operation kind", "process"),
    "metastudio_api_error_codes_total": ("counter", "target error_code", "process"),
    "metastudio_api_retries_total": ("counter", "target operation", "process"),
    "metastudio_api_request_duration_seconds": ("histogram", "target operation", "process"),
    "metastudio_api_throttle_wait_seconds_total": ("counter", "target", "process"),
    "metastudio_api_rate_limit_requests_per_second": ("gauge", "target", "process"),
    "metastudio_api_credentials_rejected": ("gauge", "target", "process"),
    "metastudio_api_access_denied": ("gauge", "target", "process"),
    "metastudio_api_credentials_expiry_timestamp_seconds": ("gauge", "target", "process"),
    "metastudio_up": ("gauge", "target", "process"),
    "metastudio_exporter_polls_total": ("counter", "target outcome", "books"),
    "metastudio_exporter_poll_duration_seconds": ("histogram", "target", "books"),
    "metastudio_exporter_last_complete_poll_timestamp_seconds": ("gauge", "target", "books"),
    "metastudio_exporter_record_anomalies_total": ("counter", "target anomaly", "books"),
    "metastudio_exporter_skipped_seconds_total": ("counter", "target", "books"),
    "metastudio_exporter_clock_skew_seconds": ("gauge", "target", "process"),
    "metastudio_exporter_clocks_disagree": ("gauge", "target", "process"),
    "metastudio_exporter_label_sets_folded_total": ("counter", "target", "books"),
    "metastudio_exporter_target_info": ("gauge", "target region project_id api_endpoint", "books"),
    "metastudio_exporter_build_info": ("gauge", "version revision pythonversion", "process"),
    "metastudio_exporter_config_last_reload_successful": ("gauge", "", "process"),
    "metastudio_exporter_config_last_reload_success_timestamp_seconds": ("gauge", "", "process"),
    "metastudio_exporter_log_lines_dropped_total": ("counter", "", "process"),
}


def test_the_table_is_the_contract() -> None:
    """Names, types, labels and scopes that users depend on are as they were; each name is declared once."""
    declared = {m.name: (m.type, " ".join(m.labels), m.scope) for m in METRICS}
    expected = {
        name: (kind, labels.replace("J", "target job_type tts_service_enum", 1), scope)
        for name, (kind, labels, scope) in CONTRACT.items()
    }
    assert {name: declared.get(name) for name in expected} == expected
    assert len(declared) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_well_formed(metric: Metric[Any]) -> None:
    """Help is one sentence; every sample has a value for every label, and no label set twice."""
    if metric in catalog.API_METRICS:
        source: object = full_api("production").views()[0]
    elif metric in catalog.PROCESS_METRICS:
        source = PROCESS
    else:
        source = full_view()
    found = list(metric.samples(source))
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert found
    assert {len(labels) for labels, _ in found} == {len(metric.labels)}
    assert len({labels for labels, _ in found}) == len(found)
    assert all(isinstance(value, Histogram) == (metric.type == "histogram") for _, value in found)


@pytest.mark.parametrize(
    ("name", "per_label_set"),
    [
        ("metastudio_tts_jobs_created_total", 1),
        ("metastudio_tts_jobs_finished_total", 2),
        ("metastudio_tts_job_failures_total", len(CLASSES)),
        ("metastudio_tts_jobs_expired_total", 2),
        ("metastudio_tts_synthesized_characters_total", 1),
    ],
)
def test_known_label_sets_are_at_zero_before_anything_happens(name: str, per_label_set: int) -> None:
    """So that increase() sees the first event of each."""
    found = samples(name, bare_view(label_sets=LABEL_SETS))
    assert len(found) == per_label_set * len(LABEL_SETS)
    assert set(found.values()) == {0}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("metastudio_exporter_record_anomalies_total", list(Anomaly)),
        ("metastudio_exporter_polls_total", ["complete", "partial", "failed"]),
    ],
)
def test_closed_sets_of_a_target_are_at_zero(name: str, labels: list[str]) -> None:
    """Anomalies and outcomes exist before the first of them."""
    assert samples(name, bare_view()) == {("production", label): 0 for label in labels}


@pytest.mark.parametrize(
    "name",
    [
        "metastudio_tts_jobs",
        "metastudio_tts_open_jobs",
        "metastudio_tts_oldest_open_job_timestamp_seconds",
        "metastudio_tts_counted_until_timestamp_seconds",
        "metastudio_tts_text_length_characters",
        "metastudio_tts_job_duration_upper_bound_seconds",
        "metastudio_tts_job_duration_lower_bound_seconds",
        "metastudio_exporter_poll_duration_seconds",
        "metastudio_exporter_last_complete_poll_timestamp_seconds",
        "metastudio_exporter_clock_skew_seconds",
        "metastudio_exporter_clocks_disagree",
    ],
)
def test_what_is_not_known_is_absent(name: str) -> None:
    """A zero would be a claim."""
    assert samples(name, bare_view()) == {}


@pytest.mark.parametrize("kept", [("job_type",), ("tts_service_enum",), ()], ids=",".join)
@pytest.mark.parametrize("metric", HISTOGRAMS_OF_JOBS, ids=lambda metric: metric.name)
def test_a_histogram_with_fewer_labels_is_the_exact_sum(
    metric: Metric[TargetView], kept: tuple[str, ...]
) -> None:
    """Of every bucket and of the sum, over the labels left out, which are not written."""
    view = full_view()
    fewer = msgspec.structs.replace(view, histogram_labels=kept)
    expected: dict[tuple[tuple[str, str], ...], float] = {}
    for labels, value in series(metric, view).items():
        remaining = tuple(pair for pair in labels if pair[0] not in {*LABEL_SET} - {*kept})
        expected[remaining] = expected.get(remaining, 0) + value
    assert series(metric, fewer) == expected
    assert len(expected) < len(series(metric, view))


def series(metric: Metric[TargetView], view: TargetView) -> dict[tuple[tuple[str, str], ...], float]:
    """As they are written, by labels and the name of the sample; values in the ledger's unit."""
    form = Format.PROMETHEUS
    text = "".join(write_family(metric, [write_block(metric, view, form)], form))
    return {
        (("name", sample.name), *sorted(sample.labels.items())): round(
            sample.value * (metric.per_unit if sample.name.endswith("_sum") else 1)
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_of_added_up_buckets_the_latest_exemplar_stays() -> None:
    """Whichever of the histograms it comes from."""

    def histogram(*ats: int) -> Histogram:
        exemplars = {place: Exemplar(f"job-{at}", 1, at) for place, at in enumerate(ats) if at}
        return Histogram((10,), (1, 1), 30, exemplars)

    view = msgspec.structs.replace(
        bare_view(),
        histogram_labels=(),
        duration_upper_bound={LLM: histogram(3, 0), ("a", "b"): histogram(2, 5), ("c", "d"): histogram(4, 1)},
    )
    (found,) = samples("metastudio_tts_job_duration_upper_bound_seconds", view).values()
    assert found == Histogram((10,), (3, 3), 90, {0: Exemplar("job-4", 1, 4), 1: Exemplar("job-5", 1, 5)})


@pytest.mark.parametrize("metric", catalog.JOB_METRICS, ids=lambda metric: metric.name)
def test_only_seen_pairs_are_at_zero_where_that_is_asked(metric: Metric[TargetView]) -> None:
    """With all that a seen pair can have; other pairs only with what was counted of them."""
    seen = ("PRELOAD", "TTS_LAB")
    gauges = JobGauges({(*LLM, "FAILED"): 2}, {}, {}, 1)
    view = msgspec.structs.replace(
        bare_view(label_sets=LABEL_SETS), zero_series="seen", seen_label_sets=(seen,), gauges=gauges
    )
    everything = dict(metric.samples(msgspec.structs.replace(view, zero_series="documented")))
    found = dict(metric.samples(view))
    if "job_type" in metric.labels:
        assert found == {
            labels: value for labels, value in everything.items() if labels[1:3] == seen or value
        }
    else:
        assert found == everything


def test_gauges_fill_their_states_once_they_are_known() -> None:
    """All states of every label set, and an oldest job only where there is one."""
    oldest = {(*LLM, "WAITING"): 1_700_000_000_500}
    gauges = JobGauges({(*LLM, "FAILED"): 2}, {(*LLM, "WAITING"): 1}, oldest, 1_700_000_001_000)
    view = msgspec.structs.replace(bare_view(), gauges=gauges)
    key = ("production", *LLM)
    assert samples("metastudio_tts_jobs", view) == {
        (*key, "WAITING"): 0,
        (*key, "PROCESSING"): 0,
        (*key, "SUCCEED"): 0,
        (*key, "FAILED"): 2,
        (*key, "unknown"): 0,
    }
    assert samples("metastudio_tts_open_jobs", view) == {
        (*key, "WAITING"): 1,
        (*key, "PROCESSING"): 0,
        (*key, "unknown"): 0,
    }
    assert samples("metastudio_tts_oldest_open_job_timestamp_seconds", view) == {
        (*key, "WAITING"): 1_700_000_000.5
    }
    assert samples("metastudio_tts_counted_until_timestamp_seconds", view) == {
        ("production",): 1_700_000_001.0
    }


def test_jobs_wait_for_their_window_to_be_read() -> None:
    """After a start, open jobs are known before the gauge over poll.window is."""
    view = msgspec.structs.replace(bare_view(), gauges=JobGauges(None, {}, {}, 1))
    assert samples("metastudio_tts_jobs", view) == {}
    assert len(samples("metastudio_tts_open_jobs", view)) == 3


def test_up_is_zero_before_the_first_poll() -> None:
    """And present: absence would hide that nothing works."""
    assert samples("metastudio_up", bare_view()) == {("production",): 0}


def test_a_class_that_is_no_longer_configured_keeps_its_count() -> None:
    """Otherwise a reload would make failures vanish from sums."""
    view = msgspec.structs.replace(bare_view(), totals={totals.FAILURES: {(*LLM, "retired"): 7}})
    found = samples("metastudio_tts_job_failures_total", view)
    assert found["production", *LLM, "retired"] == 7
    assert len(found) == len(CLASSES) + 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_seconds_are_made_of_what_is_kept_in_milliseconds(metric: Metric[Any]) -> None:
    """A ledger keeps milliseconds; the client and the process count in seconds."""
    of_ledger = metric in (*catalog.JOB_METRICS, *catalog.POLL_METRICS)
    assert metric.per_unit == (1000 if of_ledger and "_seconds" in metric.name else 1)


def test_durations_are_in_seconds_and_lengths_in_characters() -> None:
    """The ledger keeps milliseconds; a metric's unit is in its name."""
    histogram = Histogram((50, 1_500), (1, 0, 2), 3_750)
    view = msgspec.structs.replace(
        bare_view(),
        text_length={LLM: histogram},
        duration_lower_bound={LLM: histogram},
        totals={totals.SKIPPED_MS: {("", "", ""): 1_500}},
    )
    buckets = ("_bucket", "50.0"), ("_bucket", "1500.0"), ("_bucket", "+Inf"), ("_count", ""), ("_sum", "")
    characters = written("metastudio_tts_text_length_characters", view)
    assert characters == dict(zip(buckets, (1, 1, 3, 3, 3_750), strict=True))
    buckets = ("_bucket", "0.05"), ("_bucket", "1.5"), ("_bucket", "+Inf"), ("_count", ""), ("_sum", "")
    seconds = written("metastudio_tts_job_duration_lower_bound_seconds", view)
    assert seconds == dict(zip(buckets, (1, 1, 3, 3, 3.75), strict=True))
    assert written("metastudio_exporter_skipped_seconds_total", view) == {("", ""): 1.5}


def test_api_errors_exist_before_the_first_of_them() -> None:
    """All kinds of all operations at 0; no rate limit or expiry is claimed before it is known."""
    api = ApiMetrics(0.0)
    api.target("production")
    errors = api_samples("metastudio_api_errors_total", api)
    assert errors == {("production", op, kind): 0 for op in OPERATIONS for kind in ErrorKind}
    assert api_samples("metastudio_api_retries_total", api) == {("production", op): 0 for op in OPERATIONS}
    assert api_samples("metastudio_api_throttle_wait_seconds_total", api) == {("production",): 0}
    assert api_samples("metastudio_api_credentials_rejected", api) == {("production",): 0}
    assert api_samples("metastudio_api_access_denied", api) == {("production",): 0}
    assert api_samples("metastudio_api_rate_limit_requests_per_second", api) == {}
    assert api_samples("metastudio_api_credentials_expiry_timestamp_seconds", api) == {}


def test_api_facts_are_counted_where_they_belong() -> None:
    """One request of 0.1 s falls into the bucket that ends at 0.1: bounds are inclusive."""
    api = ApiMetrics(0.0)
    events: ApiEvents = api.target("production")
    events.request("list_jobs", "200", 0.1)
    events.request("list_jobs", "none", 60.0)
    events.error(api_error("list_jobs", "timeout", None))
    events.throttle_wait(1.5)
    events.throttle_wait(0.5)
    events.credentials_expiry(1_700_000_000.0)
    assert api_samples("metastudio_api_requests_total", api) == {
        ("production", "list_jobs", "200"): 1,
        ("production", "list_jobs", "none"): 1,
    }
    assert api_samples("metastudio_api_errors_total", api)["production", "list_jobs", "timeout"] == 1
    assert api_samples("metastudio_api_throttle_wait_seconds_total", api) == {("production",): 2.0}
    duration = api_samples("metastudio_api_request_duration_seconds", api)["production", "list_jobs"]
    assert isinstance(duration, Histogram)
    assert duration.counts == (0, 1, 0, 0, 0, 0, 0, 0, 0, 1)
    assert duration.sum == pytest.approx(60.1)
    assert api_samples("metastudio_api_credentials_expiry_timestamp_seconds", api) == {
        ("production",): 1_700_000_000.0
    }


@pytest.mark.parametrize("code", ["", "a b", "x" * 65, '"} 1', "é", "MSS.1\n"], ids=repr)
def test_a_malformed_error_code_is_no_label(code: str) -> None:
    """Error codes come from outside."""
    api = ApiMetrics(0.0)
    api.target("production").error(api_error("list_jobs", "server", code))
    expected = {("production", "other"): 1} if code else {}
    assert api_samples("metastudio_api_error_codes_total", api) == expected


def test_error_codes_are_bounded() -> None:
    """An API that makes up codes cannot make up series; the codes known before go on."""
    api = ApiMetrics(0.0)
    events = api.target("production")
    events.error(api_error("list_jobs", "server", "not a code"))
    for number in range(MAX_ERROR_CODES + 10):
        events.error(api_error("list_jobs", "server", f"MSS.{number}"))
    events.error(api_error("list_jobs", "server", "MSS.0"))
    found = api_samples("metastudio_api_error_codes_total", api)
    assert len(found) == MAX_ERROR_CODES + 1
    assert found["production", "other"] == 11
    assert found["production", "MSS.0"] == 2


def test_unknown_words_from_the_client_fold() -> None:
    """Operation, code and kind are closed sets whatever is reported."""
    api = ApiMetrics(0.0)
    events = api.target("production")
    events.request("list_jobs", "abc", 0.1)
    events.error(api_error("list_jobs", "surprise", None))
    events.request("surprise", "200", 0.1)
    events.retry("surprise")
    assert api_samples("metastudio_api_requests_total", api) == {("production", "list_jobs", "other"): 1}
    assert api_samples("metastudio_api_errors_total", api)["production", "list_jobs", "other"] == 1
    assert {labels[1] for labels in api_samples("metastudio_api_retries_total", api)} == set(OPERATIONS)


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(lambda events: events.request("list_jobs", "200", 0.1), id="request"),
        pytest.param(lambda events: events.error(api_error("list_jobs", "tls", None)), id="error"),
        pytest.param(lambda events: events.retry("list_jobs"), id="retry"),
        pytest.param(lambda events: events.throttle_wait(1.0), id="throttle-wait"),
        pytest.param(lambda events: events.rate_limit(5.0), id="rate-limit"),
        pytest.param(lambda events: events.credentials_rejected(True), id="rejected"),
        pytest.param(lambda events: events.access_denied(True), id="denied"),
        pytest.param(lambda events: events.credentials_expiry(1.0), id="expiry"),
    ],
)
def test_every_fact_shows_in_the_next_view(report: Callable[[ApiEvents], None]) -> None:
    """And leaves the view before as it was: its text is kept by identity."""
    api = ApiMetrics(0.0)
    events = api.target("production")
    before = events.view()
    copy = msgspec.structs.asdict(before)
    report(events)
    assert msgspec.structs.asdict(events.view()) != copy
    assert msgspec.structs.asdict(before) == copy


def test_a_target_keeps_its_api_counts_until_it_is_removed() -> None:
    """The same name is the same receiver."""
    api = ApiMetrics(0.0)
    api.target("production").request("list_jobs", "200", 0.1)
    assert api.target("production") is api.target("production")
    assert api.views()[0] is api.views()[0], "unchanged facts are the same object: their text is kept"
    api.remove("production")
    assert api.views() == ()
