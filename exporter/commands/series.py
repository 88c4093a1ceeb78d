"""How many series a configuration makes: counted in the text that a scrape would get.

Imagines a target as it is after its first poll, and one that has had jobs of every documented kind; must
not know how text is written. Not imagined: more than one kind of answer from the API (each status, error
code or operation adds a few series), open jobs (a series for each state of a pair that has one), pairs that
are not documented, and the series that Prometheus adds to each scrape.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec.structs import replace

from exporter.config import Config, TargetConfig
from exporter.exposition import ApiMetrics, Exposition, Format, process_view
from exporter.ledger import (
    LastPoll,
    StoredLedger,
    TargetView,
    Watermarks,
    configured_buckets,
    documented_label_sets,
    open_ledger,
    take_snapshot,
    totals,
)
from exporter.runtime import classifier, ledger_settings, target_view

SCRAPE_SECONDS: Final = 15
"""As in the sample of Prometheus' configuration, prometheus/prometheus.yml."""
SCRAPES_A_DAY: Final = 86_400 // SCRAPE_SECONDS


class SeriesEstimate(NamedTuple):
    """Series of one target."""

    target: str
    first: int
    """After its first poll, when no job was seen."""
    full: int
    """With jobs seen of every documented pair of job_type and tts_service_enum that its filters allow."""


def estimate_series(config: Config) -> tuple[int, tuple[SeriesEstimate, ...]]:
    """Those of the process itself, and those of each target."""
    process = _count(config, ())
    return process, tuple(
        SeriesEstimate(
            target.name,
            *(_count(config, (_imagined(config, target, seen=seen),)) - process for seen in (False, True)),
        )
        for target in config.targets
    )


def _imagined(config: Config, target: TargetConfig, *, seen: bool) -> TargetView:
    classes = classifier(config)
    settings = ledger_settings(config, target, classes)
    documented = documented_label_sets(target.filters.job_type, target.filters.tts_service_enum)
    stored = StoredLedger(watermarks=Watermarks.start(0))
    ledger = open_ledger(stored, settings, documented)
    ledger.totals.count_poll("complete", 0)
    ledger.totals.reach(totals.AS_OF_MS, 1)
    if seen:
        for label_set in map(ledger.label_sets.fit, documented):
            for name, bounds in configured_buckets(settings).items():
                ledger.totals.observe(name, label_set, bounds, 0)
    view = replace(target_view(config, target, classes), last_poll=LastPoll(up=True, clock_skew_ms=0))
    now = settings.window + settings.max_catch_up
    return take_snapshot(view, ledger, now, project_id=view.project_id, last_complete_poll=now)


def _count(config: Config, views: Iterable[TargetView]) -> int:
    api = ApiMetrics(0.0)
    for view in views:
        events = api.target(view.target)
        events.request("list_jobs", "200", 0.0)
        events.rate_limit(1.0)
    created = config.metrics.created_timestamps
    exposition = Exposition(api, process_view({}, loaded_at=0.0), created_timestamps=created)
    exposition.publish(views)
    lines = exposition.render(Format.PROMETHEUS).splitlines()
    return sum(not line.startswith(b"#") for line in lines)
