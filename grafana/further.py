"""A plain panel for each metric that no other panel asks for, straight from the table of metrics.

So a new metric is found by operators before somebody thinks of a better place for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from exporter.exposition.catalog import Metric
from grafana.panels import Panel, lines, query
from grafana.queries import VARIABLES, quantile, total

NOT_SHOWN: Final = {"metastudio_exporter_config_last_reload_success_timestamp_seconds"}
"""The panel *Configuration* tells whether the last reload succeeded."""


def panels(metrics: Iterable[Metric[Any]], asked: str) -> list[Panel]:
    """Of the metrics that are not in ``asked``, the text of all other panels."""
    return [_panel(metric) for metric in metrics if metric.name not in asked and metric.name not in NOT_SHOWN]


def _panel(metric: Metric[Any]) -> Panel:
    labels = tuple(label for label in metric.labels if label not in VARIABLES)
    match metric.type:
        case "histogram":
            expr = quantile(0.95, metric.name)
        case "counter":
            expr = total(metric.name, labels)
        case "gauge":
            expr = total(metric.name, labels, per="")
    unit = "s" if metric.name.endswith("_seconds") else "short"
    return lines(metric.name, metric.help, [query(expr)], unit=unit, size=(8, 8))
