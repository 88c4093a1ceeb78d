"""Samples -> lines of the two text formats: Prometheus 0.0.4 and OpenMetrics 1.0.0.

Knows how lines are written; knows no metric by name. Lines are written here, not by prometheus-client,
because that takes ten times as long; a differential test compares every byte with prometheus-client's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, Final, TypeVar

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


REMEMBERED: Final = 4096
"""Series of one metric, kept as text without their first label's value: about 300 bytes each."""


class Format(Enum):
    """A text format; the value is its Content-Type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


Around = tuple[str, str]
"""What stands before and behind the first label's value in a line, up to its number."""


Block = tuple[str, str]
"""One source's lines of one family: its samples; and its ``_created`` samples, which 0.0.4 has in a family of
their own. A plain tuple, because Python's search for garbage passes over those.
"""


P = TypeVar("P")
"""What stands for a text: itself, or what was made of it."""


def write_block(metric: Metric[Any], source: Any, form: Format, created: float | None = None) -> Block:  # noqa: ANN401
    """``created``: when the source's counters began (Unix seconds), for ``_created`` samples."""
    counts_from = created if metric.type != "gauge" else None
    per_unit = metric.per_unit
    lines: list[str] = []
    created_lines: list[str] = []
    exemplars = metric.exemplars(source) if form is Format.OPENMETRICS else {}
    into = lines if form is Format.OPENMETRICS else created_lines
    around = _around(metric.name, metric.labels)
    unescaped = first = ""
    for values, value in metric.samples(source):
        if values and values[0] is not unescaped:
            unescaped, first = values[0], _escape(values[0])
        if isinstance(value, Histogram):
            lines += _histogram(metric, first, values, value, form)
        else:
            before, after = around(values[1:])
            shown = format_value(value if per_unit == 1 else value / per_unit)
            exemplar = _exemplar(exemplars.get(values), per_unit) if exemplars else ""
            lines.append(f"{before}{first}{after}{shown}{exemplar}\n")
        if counts_from is not None:
            before, after = _around(f"{metric.family}_created", metric.labels)(values[1:])
            into.append(f"{before}{first}{after}{floatToGoString(counts_from)}\n")
    return "".join(lines), "".join(created_lines)


def write_family(metric: Metric[Any], blocks: Iterable[tuple[P, str]], form: Format) -> list[P | str]:
    """The whole family: metadata once, then every source's lines; nothing when there are none."""
    blocks = tuple(blocks)
    text: list[P | str] = [samples for samples, _ in blocks if samples]
    if text:
        text.insert(0, write_metadata(metric.family, metric.help, metric.type, form))
    created = [lines for _, lines in blocks if lines]
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
    values = tuple(sample.labels.values())
    before, after = _around(sample.name, tuple(sample.labels))(values[1:])
    return f"{before}{''.join(map(_escape, values[:1]))}{after}".rstrip(" ")


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


def _histogram(
    metric: Metric[Any], first: str, values: tuple[str, ...], value: Histogram, form: Format
) -> list[str]:
    """Its lines; ``first`` is the first of the label values, escaped."""
    name, per_unit, others = metric.name, metric.per_unit, values[1:]
    totals = list(accumulate(value.counts))
    buckets = zip(
        _around_buckets(name, metric.labels, _bounds(value.bounds, per_unit))(others), totals, strict=True
    )
    if form is Format.OPENMETRICS and value.exemplars:
        lines = [
            f"{before}{first}{after}{format_value(total)}{_exemplar(value.exemplars.get(place), per_unit)}\n"
            for place, ((before, after), total) in enumerate(buckets)
        ]
    else:
        lines = [f"{before}{first}{after}{format_value(total)}\n" for (before, after), total in buckets]
    for suffix, number in (("count", totals[-1]), ("sum", value.sum / per_unit)):
        before, after = _around(f"{name}_{suffix}", metric.labels)(others)
        lines.append(f"{before}{first}{after}{format_value(number)}\n")
    return lines


@lru_cache
def bound_label(bound: float) -> str:
    """A bucket's upper bound as the label ``le`` has it."""
    return str(floatToGoString(bound))


@lru_cache
def _bounds(bounds: tuple[float, ...], per_unit: int) -> tuple[str, ...]:
    """Values of ``le``."""
    return (*(floatToGoString(bound / per_unit) for bound in bounds), "+Inf")


def _exemplar(exemplar: Exemplar | None, per_unit: int) -> str:
    """What follows the sample's value; nothing when the id is longer than allowed, or not printable."""
    if exemplar is None:
        return ""
    job_id, value, at = exemplar.job_id, exemplar.value, exemplar.at
    if len(_JOB_ID) + len(job_id) > EXEMPLAR_LIMIT or not job_id.isprintable():
        return ""
    return f' # {{{_JOB_ID}="{_escape(job_id)}"}} {floatToGoString(value / per_unit)} {at / SECOND}'


@cache
def _around(name: str, labels: tuple[str, ...]) -> Callable[[tuple[str, ...]], Around]:
    """Gives the text around the first label's value, from the values of all other labels.

    The first label is the target, so what is remembered serves all targets: their number costs no memory.
    """

    @lru_cache(REMEMBERED)
    def write(others: tuple[str, ...]) -> Around:
        return _write_around(name, labels, zip(labels[1:], others, strict=True))

    return write


@lru_cache
def _around_buckets(
    name: str, labels: tuple[str, ...], bounds: tuple[str, ...]
) -> Callable[[tuple[str, ...]], tuple[Around, ...]]:
    """The same for a histogram's buckets, all at once."""

    @lru_cache(REMEMBERED // 8)
    def write(others: tuple[str, ...]) -> tuple[Around, ...]:
        pairs = tuple(zip(labels[1:], others, strict=True))
        return tuple(_write_around(f"{name}_bucket", labels, (*pairs, ("le", bound))) for bound in bounds)

    return write


def _write_around(name: str, labels: tuple[str, ...], others: Iterable[tuple[str, str]]) -> Around:
    """``name{a="1",target="`` and ``",z="2"} ``: labels are sorted by their names.

    A label without a value is left out: to Prometheus and OpenMetrics that is the same.
    """
    first = labels[0] if labels else ""
    pairs = sorted((label, value) for label, value in others if value)
    before = "".join(f'{label}="{_escape(value)}",' for label, value in pairs if label < first)
    after = "".join(f',{label}="{_escape(value)}"' for label, value in pairs if label > first)
    if labels:
        return f'{name}{{{before}{first}="', f'"{after}}} '
    return (f"{name}{{{after[1:]}}} " if after else f"{name} "), ""


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
