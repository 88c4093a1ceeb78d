"""Lines as prometheus-client writes them, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.metrics import Metric
from exporter.sampling import Distribution, Samples
from exporter.textformat import END, Format, select, write_block, write_family

Rows = list[tuple[tuple[str, ...], float | Distribution]]


class Source:
    """Made-up samples, and when counting began."""

    def __init__(self, rows: Rows, created: float | None) -> None:
        self.rows = rows
        self._created = created

    @property
    def created(self) -> float | None:
        return self._created


class Families(Collector):
    def __init__(self, *families: Family) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def rows_of(source: Source) -> Samples:
    return source.rows


def ours(metric: Metric[Any], sources: list[Source], form: Format, *, created: bool) -> str:
    blocks = [write_block(metric, source, form, created=created) for source in sources]
    return "".join(write_family(metric, blocks, form))


def theirs(metric: Metric[Any], sources: list[Source], form: Format, *, created: bool) -> str:
    """The same samples through prometheus-client's writers."""
    family = Family(metric.family, metric.help, metric.type)
    for source in sources:
        for values, value in source.rows:
            labels = dict(zip(metric.labels, values, strict=True))
            if isinstance(value, Distribution):
                bounds = [*map(floatToGoString, value.bounds), "+Inf"]
                for bound, total in zip(bounds, accumulate(value.counts), strict=True):
                    family.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, total)
                family.add_sample(f"{metric.name}_count", labels, sum(value.counts))
                family.add_sample(f"{metric.name}_sum", labels, value.sum)
            else:
                family.add_sample(metric.name, labels, value)
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


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    bounds = sorted(draw(st.sets(st.floats(min_value=0.001, max_value=1e9), max_size=5)))
    counts = draw(st.lists(st.integers(0, 10**9), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    return Distribution(tuple(bounds), tuple(counts), draw(st.floats(min_value=0, max_value=1e15)))


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Metric[Any], list[Source]]:
    kind: Type = draw(st.sampled_from(("counter", "gauge", "histogram")))
    names = draw(
        st.lists(st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,6}", fullmatch=True), unique=True, max_size=4)
    )
    labels = tuple(name for name in names if name != "le")
    name = draw(st.from_regex(r"[a-z][a-z0-9_]{0,8}x", fullmatch=True))
    metric = Metric[Any](f"{name}_total" if kind == "counter" else name, kind, draw(texts), labels, rows_of)
    row = st.tuples(st.tuples(*(texts for _ in labels)), distributions() if kind == "histogram" else numbers)
    source = st.builds(Source, st.lists(row, max_size=3), st.none() | st.floats(1e9, 2e9))
    return metric, draw(st.lists(source, max_size=3))


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
