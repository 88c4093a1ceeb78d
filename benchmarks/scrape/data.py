"""The same series for every server: published views for ours, plain families for the others.

Numbers are small, because the others can only be made to show a histogram by observing each of its events.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final

import msgspec

from exporter.cloud.events import OPERATIONS
from exporter.errors import ApiError, ErrorKind
from exporter.exposition import catalog
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.samples import ProcessView
from exporter.failures import BUILTIN_RULES, Classifier
from exporter.ledger import totals
from exporter.ledger.gauges import JobGauges
from exporter.ledger.record import LabelSet, SeriesLabels
from exporter.ledger.snapshot import LastPoll, TargetView
from exporter.ledger.totals import Histogram, documented_label_sets

CLASSES: Final = Classifier(BUILTIN_RULES).classes
TEXT_BUCKETS: Final = (50, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 10_000)
DURATION_BUCKETS: Final = tuple(
    1000 * seconds for seconds in (5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 10800, 43200, 86400)
)
STARTED: Final = 1_700_000_000.5
PROCESS: Final = ProcessView(
    version="1.0.0", revision="unknown", pythonversion="3.11", reload_success_timestamp=STARTED
)


class Size(msgspec.Struct, frozen=True):
    """So many series: targets, documented label sets of each, and how many of those were seen."""

    series: int
    targets: int
    label_sets: int
    seen: int


SIZES: Final = (Size(300, 1, 4, 1), Size(3_000, 3, 24, 4), Size(30_000, 30, 24, 4))


class Series(msgspec.Struct):
    """One label set of a family."""

    labels: tuple[str, ...]
    value: float = 0.0
    counts: tuple[int, ...] = ()


class Family(msgspec.Struct):
    """One metric of the others."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    series: list[Series]


def view(target: str, size: Size) -> TargetView:
    """A target in the middle of its life."""
    label_sets = documented_label_sets(None, None)[: size.label_sets]
    seen = label_sets[: size.seen]

    def histograms(bounds: tuple[int, ...]) -> dict[LabelSet, Histogram]:
        counts = tuple(1 + place % 3 for place in range(len(bounds) + 1))
        return {label_set: Histogram(bounds, counts, 5 * bounds[-1]) for label_set in seen}

    def each(*values: str) -> list[SeriesLabels]:
        return [(*label_set, value) for label_set, value in product(seen, values)]

    waiting = {(*label_set, "WAITING"): 1_234 for label_set in seen}
    return TargetView(
        target=target,
        region="cn-north-4",
        project_id="0f" * 16,
        api_endpoint="https://metastudio.cn-north-4.myhuaweicloud.com",
        label_sets=label_sets,
        classes=CLASSES,
        counting_since=1_699_999_000_250,
        totals={
            totals.CREATED: {(*label_set, ""): 123_456 for label_set in seen},
            totals.FINISHED: dict.fromkeys(each("SUCCEED", "FAILED"), 61_234),
            totals.FAILURES: dict.fromkeys(each(*CLASSES), 1_021),
            totals.SYNTHESIZED: {(*label_set, ""): 12_345_678 for label_set in seen},
            totals.POLLS: {("", "", "complete"): 5_000, ("", "", "partial"): 3},
        },
        text_length=histograms(TEXT_BUCKETS),
        duration_upper_bound=histograms(DURATION_BUCKETS),
        duration_lower_bound=histograms(DURATION_BUCKETS),
        gauges=JobGauges(waiting, waiting, dict.fromkeys(waiting, 1700000000125), 1_700_000_000_125),
        poll_duration=Histogram((100, 1_000), (3, 2, 1), 5_000),
        last_complete_poll=1_700_000_000_875,
        last_poll=LastPoll(up=True, clock_skew_ms=-1_500),
    )


def published(size: Size) -> tuple[TargetView, ...]:
    """One publication of that size."""
    return tuple(view(f"target-{number}", size) for number in range(size.targets))


def api(size: Size) -> ApiMetrics:
    """API facts of its targets."""
    made = ApiMetrics(STARTED)
    for number in range(size.targets):
        events = made.target(f"target-{number}")
        for _ in range(20):
            events.request(OPERATIONS[0], "200", 0.3)
        events.error(ApiError(ErrorKind.THROTTLED, "", operation=OPERATIONS[0], code="APIG.0308"))
        events.rate_limit(5.0)
    return made


def families(size: Size) -> list[Family]:
    """The same numbers for a client library of Prometheus."""
    views = published(size)
    tables: list[tuple[Any, Any]] = [
        *((metric, views) for metric in (*catalog.JOB_METRICS, *catalog.POLL_METRICS)),
        *((metric, api(size).views()) for metric in catalog.API_METRICS),
        *((metric, [PROCESS]) for metric in catalog.PROCESS_METRICS),
    ]
    return [_family(metric, sources) for metric, sources in tables]


def _family(metric: catalog.Metric[Any], sources: list[Any]) -> Family:
    family = Family(metric.name, metric.type, metric.help, metric.labels, (), [])
    for source in sources:
        for labels, value in metric.samples(source):
            if isinstance(value, Histogram):
                family.bounds = tuple(bound / metric.per_unit for bound in value.bounds)
                family.series.append(Series(labels, counts=value.counts))
            else:
                family.series.append(Series(labels, value=value / metric.per_unit))
    return family
