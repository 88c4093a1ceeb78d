"""PromQL that follows the table of metrics: selectors by the dashboards' variables, sums by metrics' scopes.

Every replica publishes the same books, so of these the greatest value of each label set is taken before
anything is summed; what a process counts for itself is summed right away. Knows nothing of panels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporter.metrics import METRICS

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
VARIABLES: Final = ("target", "job_type", "tts_service_enum")
"""Labels that every dashboard filters by, where a metric has them."""

_METRICS: Final = {metric.name: metric for metric in METRICS}


def selector(name: str, match: Mapping[str, str] | None = None, suffix: str = "") -> str:
    """The series of this metric that the variables ask for; ``match`` adds matchers, each a regex."""
    metric = _METRICS[name]
    matchers = [f'{label}=~"${label}"' for label in VARIABLES if label in metric.labels]
    matchers += [f'{label}=~"{value}"' for label, value in (match or {}).items()]
    return f"{name}{suffix}{{{','.join(matchers)}}}"


def total(
    name: str,
    by: tuple[str, ...] = (),
    *,
    per: str = "rate",
    window: str = RATE,
    match: Mapping[str, str] | None = None,
    suffix: str = "",
    offset: str = "",
) -> str:
    """The sum by these labels of ``per``: ``rate``, ``increase``, or ``""`` for a gauge's value itself."""
    metric = _METRICS[name]
    series = selector(name, match, suffix)
    past = f" offset {offset}" if offset else ""
    each = f"{per}({series}[{window}]{past})" if per else f"{series}{past}"
    if metric.scope == "books":
        each = once(name, each, (*metric.labels, "le") if suffix == "_bucket" else metric.labels)
    return f"sum by ({', '.join(by)}) ({each})" if by else f"sum({each})"


def once(name: str, each: str, labels: tuple[str, ...] | None = None) -> str:
    """``each`` without the copies that further replicas publish."""
    return f"max by ({', '.join(_METRICS[name].labels if labels is None else labels)}) ({each})"


def value(name: str, match: Mapping[str, str] | None = None) -> str:
    """A gauge of the books, once."""
    return once(name, selector(name, match))


def quantile(q: float, name: str, by: tuple[str, ...] = (), window: str = RATE) -> str:
    return f"histogram_quantile({q}, {total(name, ('le', *by), suffix='_bucket', window=window)})"


def share(part: str, whole: str) -> str:
    """``part`` of ``whole``; nothing where there is no whole, and so no NaN."""
    return f"{part} / ({whole} > 0)"
