"""Lines as prometheus-client writes them, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.utils import floatToGoString

from exporter.exposition.catalog import Metric
from exporter.exposition.samples import Samples
from exporter.exposition.text import END, Format, select, write_block, write_family
from exporter.ledger.totals import Exemplar, Histogram

Rows = list[tuple[tuple[str, ...], float | Histogram]]
JOB_ID = "0f0e0d0c-1234-5678-9abc-def012345678"


class Source:
    """Made-up samples, and when counting began."""

    def __init__(self, rows: Rows, created: float | None, exemplar: Exemplar | None = None) -> None:
        self.rows = rows
        self.exemplars = {rows[0][0]: exemplar} if rows and exemplar else {}
        self.created = created


class Families(Collector):
    def __init__(self, *families: Family) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def rows_of(source: Source) -> Samples:
    return source.rows


def ours(metric: Metric[Any], sources: list[Source], form: Format, *, created: bool) -> str:
    blocks = [write_block(metric, source, form, source.created if created else None) for source in sources]
    return "".join(write_family(metric, blocks, form))


def their_exemplar(exemplar: Exemplar | None, form: Format, per_unit: int) -> ClientExemplar | None:
    if exemplar is None or form is not Format.OPENMETRICS:
        return None
    return ClientExemplar({"job_id": exemplar.job_id}, exemplar.value / per_unit, exemplar.at / 1000)


def theirs(metric: Metric[Any], sources: list[Source], form: Format, *, created: bool) -> str:
    """The same samples through prometheus-client's writers."""
    family = Family(metric.family, metric.help, metric.type)
    for source in sources:
        for values, value in source.rows:
            # Labels without a value are left out, but for the first one, the target: they count as absent.
            pairs = enumerate(zip(metric.labels, values, strict=True))
            labels = dict(pair for place, pair in pairs if pair[1] or not place)
            if isinstance(value, Histogram):
                bounds = [*(floatToGoString(bound / metric.per_unit) for bound in value.bounds), "+Inf"]
                for place, total in enumerate(accumulate(value.counts)):
                    exemplar = their_exemplar(value.exemplars.get(place), form, metric.per_unit)
                    bucket = {**labels, "le": bounds[place]}
                    family.add_sample(f"{metric.name}_bucket", bucket, total, exemplar=exemplar)
                family.add_sample(f"{metric.name}_count", labels, sum(value.counts))
                family.add_sample(f"{metric.name}_sum", labels, value.sum / metric.per_unit)
            else:
                exemplar = their_exemplar(source.exemplars.get(values), form, metric.per_unit)
                shown = value if metric.per_unit == 1 else value / metric.per_unit
                family.add_sample(metric.name, labels, shown, exemplar=exemplar)
            if created and source.created is not None and metric.type != "gauge":
                family.add_sample(f"{metric.family}_created", labels, source.created)
    if not family.samples:
        return ""
    registry = CollectorRegistry()
    registry.register(Families(family))
    if form is Format.OPENMETRICS:
        return str(generate_openmetrics(registry), "utf-8").removesuffix(END)
    return generate_latest(registry).decode()


Type = Literal["counter", "gauge", "histogram"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.one_of(
    st.integers(min_value=0, max_value=2**60),
    st.floats(allow_nan=True, allow_infinity=True),
)


exemplars = st.builds(
    Exemplar,
    st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=128 - len("job_id")),
    st.integers(0, 10**9),
    st.integers(10**12, 2 * 10**12),
)


@st.composite
def distributions(draw: st.DrawFn) -> Histogram:
    bounds = sorted(draw(st.sets(st.floats(min_value=0.001, max_value=1e9), max_size=5)))
    counts = draw(st.lists(st.integers(0, 10**9), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    shown = draw(st.dictionaries(st.integers(0, len(bounds)), exemplars, max_size=2))
    return Histogram(tuple(bounds), tuple(counts), draw(st.floats(min_value=0, max_value=1e15)), shown)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Metric[Any], list[Source]]:
    kind: Type = draw(st.sampled_from(("counter", "gauge", "histogram")))
    names = draw(
        st.lists(st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,6}", fullmatch=True), unique=True, max_size=4)
    )
    labels = tuple(name for name in names if name != "le")
    name = draw(st.from_regex(r"[a-z][a-z0-9_]{0,8}x", fullmatch=True))
    metric = Metric[Any](
        f"{name}_total" if kind == "counter" else name,
        kind,
        draw(texts),
        labels,
        rows_of,
        exemplars=attrgetter("exemplars"),
        per_unit=draw(st.sampled_from((1, 1000))),
    )
    row = st.tuples(st.tuples(*(texts for _ in labels)), distributions() if kind == "histogram" else numbers)
    exemplar = exemplars if kind == "counter" else st.none()
    rows = st.lists(row, max_size=3, unique_by=itemgetter(0))
    source = st.builds(Source, rows, st.none() | st.floats(1e9, 2e9), st.none() | exemplar)
    return metric, draw(st.lists(source, max_size=3))


@pytest.mark.slow
@pytest.mark.parametrize("created", [False, True], ids=["plain", "created"])
@pytest.mark.parametrize("form", Format, ids=lambda form: form.name)
@given(drawn=inputs())
@settings(max_examples=200)
def test_lines_equal_those_of_prometheus_client(
    form: Format, created: bool, drawn: tuple[Metric[Any], list[Source]]
) -> None:
    """Whatever the names, label values and numbers are."""
    metric, sources = drawn
    assert ours(metric, sources, form, created=created) == theirs(metric, sources, form, created=created)


def exemplified(job_id: str) -> str:
    metric = Metric[Any]("a_total", "counter", "A.", (), rows_of, exemplars=attrgetter("exemplars"))
    source = Source([((), 1.0)], None, Exemplar(job_id, 1, 1_700_000_000_000))
    return ours(metric, [source], Format.OPENMETRICS, created=False).splitlines()[-1]


@pytest.mark.parametrize(
    ("job_id", "shown"),
    [
        pytest.param(JOB_ID, f'a_total 1.0 # {{job_id="{JOB_ID}"}} 1.0 1700000000.0', id="shown"),
        pytest.param('a"\\', 'a_total 1.0 # {job_id="a\\"\\\\"} 1.0 1700000000.0', id="escaped"),
        pytest.param("中" * 122, f'a_total 1.0 # {{job_id="{"中" * 122}"}} 1.0 1700000000.0', id="longest"),
        pytest.param("x" * 123, "a_total 1.0", id="too-long"),
        pytest.param("a\nb", "a_total 1.0", id="line-break"),
        pytest.param("a\x1b[31m", "a_total 1.0", id="escape-sequence"),
        pytest.param("\ud800", "a_total 1.0", id="surrogate"),
    ],
)
def test_exemplars_are_within_the_limit_and_printable(job_id: str, shown: str) -> None:
    """128 characters with the label's name (OpenMetrics 1.0.0); the sample itself is always there."""
    assert exemplified(job_id) == shown


EXPOSITION = """\
# HELP a_total First.
# TYPE a_total counter
a_total{target="x"} 1.0
# HELP b Second.
# TYPE b histogram
b_bucket{le="+Inf",target="# HELP c"} 2.0
b_count{target="a_total "} 2.0
b_sum 3.0
"""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param({"a_total"}, EXPOSITION.splitlines(keepends=True)[:3], id="sample"),
        pytest.param({"a"}, EXPOSITION.splitlines(keepends=True)[:3], id="counter-without-suffix"),
        pytest.param({"b"}, EXPOSITION.splitlines(keepends=True)[3:], id="family"),
        pytest.param({"a_total", "b"}, [EXPOSITION], id="both"),
        pytest.param(
            {"b_sum"}, [*EXPOSITION.splitlines(keepends=True)[3:5], "b_sum 3.0\n"], id="one-of-a-histogram"
        ),
        pytest.param({"c", "x", "#"}, [], id="none"),
    ],
)
def test_names_select_families_or_single_samples(names: set[str], expected: list[str]) -> None:
    """With their metadata, and never by what stands in a label value."""
    assert select(EXPOSITION, frozenset(names)) == "".join(expected)
