"""PromQL that follows the table of metrics: selectors by the dashboards' variables, sums by metrics' scopes.

Every replica publishes the same books, so of these the greatest value of each label set is taken before
anything is summed; what a process counts for itself is summed right away. A replica whose books stand still,
or stood still when a range began, is left out: ``behind``, ``unsteady``. Knows nothing of panels.

Prometheus keeps a histogram as series with the suffixes ``_bucket``, ``_sum`` and ``_count``, or, where its
scrape configuration says ``convert_classic_histograms_to_nhcb``, as one series of native histograms without a
suffix. Queries ask for both and take the first that is there, so dashboards show the same either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporter.exposition.catalog import METRICS

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
LAST_COMMIT: Final = "metastudio_exporter_last_commit_timestamp_seconds"
VARIABLES: Final = ("target", "job_type", "tts_service_enum")
"""Labels that every dashboard filters by, where a metric has them."""

_METRICS: Final = {metric.name: metric for metric in METRICS}
_OF_NATIVE: Final = {"_sum": "histogram_sum", "_count": "histogram_count"}
"""Suffix of a classic series -> the function that reads the same number from a native histogram."""


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
    """The sum by these labels of ``per``: ``rate``, ``increase``, or ``""`` for a gauge's value itself.

    Of a histogram: of its ``_sum`` or ``_count``, or of its classic series ``_bucket``; see ``distribution``.
    """
    metric = _METRICS[name]
    past = f" offset {offset}" if offset else ""

    def each(suffix: str) -> str:
        series = selector(name, match, suffix)
        return f"{per}({series}[{window}]{past})" if per else f"{series}{past}"

    found = each(suffix)
    if suffix in _OF_NATIVE:
        found = f"({found} or {_OF_NATIVE[suffix]}({each('')}))"
    if metric.scope == "books":
        found = f"{found} {unsteady(window, past) if per else behind()}"
        found = once(name, found, (*metric.labels, "le") if suffix == "_bucket" else metric.labels)
    return f"sum by ({', '.join(by)}) ({found})" if by else f"sum({found})"


def behind() -> str:
    """Without the replicas that do not show what was committed last."""
    last = selector(LAST_COMMIT)
    return _without(f"{last} < on (target) group_left () max by (target) ({last})")


def unsteady(window: str, past: str = "") -> str:
    """Without the replicas but the one whose books moved by most nearly as long as the window lasts.

    The others stood still, or did when it began, so that it has what came before as well; or began later.
    """
    off = f"abs(rate({selector(LAST_COMMIT)}[{window}]{past}) - 1)"
    return _without(f"{off} > on (target) group_left () min by (target) ({off})")


def _without(replicas: str) -> str:
    """Prometheus that was there before ``LAST_COMMIT`` was has none of these."""
    return f"unless on (job, instance, target) ({replicas})"


def once(name: str, each: str, labels: tuple[str, ...] | None = None) -> str:
    """``each`` without the copies that further replicas publish."""
    return f"max by ({', '.join(_METRICS[name].labels if labels is None else labels)}) ({each})"


def value(name: str, match: Mapping[str, str] | None = None) -> str:
    """A gauge, once: of the books as they are now, or of the process that polls."""
    found = selector(name, match)
    return once(name, f"{found} {behind()}" if _METRICS[name].scope == "books" else found)


def distribution(name: str, per: str) -> tuple[str, str]:
    """All of a histogram in one: as classic buckets (with ``le``), and as a native histogram.

    There is no greatest of native histograms: of the equal ones that replicas publish, the mean is taken.
    """
    metric = _METRICS[name]
    native = f"{per}({selector(name)}[{RATE}])"
    if metric.scope == "books":
        native = f"avg by ({', '.join(metric.labels)}) ({native} {unsteady(RATE)})"
    return total(name, ("le",), per=per, suffix="_bucket"), f"sum({native})"


def quantile(q: float, name: str) -> str:
    """Each kind by itself: asked for at once, two kinds with the same labels are refused."""
    return " or ".join(f"histogram_quantile({q}, {each})" for each in distribution(name, "rate"))


def buckets_of(name: str) -> str:
    """For a heatmap: the buckets, or where there are none, native histograms, which Grafana draws as well."""
    return " or on () ".join(distribution(name, "increase"))


def share(part: str, whole: str) -> str:
    """``part`` of ``whole``; nothing where there is no whole, and so no NaN."""
    return f"{part} / ({whole} > 0)"


def named(expr: str, label: str) -> str:
    """The series without this label, where ``metrics.histogram_labels`` leaves it out, is called all."""
    return f'label_replace({expr}, "{label}", "all", "{label}", "")'
