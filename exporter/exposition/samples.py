"""Published values -> samples: the pure functions behind the table in ``metrics.py``.

Knows the published values and the closed sets of their labels; knows no metric's name, no text format, no
clock. Label values come in the order in which the metric declares its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import ClassVar, Final, NamedTuple, TypeVar

import msgspec

from exporter.cloud import OPERATIONS
from exporter.errors import ErrorKind
from exporter.exposition.api_stats import REQUEST_SECONDS, ApiView
from exporter.ledger import snapshot as published
from exporter.ledger.record import FINAL_STATES, OPEN_STATES, PROCESSING, UNKNOWN, WAITING
from exporter.ledger.snapshot import Histogram, LabelSet, TargetView

JOB_STATES: Final = (WAITING, PROCESSING, *FINAL_STATES, UNKNOWN)


class Exemplar(NamedTuple):
    """One event behind a sample."""

    labels: tuple[tuple[str, str], ...]
    """Name and value. The values are untrusted text."""
    value: float
    """In the metric's own unit."""
    timestamp: float
    """Unix seconds."""


class Distribution(NamedTuple):
    """A histogram's value in the metric's own unit."""

    bounds: tuple[float, ...]
    """Upper bounds, ascending, without +Inf."""
    counts: tuple[int, ...]
    """Per bucket, not cumulated, the last one +Inf."""
    sum: float
    exemplars: Mapping[int, Exemplar] = {}
    """By place of the bucket in ``counts``."""


Samples = Iterable[tuple[tuple[str, ...], float | Distribution]]
"""Label values, in the order of the metric's labels, and the value."""

Exemplars = Mapping[tuple[str, ...], Exemplar]
"""Label values, as in samples, and the exemplar."""


class Books(NamedTuple):
    """What one target's samples are made of."""

    view: TargetView
    classes: tuple[str, ...]

    @property
    def created(self) -> float | None:
        """When counting began, Unix seconds."""
        since = self.view.counting_since
        return None if since is None else since / 1000


class ProcessView(msgspec.Struct, frozen=True, kw_only=True):
    """What this process knows of itself. Times are Unix seconds."""

    version: str
    revision: str
    pythonversion: str
    reload_successful: bool = True
    reload_success_timestamp: float
    log_lines_dropped: int = 0
    created: ClassVar[None] = None
    """The one counter begins with the process, whose start is a metric of its own."""


K = TypeVar("K", bound=tuple[str, ...])


def _each(view: TargetView, known: Iterable[K], counts: Mapping[K, float]) -> Samples:
    """Every known label set, at 0 where nothing was counted, then the others that were counted.

    Others: a failure class that is no longer configured keeps its count.
    """
    closed = dict.fromkeys(known)
    for labels in (*closed, *sorted(counts.keys() - closed.keys())):
        yield (view.target, *labels), counts.get(labels, 0)


def each_label_set(view: TargetView, counts: Mapping[LabelSet, int]) -> Samples:
    return _each(view, view.label_sets, counts)


def each_value(
    view: TargetView, counts: Mapping[tuple[str, str, str], int], values: Iterable[str]
) -> Samples:
    """``values`` is the closed set of the label that follows the label set."""
    known = product(view.label_sets, tuple(values))
    return _each(view, ((*label_set, value) for label_set, value in known), counts)


def each_name(view: TargetView, counts: Mapping[str, int], names: Iterable[str]) -> Samples:
    return _each(view, ((name,) for name in names), {(name,): count for name, count in counts.items()})


def distributions(view: TargetView, histograms: Mapping[LabelSet, Histogram], per_unit: int) -> Samples:
    """Only the label sets that were seen: zero histograms of all documented ones would be 1,000 series."""
    for label_set, histogram in sorted(histograms.items()):
        yield (view.target, *label_set), _distribution(histogram, per_unit)


def _distribution(histogram: Histogram, per_unit: int) -> Distribution:
    bounds = tuple(bound / per_unit for bound in histogram.bounds)
    exemplars = {place: _exemplar(found, per_unit) for place, found in histogram.exemplars.items()}
    return Distribution(bounds, histogram.counts, histogram.sum / per_unit, exemplars)


def _exemplar(found: published.Exemplar, per_unit: int) -> Exemplar:
    return Exemplar((("job_id", found.job_id),), found.value / per_unit, found.at / 1000)


def failure_exemplars(books: Books) -> Exemplars:
    view = books.view
    return {(view.target, *labels): _exemplar(found, 1) for labels, found in view.failure_exemplars.items()}


def no_exemplars(source: object) -> Exemplars:
    return {}


def one(target: str, value: float | None, per_unit: int = 1) -> Samples:
    """The target's only sample; none while the value is not known."""
    return () if value is None else (((target,), value / per_unit),)


def jobs(books: Books) -> Samples:
    counts = books.view.gauges.jobs if books.view.gauges else None
    return () if counts is None else each_value(books.view, counts, JOB_STATES)


def open_jobs(books: Books) -> Samples:
    gauges = books.view.gauges
    return each_value(books.view, gauges.open_jobs, OPEN_STATES) if gauges else ()


def oldest_open(books: Books) -> Samples:
    gauges = books.view.gauges
    oldest = sorted(gauges.oldest_open.items()) if gauges else ()
    return (((books.view.target, *labels), created / 1000) for labels, created in oldest)


def counted_until(books: Books) -> Samples:
    gauges = books.view.gauges
    return one(books.view.target, gauges.counted_until if gauges else None, 1000)


def clocks_disagree(books: Books) -> Samples:
    view = books.view
    return one(view.target, None if view.clock_skew_ms is None else float(view.clocks_disagree))


def poll_duration(books: Books) -> Samples:
    histogram = books.view.poll_duration
    return () if histogram is None else (((books.view.target,), _distribution(histogram, 1000)),)


def target_info(books: Books) -> Samples:
    view = books.view
    yield (view.target, view.region, view.project_id, view.api_endpoint), 1


def errors(api: ApiView) -> Samples:
    for operation, kind in product(OPERATIONS, ErrorKind):
        yield (api.target, operation, kind), api.errors.get((operation, kind), 0)


def request_duration(api: ApiView) -> Samples:
    for name in OPERATIONS:
        value = Distribution(REQUEST_SECONDS, api.duration_counts[name], api.duration_sums[name])
        yield (api.target, name), value
