"""The process' own metrics: as prometheus-client would write them, and fresh."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import Collector

from exporter.exposition.process import Reading, SelfMetrics, read_process, self_registry
from exporter.exposition.text import END, Format

both_formats = pytest.mark.parametrize("form", Format, ids=lambda form: form.name.lower())


class Frozen(Collector):
    """What the real collectors said once."""

    def __init__(self) -> None:
        self.families = list(self_registry().collect())

    def collect(self) -> Iterable[Family]:
        return self.families


def frozen() -> tuple[CollectorRegistry, dict[Reading, float]]:
    registry, collector = CollectorRegistry(), Frozen()
    registry.register(collector)
    samples = (sample for family in collector.families for sample in family.samples)
    return registry, {(sample.name, sample.labels.get("generation", "")): sample.value for sample in samples}


def theirs(registry: CollectorRegistry, form: Format) -> str:
    if form is Format.OPENMETRICS:
        return str(generate_openmetrics(registry), "utf-8").removesuffix(END)
    return generate_latest(registry).decode()


@both_formats
def test_the_text_is_that_of_prometheus_client(form: Format) -> None:
    """Differential, byte for byte, on the same values."""
    registry, values = frozen()
    assert SelfMetrics(registry, lambda: values).text(form) == theirs(registry, form)


def test_values_are_those_of_prometheus_client() -> None:
    """Read by both, one after the other: equal, but for what a moment changes."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert {name for name, _ in read_process()} == names - {"python_info", "process_start_time_seconds"}
    for (name, generation), value in read_process().items():
        if "python_gc" in name:
            expected = registry.get_sample_value(name, {"generation": generation})
            slack = 100_000.0
        else:
            expected, slack = registry.get_sample_value(name), 0.0
            slack = {"process_cpu_seconds_total": 1.0, "process_open_fds": 0.0}.get(name, 50e6)
        assert expected is not None
        assert abs(expected - value) <= slack, name


def test_every_scrape_is_fresh() -> None:
    """A descriptor opened between two scrapes shows in the second."""
    made = SelfMetrics(self_registry())

    def descriptors() -> float:
        (family,) = (f for f in parse(made.text(Format.PROMETHEUS)) if f.name == "process_open_fds")
        return float(family.samples[0].value)

    before = descriptors()
    with tempfile.TemporaryFile():
        assert descriptors() == before + 1


@both_formats
@pytest.mark.parametrize(
    "error", [FileNotFoundError("/proc"), KeyError("new"), IndexError("short"), ValueError("odd")], ids=repr
)
def test_where_reading_fails_theirs_is_shown(form: Format, error: Exception) -> None:
    """Slower, but never without."""
    registry, _ = frozen()

    def fail() -> dict[Reading, float]:
        raise error

    assert SelfMetrics(registry, fail).text(form) == theirs(registry, form)


def test_a_metric_that_is_not_known_here_is_shown_all_the_same() -> None:
    """As when a new version of prometheus-client has one more."""

    class More(Collector):
        def collect(self) -> Iterable[Family]:
            return [GaugeMetricFamily("process_new", "New.", value=5)]

    registry = CollectorRegistry()
    registry.register(More())
    assert "process_new 5.0" in SelfMetrics(registry).text(Format.PROMETHEUS)


def test_percent_signs_are_text() -> None:
    """Whatever a collector writes into its help."""

    class Percent(Collector):
        def collect(self) -> Iterable[Family]:
            return [GaugeMetricFamily("python_info", "100 %s", value=1)]

    registry = CollectorRegistry()
    registry.register(Percent())
    assert SelfMetrics(registry).text(Format.PROMETHEUS) == theirs(registry, Format.PROMETHEUS)
