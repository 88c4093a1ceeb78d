"""promtool's test files, with the series of an exporter that is told to show fewer of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from exporter.exposition.catalog import JOB_METRICS
from exporter.ledger import LABEL_SET
from tests.prometheus.native import Series, expanded

_HISTOGRAMS: Final = tuple(metric.name for metric in JOB_METRICS if metric.type == "histogram")
_EXPIRED: Final = "metastudio_tts_jobs_expired_total"
"""Its pair was seen long before, when the job was created."""
_OF_PAIRS: Final = tuple(
    metric.name
    for metric in JOB_METRICS
    if metric.type == "counter" and set(LABEL_SET) <= set(metric.labels) and metric.name != _EXPIRED
)

Values = list[float | None]


def with_fewer_labels(series: Series, kept: Collection[str]) -> Series:
    """Histograms of jobs have only these labels: what the others told apart is added up."""
    made: dict[str, Values] = {}
    for each in series:
        name = each["series"]
        if name.startswith(_HISTOGRAMS):
            for label in (*LABEL_SET,):
                if label not in kept:
                    name = re.sub(rf',? *{label}="[^"]*"', "", name)
        values = expanded(each["values"])
        made[name] = _added(made[name], values) if name in made else values
    return [{"series": name, "values": _written(values)} for name, values in made.items()]


def only_seen(series: Series) -> Series:
    """A pair's counters begin when the first of them is more than 0."""
    begins: dict[tuple[str, ...], int] = {}
    for each in series:
        if each["series"].startswith(_OF_PAIRS):
            above = (step for step, value in enumerate(expanded(each["values"])) if value)
            begins[_pair(each["series"])] = min(next(above, 10**9), begins.get(_pair(each["series"]), 10**9))
    made: Series = []
    for each in series:
        values = expanded(each["values"])
        if each["series"].startswith(_OF_PAIRS):
            begin = begins[_pair(each["series"])]
            values = [None if step < begin else value for step, value in enumerate(values)]
        made.append({**each, "values": _written(values)})
    return made


def _pair(series: str) -> tuple[str, ...]:
    return tuple(re.findall(r'(?:target|instance|job_type|tts_service_enum)="[^"]*"', series))


def _added(some: Values, others: Values) -> Values:
    return [
        None if one is None and other is None else (one or 0) + (other or 0)
        for one, other in zip(some, others, strict=True)
    ]


def _written(values: Sequence[float | None]) -> str:
    return " ".join("_" if value is None else f"{value:.12g}" for value in values)
