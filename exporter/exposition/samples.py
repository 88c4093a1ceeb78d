"""Published values -> samples: the pure functions behind the tables of ``catalog.py``.

Knows the published values and the closed sets of their labels; knows no metric's name, no text format, no
clock. Label values come in the order in which the metric declares its labels; values in the unit in which
they are kept: ``Metric.per_unit`` says what they are divided by where they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from operator import add
from typing import Final, TypeVar

import msgspec

from exporter.cloud import OPERATIONS
from exporter.errors import ErrorKind
from exporter.exposition.api_stats import ApiView
from exporter.ledger import (
    FINAL_STATES,
    LABEL_SET,
    OPEN_STATES,
    PROCESSING,
    UNKNOWN,
    WAITING,
    Exemplar,
    Histogram,
    LabelSet,
    SeriesLabels,
    TargetView,
)

JOB_STATES: Final = (WAITING, PROCESSING, *FINAL_STATES, UNKNOWN)


Samples = Iterable[tuple[tuple[str, ...], float | Histogram]]
"""Label values, in the order of the metric's labels, and the value."""

SampleExemplars = Mapping[tuple[str, ...], Exemplar]
"""Label values, as in samples, and the exemplar."""


class ProcessView(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows of itself. Times are Unix seconds."""

    version: str
    revision: str
    pythonversion: str
    reload_successful: bool = True
    reload_success_timestamp: float
    log_lines_dropped: int = 0


K = TypeVar("K", bound=tuple[str, ...])


def _each(view: TargetView, known: Iterable[K], counts: Mapping[K, float]) -> Samples:
    """Every known label set, at 0 where nothing was counted, then the others that were counted.

    Others: a failure class that is no longer configured keeps its count.
    """
    closed = dict.fromkeys(known)
    for labels in (*closed, *sorted(counts.keys() - closed.keys())):
        yield (view.target, *labels), counts.get(labels, 0)


def each_label_set(view: TargetView, counts: Mapping[LabelSet, int]) -> Samples:
    return _each(view, view.zero_label_sets, counts)


def each_value(view: TargetView, counts: Mapping[SeriesLabels, int], values: Iterable[str]) -> Samples:
    """``values`` is the closed set of the label that follows the label set."""
    known = product(view.zero_label_sets, tuple(values))
    return _each(view, ((*label_set, value) for label_set, value in known), counts)


def each_name(view: TargetView, counts: Mapping[str, int], names: Iterable[str]) -> Samples:
    return _each(view, ((name,) for name in names), {(name,): count for name, count in counts.items()})


def histogram_samples(view: TargetView, found: Mapping[LabelSet, Histogram]) -> Samples:
    """Only the label sets that were seen: zero histograms of all documented ones would be 1,000 series.

    A label that is left out (``metrics.histogram_labels``) has no value: what it told apart is added up.
    """
    if view.histogram_labels != LABEL_SET:
        found = _added_up(found, [label in view.histogram_labels for label in LABEL_SET])
    return (((view.target, *label_set), histogram) for label_set, histogram in sorted(found.items()))


def _added_up(found: Mapping[LabelSet, Histogram], kept: Sequence[bool]) -> Mapping[LabelSet, Histogram]:
    """``kept``: for each label of a label set, whether its values stay apart."""
    sums: dict[LabelSet, Histogram] = {}
    for (job_type, service), histogram in found.items():
        label_set = (job_type if kept[0] else "", service if kept[1] else "")
        before = sums.get(label_set)
        sums[label_set] = histogram if before is None else _sum(before, histogram)
    return sums


def _sum(one: Histogram, other: Histogram) -> Histogram:
    """Of each bucket the latest exemplar."""
    exemplars = dict(one.exemplars)
    for place, found in other.exemplars.items():
        if place not in exemplars or exemplars[place].at < found.at:
            exemplars[place] = found
    return Histogram(one.bounds, tuple(map(add, one.counts, other.counts)), one.sum + other.sum, exemplars)


def failure_exemplars(view: TargetView) -> SampleExemplars:
    return {(view.target, *labels): found for labels, found in view.failure_exemplars.items()}


def no_exemplars(source: object) -> SampleExemplars:
    return {}


def one(target: str, value: float | None) -> Samples:
    """The target's only sample; none while the value is not known."""
    return () if value is None else (((target,), value),)


def jobs(view: TargetView) -> Samples:
    counts = view.gauges.jobs if view.gauges else None
    return () if counts is None else each_value(view, counts, JOB_STATES)


def open_jobs(view: TargetView) -> Samples:
    return each_value(view, view.gauges.open_jobs, OPEN_STATES) if view.gauges else ()


def oldest_open(view: TargetView) -> Samples:
    oldest = sorted(view.gauges.oldest_open.items()) if view.gauges else ()
    return (((view.target, *labels), created) for labels, created in oldest)


def counted_until(view: TargetView) -> Samples:
    return one(view.target, view.gauges.counted_until if view.gauges else None)


def clocks_disagree(view: TargetView) -> Samples:
    poll = view.last_poll
    return one(view.target, None if poll.clock_skew_ms is None else float(poll.clocks_disagree))


def poll_duration(view: TargetView) -> Samples:
    return () if view.poll_duration is None else (((view.target,), view.poll_duration),)


def target_info(view: TargetView) -> Samples:
    yield (view.target, view.region, view.project_id, view.api_endpoint), 1


def errors(api: ApiView) -> Samples:
    for operation, kind in product(OPERATIONS, ErrorKind):
        yield (api.target, operation, kind), api.errors.get((operation, kind), 0)


def request_duration(api: ApiView) -> Samples:
    return (((api.target, name), histogram) for name, histogram in api.durations.items())
