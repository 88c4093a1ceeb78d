"""Published values for tests: a small one whose text can be read, and a full one with nothing at zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, cast

from msgspec.structs import replace

from exporter.cloud.events import OPERATIONS
from exporter.config import Config, StorageConfig, show_config
from exporter.errors import ApiError, ErrorKind
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.catalog import POLL_OUTCOMES
from exporter.exposition.samples import JOB_STATES, ProcessView
from exporter.ledger import totals
from exporter.ledger.gauges import JobGauges
from exporter.ledger.record import (
    EXPIRED_REASONS,
    FINAL_STATES,
    JOB_TYPES,
    OPEN_STATES,
    TTS_SERVICES,
    Anomaly,
    LabelSet,
    SeriesLabels,
)
from exporter.ledger.snapshot import LastPoll, TargetView
from exporter.ledger.totals import Exemplar, Histogram
from exporter.status.model import Reload, Status, build_status

CLASSES = ("sensitive_text", "unclassified", "no_message")
LABEL_SETS: tuple[LabelSet, ...] = tuple(product(JOB_TYPES, TTS_SERVICES))
LLM: LabelSet = ("ASYNC_JOB", "TTS_LLM")

STARTED = 1_700_000_000.5
PROCESS = ProcessView(
    version="1.2.3", revision="abcdef", pythonversion="3.11.7", reload_success_timestamp=STARTED
)


def bare_view(target: str = "production", label_sets: tuple[LabelSet, ...] = (LLM,)) -> TargetView:
    """Loaded, and nothing counted yet; no baseline, so no gauges."""
    return TargetView(
        target=target,
        region="cn-north-4",
        project_id="0f" * 16,
        api_endpoint="https://metastudio.cn-north-4.myhuaweicloud.com",
        label_sets=label_sets,
        classes=CLASSES,
    )


def full_view(target: str = "production", label_sets: tuple[LabelSet, ...] = LABEL_SETS) -> TargetView:
    """Every series there can be, each with a number of its own."""
    numbers = iter(range(1, 100_000))

    def count(values: Sequence[str]) -> dict[SeriesLabels, int]:
        return {(*label_set, value): next(numbers) for label_set in label_sets for value in values}

    def plain(values: Iterable[str]) -> dict[SeriesLabels, int]:
        return {("", "", value): next(numbers) for value in values}

    def histograms(bounds: tuple[int, ...]) -> dict[LabelSet, Histogram]:
        return {label_set: histogram(bounds) for label_set in label_sets}

    def histogram(bounds: tuple[int, ...]) -> Histogram:
        return Histogram(bounds, tuple(next(numbers) for _ in range(len(bounds) + 1)), next(numbers))

    def durations() -> dict[LabelSet, Histogram]:
        slow = {1: Exemplar("slow-job", 61_500, 1_700_000_000_250)}
        return {
            label_set: replace(found, exemplars=slow)
            for label_set, found in histograms((5_000, 86_400_000)).items()
        }

    return TargetView(
        target=target,
        region="cn-north-4",
        project_id="0f" * 16,
        api_endpoint="https://metastudio.cn-north-4.myhuaweicloud.com",
        label_sets=label_sets,
        classes=CLASSES,
        counting_since=1_699_999_000_250,
        totals={
            totals.CREATED: count([""]),
            totals.FINISHED: count(FINAL_STATES),
            totals.FAILURES: count(CLASSES),
            totals.EXPIRATIONS: count(EXPIRED_REASONS),
            totals.SYNTHESIZED: {labels: 1_000_000 + number for labels, number in count([""]).items()},
            totals.ANOMALIES: plain(Anomaly),
            totals.SKIPPED_MS: {("", "", ""): 61_500},
            totals.FOLDED: plain([""]),
            totals.POLLS: plain(POLL_OUTCOMES),
            totals.AS_OF_MS: {("", "", ""): 1_700_000_000_625},
        },
        failure_exemplars={(*LLM, CLASSES[0]): Exemplar("failed-job", 1, 1_700_000_000_125)},
        text_length=histograms((50, 100, 10_000)),
        duration_upper_bound=durations(),
        duration_lower_bound=durations(),
        gauges=JobGauges(
            jobs=count(JOB_STATES),
            open_jobs=count(OPEN_STATES),
            oldest_open={labels: 1_700_000_000_000 + number for labels, number in count(OPEN_STATES).items()},
            counted_until=1_700_000_000_125,
        ),
        poll_duration=histogram((100, 1_000)),
        last_complete_poll=1_700_000_000_875,
        last_poll=LastPoll(up=True, clock_skew_ms=-1_500),
    )


def api_error(operation: str, kind: str, code: str | None = None, **details: Any) -> ApiError:
    """What the client reports of one failed attempt; ``kind`` may be one that no client knows."""
    message = details.pop("message", "")
    return ApiError(cast("ErrorKind", kind), message, operation=operation, code=code, **details)


def full_api(*targets: str) -> ApiMetrics:
    """Every API series at least once."""
    api = ApiMetrics(STARTED)
    for target in targets:
        events = api.target(target)
        for operation in OPERATIONS:
            events.request(operation, "200", 0.3)
            events.retry(operation)
            for kind in ErrorKind:
                events.error(api_error(operation, kind, "APIG.0308"))
        events.throttle_wait(2.5)
        events.rate_limit(5.0)
        events.credentials_rejected(True)
        events.access_denied(True)
        events.credentials_expiry(STARTED + 3600)
    return api


def full_status(*views: TargetView, config: Config | None = None, api: ApiMetrics | None = None) -> Status:
    """A second after the start."""
    config = config or Config(storage=StorageConfig(url="sqlite:////books.db"))
    return build_status(
        now=STARTED + 1,
        started=STARTED,
        ready=True,
        process=PROCESS,
        reload=Reload(loaded=STARTED, last_attempt=STARTED, problems=()),
        published=views or (full_view(),),
        api=(api or full_api("production")).views(),
        config=config,
        configuration=show_config(config),
    )
