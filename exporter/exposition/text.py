"""Samples -> lines of the two text formats: Prometheus 0.0.4 and OpenMetrics 1.0.0.

Knows how lines are written; knows no metric by name. Lines are written here, not by prometheus-client,
because that takes ten times as long; a differential test compares every byte with prometheus-client's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client.exposition import generate_latest as generate_prometheus
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from exporter.exposition.catalog import Metric
from exporter.ledger import Exemplar, Histogram
from exporter.units import SECOND

END = "# EOF\n"
"""Last line of OpenMetrics, and of nothing else."""


EXEMPLAR_LIMIT: Final = 128
"""Characters of all label names and values of an exemplar (OpenMetrics 1.0.0, "Exemplars")."""

_JOB_ID: Final = "job_id"
"""The label of an exemplar."""


REMEMBERED: Final = 32_768
"""Label sets of metrics with the same labels, kept as text: about 300 bytes each."""


class Format(Enum):
    """A text format; the value is its Content-Type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Block(NamedTuple):
    """One source's lines of one family."""

    samples: str
    created: str = ""
    """0.0.4 has ``_created`` in a family of its own, which must not come between the others' samples."""


def write_block(metric: Metric[Any], source: Any, form: Format, created: float | None = None) -> Block:  # noqa: ANN401
    """``created``: when the source's counters began (Unix seconds), for ``_created`` samples."""
    counts_from = created if metric.type != "gauge" else None
    per_unit = metric.per_unit
    lines: list[str] = []
    created_lines: list[str] = []
    exemplars = metric.exemplars(source) if form is Format.OPENMETRICS else {}
    into = lines if form is Format.OPENMETRICS else created_lines
    for values, value in metric.samples(source):
        if isinstance(value, Histogram):
            lines.extend(_histogram(metric, values, value, form))
        else:
            labels = _labels(metric.labels)(values)
            exemplar = _exemplar(exemplars.get(values), per_unit)
            shown = format_value(value if per_unit == 1 else value / per_unit)
            lines.append(f"{metric.name}{labels} {shown}{exemplar}\n")
        if counts_from is not None:
            labels = _labels(metric.labels)(values)
            into.append(f"{metric.family}_created{labels} {floatToGoString(counts_from)}\n")
    return Block("".join(lines), "".join(created_lines))


def write_family(metric: Metric[Any], blocks: Iterable[Block], form: Format) -> list[str]:
    """The whole family: metadata once, then every source's lines; nothing when there are none."""
    blocks = tuple(blocks)
    text = [block.samples for block in blocks if block.samples]
    if text:
        text.insert(0, write_metadata(metric.family, metric.help, metric.type, form))
    created = [block.created for block in blocks if block.created]
    if created:
        text += [write_metadata(f"{metric.family}_created", metric.help, "gauge", form), *created]
    return text


def write_registry(collector: Collector, form: Format) -> str:
    """prometheus-client's own counters and gauges, as itself would write them, without the end mark."""
    lines: list[str] = []
    for family in collector.collect():
        lines.append(write_metadata(family.name, family.documentation, family.type, form))
        lines.extend(f"{series(sample)} {format_value(sample.value)}\n" for sample in family.samples)
    return "".join(lines)


def series(sample: Sample) -> str:
    """The name and labels of a sample of prometheus-client's."""
    return sample.name + _labels(tuple(sample.labels))(tuple(sample.labels.values()))


def select(text: str, names: frozenset[str]) -> str:
    """Only the samples, or whole families, of these names (parameter ``name[]``)."""
    return "".join(_selected(text.split("\n"), names))


def _selected(lines: Iterable[str], names: frozenset[str]) -> Iterator[str]:
    metadata: list[str] = []
    whole = False
    for line in lines:
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            whole = family in names or family.removesuffix("_total") in names
            metadata = [line]
        elif line.startswith("#"):
            metadata.append(line)
        elif line and (whole or line.partition(" ")[0].partition("{")[0] in names):
            yield from (f"{kept}\n" for kept in (*metadata, line))
            metadata = []


def _histogram(metric: Metric[Any], values: tuple[str, ...], value: Histogram, form: Format) -> Iterator[str]:
    bucket = _labels((*metric.labels, "le"))
    name, per_unit = metric.name, metric.per_unit
    total = 0
    exemplars = value.exemplars if form is Format.OPENMETRICS else {}
    totals = enumerate(accumulate(value.counts))
    for bound, (place, total) in zip(_bounds(value.bounds, per_unit), totals, strict=True):
        labels = bucket((*values, bound))
        yield f"{name}_bucket{labels} {format_value(total)}{_exemplar(exemplars.get(place), per_unit)}\n"
    labels = _labels(metric.labels)(values)
    yield f"{name}_count{labels} {format_value(total)}\n"
    yield f"{name}_sum{labels} {floatToGoString(value.sum / per_unit)}\n"


@lru_cache
def _bounds(bounds: tuple[float, ...], per_unit: int) -> tuple[str, ...]:
    """Values of ``le``."""
    return (*(floatToGoString(bound / per_unit) for bound in bounds), "+Inf")


def _exemplar(exemplar: Exemplar | None, per_unit: int) -> str:
    """What follows the sample's value; nothing when the id is longer than allowed, or not printable."""
    if exemplar is None:
        return ""
    job_id, value, at = exemplar
    if len(_JOB_ID) + len(job_id) > EXEMPLAR_LIMIT or not job_id.isprintable():
        return ""
    return f' # {{{_JOB_ID}="{_escape(job_id)}"}} {floatToGoString(value / per_unit)} {at / SECOND}'


@cache
def _labels(names: tuple[str, ...]) -> Callable[[tuple[str, ...]], str]:
    """Writer of label values as ``{…}``, sorted by label name.

    Remembers, until ``forget_labels``: a publication changes numbers, not labels.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    template = ",".join(f'{names[i]}="%s"' for i in order)
    if not names:
        return lambda values: ""

    @lru_cache(REMEMBERED)
    def write(values: tuple[str, ...]) -> str:
        return "{" + template % tuple([_escape(values[i]) for i in order]) + "}"

    return write


def forget_labels() -> None:
    """Drop the remembered text: that of targets that have gone would stay. The rest is written again."""
    _labels.cache_clear()


def format_value(value: float) -> str:
    """As prometheus-client writes it. Most numbers are small counts, which need none of its care."""
    return f"{value}.0" if type(value) is int and 0 <= value < 1_000_000 else floatToGoString(value)


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@cache
def write_metadata(family: str, documentation: str, kind: str, form: Format) -> str:
    """The HELP and TYPE lines of a family."""
    single = _Single(Family(family, documentation, kind))
    if form is Format.OPENMETRICS:
        return str(generate_openmetrics(single), "utf-8").removesuffix(END)
    return str(generate_prometheus(single), "utf-8")


class _Single(Collector):
    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return (self._family,)
