"""One scrape's text: readable by every parser, right in its numbers, made once per change."""

from __future__ import annotations

import gzip
import subprocess
from collections import UserDict
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from prometheus_client.samples import Exemplar, Timestamp

from exporter.exposition import catalog
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.catalog import METRICS, Metric
from exporter.exposition.render import REVISION_VARIABLE, WANTED_SECONDS, Exposition, process_view
from exporter.exposition.text import Format, select
from exporter.ledger import totals
from exporter.ledger.gauges import JobGauges
from exporter.ledger.record import LabelSet, SeriesLabels
from exporter.ledger.snapshot import LastPoll, TargetView
from exporter.ledger.totals import Histogram
from tests.conftest import Golden, Tool
from tests.exposition.views import CLASSES, LLM, PROCESS, STARTED, bare_view, full_api, full_view

GOLDEN = Path(__file__).parent / "golden"
PARSERS: dict[Format, Any] = {Format.PROMETHEUS: parse_prometheus, Format.OPENMETRICS: parse_openmetrics}
AWKWARD = 'a\\b"c\nd,e="f"} 1 # {g} \u2028é中'
both_formats = pytest.mark.parametrize("form", Format, ids=lambda form: form.name.lower())


def exposition(*views: TargetView, api: ApiMetrics | None = None, created: bool = False) -> Exposition:
    made = Exposition(
        api or full_api(*(view.target for view in views)),
        PROCESS,
        registry=CollectorRegistry(),
        created_timestamps=created,
    )
    made.publish(views)
    return made


def parse(text: bytes, form: Format) -> list[Family]:
    return list(PARSERS[form](text.decode()))


def values(families: Iterable[Family]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.slow
@both_formats
@pytest.mark.parametrize("created", [False, True], ids=["plain", "created"])
def test_parsers_read_back_every_number(form: Format, created: bool) -> None:
    """Names, labels and values of two full targets, one of them with an awkward name."""
    views = (full_view("production"), full_view(AWKWARD))
    api = full_api("production", AWKWARD)
    found = values(parse(exposition(*views, api=api, created=created).render(form), form))
    expected: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    everything: list[tuple[Metric[Any], Any]] = [
        *product((*catalog.JOB_METRICS, *catalog.POLL_METRICS), views),
        *product(catalog.API_METRICS, api.views()),
    ]
    for metric, source in everything:
        for labels, value in metric.samples(source):
            key = frozenset(zip(metric.labels, labels, strict=True))
            if isinstance(value, Histogram):
                expected[f"{metric.name}_sum", key] = value.sum / metric.per_unit
                expected[f"{metric.name}_count", key] = sum(value.counts)
                assert found[f"{metric.name}_bucket", key | {("le", "+Inf")}] == sum(value.counts)
            else:
                expected[metric.name, key] = value / metric.per_unit
    assert len(expected) > 1000
    assert {key: found[key] for key in expected} == expected
    others = {name for name, _ in found.keys() - expected.keys()} - {
        metric.name for metric in catalog.PROCESS_METRICS
    }
    assert {name.rpartition("_")[2] for name in others} == ({"bucket", "created"} if created else {"bucket"})


@both_formats
def test_metadata_is_right_and_stands_once_before_its_samples(form: Format) -> None:
    """One HELP and one TYPE a family, also with several targets; types and help as declared."""
    families = parse(exposition(full_view("a"), full_view("b")).render(form), form)
    assert {family.name: (family.type, family.documentation) for family in families} == {
        metric.family: (metric.type, metric.help) for metric in METRICS
    }
    text = exposition(full_view("a"), full_view("b")).render(form).decode()
    assert text.count("# TYPE ") == text.count("# HELP ") == len(METRICS)


@both_formats
def test_openmetrics_alone_ends_with_one_mark(form: Format) -> None:
    """``# EOF`` is the last line of OpenMetrics and never appears in 0.0.4, whatever is selected."""
    made = exposition(full_view())
    for names in (frozenset[str](), frozenset(["metastudio_up"]), frozenset(["nothing"])):
        text = made.render(form, names).decode()
        assert text.count("# EOF") == (form is Format.OPENMETRICS)
        assert text.endswith("# EOF\n") == (form is Format.OPENMETRICS)


@both_formats
def test_without_targets_only_the_process_speaks(form: Format) -> None:
    """Until the store is loaded there are no job series, and no empty families."""
    made = Exposition(ApiMetrics(STARTED), PROCESS, created_timestamps=False)
    names = {family.name for family in parse(made.render(form), form)}
    assert not any(name.startswith(("metastudio_tts", "metastudio_up", "metastudio_api")) for name in names)
    assert {"metastudio_exporter_build_info", "process_resident_memory_bytes", "python_info"} <= names


class Counts(UserDict[SeriesLabels, int]):
    """Notes in ``reads`` the label sets whose count is read."""

    def __init__(self, counts: dict[SeriesLabels, int], reads: list[LabelSet]) -> None:
        super().__init__(counts)
        self._reads = reads

    def __getitem__(self, labels: SeriesLabels) -> int:
        self._reads.append(labels[:2])
        return super().__getitem__(labels)


def created(jobs: int, reads: list[LabelSet] | None = None) -> dict[str, Mapping[SeriesLabels, int]]:
    """Totals with so many jobs created, of one label set."""
    return {totals.CREATED: Counts({(*LLM, ""): jobs}, [] if reads is None else reads)}


def small_view() -> TargetView:
    histogram = Histogram((100, 1_500), (2, 0, 1), 2_250)
    waiting = (*LLM, "WAITING")
    return msgspec.structs.replace(
        bare_view(),
        counting_since=1_699_999_000_250,
        totals={
            totals.CREATED: {(*LLM, ""): 1_234_567},
            totals.FAILURES: {(*LLM, "unclassified"): 1},
            totals.POLLS: {("", "", "complete"): 3},
        },
        text_length={LLM: histogram},
        duration_upper_bound={LLM: histogram},
        gauges=JobGauges({waiting: 1}, {waiting: 1}, {waiting: 1_700_000_000_125}, 1_700_000_001_000),
        poll_duration=histogram,
        last_poll=LastPoll(clock_skew_ms=-250, up=True),
    )


@both_formats
def test_a_small_exposition_reads_as_it_always_did(form: Format, golden: Golden) -> None:
    """The golden file shows what a user sees; a difference in it is a change of the interface.

    A new metric is none: only those that the file has are compared.
    """
    api = ApiMetrics(STARTED)
    api.target("production").request("list_jobs", "200", 0.3)
    text = exposition(small_view(), api=api).render(form).decode()
    path = GOLDEN / f"{form.name.lower()}.txt"
    golden(path, without(new_families(path.read_text(encoding="utf-8")), text))


def new_families(text: str) -> set[str]:
    """Of all metrics those that a text does not have."""
    had = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP ")}
    return {name for metric in METRICS for name in (metric.name, metric.family)} - had


def without(families: set[str], text: str) -> str:
    kept, keep = [], True
    for line in text.splitlines(keepends=True):
        if line.startswith("# "):
            keep = families.isdisjoint(line.split()[2:3])
        kept += [line] * keep
    return "".join(kept)


@pytest.mark.slow
@both_formats
def test_text_is_made_again_only_for_the_target_that_changed(form: Format) -> None:
    """And what changed shows at the next scrape: views, classes, API facts, reloads."""
    first, second, api = full_view("first"), full_view("second"), full_api("first")
    made = exposition(first, second, api=api)
    before = made.render(form)
    assert made.render(form) == before

    made.publish(
        (
            first,
            msgspec.structs.replace(second, last_poll=LastPoll(up=False)),
        )
    )
    assert parse(made.render(form), form) != parse(before, form)
    assert b'metastudio_up{target="second"} 0.0' in made.render(form)
    assert b'metastudio_up{target="first"} 1.0' in made.render(form)

    renamed = (*CLASSES, "brand_new")
    made.publish(tuple(msgspec.structs.replace(view, classes=renamed) for view in made.published))
    assert b'fail_msg_class="brand_new"' in made.render(form)

    api.target("first").retry("list_jobs")
    assert b'metastudio_api_retries_total{operation="list_jobs",target="first"} 2.0' in made.render(form)

    made.config_loaded(successful=False, at=STARTED + 60)
    assert b"config_last_reload_successful 0.0" in made.render(form)
    assert b"config_last_reload_success_timestamp_seconds 1.7000000005e+09" in made.render(form)
    made.config_loaded(successful=True, at=STARTED + 120)
    assert b"config_last_reload_success_timestamp_seconds 1.7000001205e+09" in made.render(form)

    made.publish((second,))
    assert b'metastudio_up{target="first"}' not in made.render(form)


def test_a_view_that_did_not_change_is_not_written_again() -> None:
    """What a poll of one target costs does not grow with the number of targets."""
    reads: list[LabelSet] = []

    quiet = msgspec.structs.replace(bare_view("quiet"), totals=created(1, reads))
    made = exposition(quiet, bare_view("busy"))
    made.render(Format.PROMETHEUS)
    assert reads == [LLM]
    made.publish(
        (
            quiet,
            msgspec.structs.replace(bare_view("busy"), last_poll=LastPoll(up=True)),
        )
    )
    assert b'metastudio_up{target="busy"} 1.0' in made.render(Format.PROMETHEUS)
    assert reads == [LLM]


@both_formats
def test_exemplars_are_in_openmetrics_alone(form: Format) -> None:
    """On failures and on the buckets of both durations; 0.0.4 has no word for them."""
    shown = {
        (sample.name, sample.labels.get("le") or sample.labels["fail_msg_class"]): sample.exemplar
        for family in parse(exposition(full_view()).render(form), form)
        for sample in family.samples
        if sample.exemplar
    }
    failed = Exemplar({"job_id": "failed-job"}, 1.0, Timestamp(1_700_000_000, 125_000_000))
    slow = Exemplar({"job_id": "slow-job"}, 61.5, Timestamp(1_700_000_000, 250_000_000))
    expected = {
        ("metastudio_tts_job_failures_total", CLASSES[0]): failed,
        ("metastudio_tts_job_duration_upper_bound_seconds_bucket", "86400.0"): slow,
        ("metastudio_tts_job_duration_lower_bound_seconds_bucket", "86400.0"): slow,
    }
    assert shown == (expected if form is Format.OPENMETRICS else {})


@both_formats
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_what_was_asked_for_once_is_made_at_publication(form: Format, compressed: bool) -> None:
    """So that no later scrape waits for it; and once only, however many scrapes follow."""
    reads: list[LabelSet] = []

    def publish() -> None:
        made.publish((msgspec.structs.replace(bare_view(), totals=created(1, reads)),))

    made = exposition(bare_view())
    publish()
    assert reads == []
    made.render(form, compressed=compressed)
    assert reads == [LLM]
    publish()
    assert reads == [LLM, LLM]
    for _ in range(3):
        made.render(form, compressed=compressed)
    assert reads == [LLM, LLM]


def test_what_nobody_asks_for_any_more_is_no_longer_made() -> None:
    """One look with a browser does not cost at every publication from then on."""
    reads: list[LabelSet] = []

    now = 1_000.0
    made = Exposition(
        full_api(), PROCESS, registry=CollectorRegistry(), monotonic=lambda: now, created_timestamps=False
    )
    made.render(Format.PROMETHEUS)
    for later, expected in ((WANTED_SECONDS, [LLM]), (WANTED_SECONDS + 1, [LLM])):
        now = 1_000.0 + later
        made.publish((msgspec.structs.replace(bare_view(), totals=created(1, reads)),))
        assert reads == expected
    assert b"metastudio_tts_jobs_created_total{" in made.render(Format.PROMETHEUS)


NAMES = ("a", "b", "c")


@st.composite
def publications(draw: st.DrawFn) -> list[tuple[TargetView, ...]]:
    """A history: at each step some targets count on, appear, disappear or change places."""
    now = {name: full_view(name, (LLM,)) for name in NAMES}
    history = []
    for _ in range(draw(st.integers(1, 5))):
        for name in draw(st.sets(st.sampled_from(NAMES))):
            amount = draw(st.sampled_from((1, 10**6)))
            now[name] = msgspec.structs.replace(
                now[name],
                totals=created(now[name].created[LLM] + amount),
                last_poll=LastPoll(up=draw(st.booleans())),
            )
        shown = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
        history.append(tuple(now[name] for name in shown))
    return history


@pytest.mark.slow
@given(history=publications(), form=st.sampled_from(Format), scrape_between=st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_was_kept_equals_what_would_be_made_anew(
    history: list[tuple[TargetView, ...]], form: Format, scrape_between: bool
) -> None:
    """After any sequence of publications and API facts, plain and compressed."""
    api = full_api(*NAMES)
    made = exposition(api=api)
    for step, views in enumerate(history):
        made.publish(views)
        api.target(NAMES[step % 3]).retry("list_jobs")
        if scrape_between or step == len(history) - 1:
            anew = exposition(*views, api=api).render(form)
            assert made.render(form) == anew
            assert gzip.decompress(made.render(form, compressed=True)) == anew


@both_formats
def test_selected_names_are_those_of_the_whole(form: Format) -> None:
    """The same lines as ``select`` finds in the whole text, which is not searched for it."""
    made = exposition(full_view("a"), full_view("b"), created=True)
    whole = made.render(form).decode()
    for names in (
        {"metastudio_tts_jobs"},
        {"metastudio_tts_jobs_created_total", "metastudio_up"},
        {"metastudio_tts_jobs_created", "metastudio_tts_jobs_created_created"},
        {"metastudio_tts_text_length_characters_sum", "metastudio_exporter_build_info"},
        {"metastudio", "nothing", "#"},
    ):
        expected = select(whole.removesuffix("# EOF\n"), frozenset(names))
        end = "# EOF\n" if form is Format.OPENMETRICS else ""
        assert made.render(form, frozenset(names)).decode() == expected + end
        assert (
            gzip.decompress(made.render(form, frozenset(names), compressed=True)).decode() == expected + end
        )


def test_process_view_tells_version_and_revision() -> None:
    """The revision comes from the environment of the image, and is bounded."""
    assert process_view({}, loaded_at=1.0).revision == "unknown"
    assert process_view({REVISION_VARIABLE: "f" * 1000}, loaded_at=1.0).revision == "f" * 64
    assert process_view({}, loaded_at=2.5).reload_success_timestamp == 2.5


def test_promtool_finds_nothing(tool: Tool) -> None:
    """Prometheus' own linter on a full exposition, prometheus-client's metrics included."""
    made = Exposition(full_api("production"), PROCESS, created_timestamps=False)
    made.publish((full_view("production"),))
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=made.render(Format.PROMETHEUS),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_created_series_come_and_go_with_a_reload() -> None:
    """What was written without them is not kept."""
    exposition = Exposition(full_api("production"), PROCESS, created_timestamps=False)
    exposition.publish((full_view(),))
    name = b"metastudio_tts_jobs_finished_created{"
    assert name not in exposition.render(Format.OPENMETRICS)
    exposition.show_created(True)
    assert name in exposition.render(Format.OPENMETRICS)
    exposition.show_created(False)
    assert name not in exposition.render(Format.OPENMETRICS)


@both_formats
def test_who_reads_slowly_gets_what_was_published_when_it_began(form: Format) -> None:
    """Every byte of it, whatever is published meanwhile; what is not current is in memory compressed only."""
    made = exposition(full_view())
    expected = made.render(form)
    parts = made.parts(form)
    shared = parts.shared
    sent = [next(shared)]
    chunks = made.body(form).chunks
    for number in range(1, 4):
        made.publish(
            (
                msgspec.structs.replace(
                    full_view(), last_poll=LastPoll(up=bool(number % 2)), totals=created(number)
                ),
            )
        )
        made.render(form)
    decompressed = {chunk for chunk in chunks if chunk.blocks}
    assert decompressed < set(chunks)
    assert decompressed <= set(made.body(form).chunks)
    assert b"".join([*sent, *shared, parts.fresh]) == expected
