"""promtool's test files, with native histograms instead of classic ones.

So Prometheus 3 keeps what it scrapes where its configuration says ``convert_classic_histograms_to_nhcb``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from exporter.exposition.catalog import METRICS

HISTOGRAMS: Final = tuple(metric.name for metric in METRICS if metric.type == "histogram")
_SERIES: Final = re.compile(rf"({'|'.join(HISTOGRAMS)})_(bucket|sum|count){{(.*)}}")
_LE: Final = re.compile(r',? *le="([^"]+)"')
_VALUE: Final = re.compile(r"(_|-?[\d.]+)(?:([+-][\d.]+))?(?:x(\d+))?")

Series = list[dict[str, str]]


def converted(series: Series) -> Series:
    """The same series with each histogram's in one; its sum is 0, which no rule reads."""
    made: Series = []
    buckets: dict[str, dict[float, list[float | None]]] = {}
    for each in series:
        found = _SERIES.fullmatch(each["series"])
        if found is None:
            made.append(each)
        elif found[2] == "bucket":
            bound = float(_LE.search(found[3])[1])  # type: ignore[index]  # or the file is wrong
            buckets.setdefault(f"{found[1]}{{{_LE.sub('', found[3])}}}", {})[bound] = expanded(each["values"])
    for name, of_bound in buckets.items():
        bounds = sorted(of_bound)
        columns = zip(*(of_bound[bound] for bound in bounds), strict=True)
        values = " ".join(_histogram(bounds[:-1], column) for column in columns)
        made.append({"series": name, "values": values})
    return made


def expanded(values: str) -> list[float | None]:
    """Promtool's short forms written out: ``1+2x2`` is 1, 3, 5; None where there is no sample."""
    made: list[float | None] = []
    for item in values.split():
        start, step, times = _VALUE.fullmatch(item).groups()  # type: ignore[union-attr]  # or the file is wrong
        if start == "_":
            made += [None] * int(times or 1)
        else:
            made += [float(start) + float(step or 0) * n for n in range(int(times or 0) + 1)]
    return made


def _histogram(bounds: Iterable[float], cumulative: tuple[float | None, ...]) -> str:
    counts = [count for count in cumulative if count is not None]
    if not counts:
        return "_"
    each = " ".join(f"{after - before:g}" for before, after in pairwise([0.0, *counts]))
    limits = " ".join(f"{bound:g}" for bound in bounds)
    return f"{{{{schema:-53 sum:0 count:{counts[-1]:.0f} custom_values:[{limits}] buckets:[{each}]}}}}"


def has_histograms(test: dict[str, Any]) -> bool:
    return any(_SERIES.fullmatch(each["series"]) for each in test["input_series"])
