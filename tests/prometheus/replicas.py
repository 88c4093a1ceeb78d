"""What Prometheus keeps of several replicas: which of them shows the books of which minute, if any."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from exporter.exposition.catalog import METRICS, Metric
from tests.prometheus.native import Series, expanded

LAST_COMMIT: Final = "metastudio_exporter_last_commit_timestamp_seconds"
MINUTES: Final = 60
NOW: Final = 50
"""The minute at which numbers are compared."""
FLAGS: Final = ("metastudio_up", "metastudio_api_credentials_rejected", "metastudio_api_access_denied")
"""Gauges of the replica that polls, which are 0 on the others; the others are not there."""

Shown = Callable[[int], int | None]
"""At a minute: the books of which one a replica shows; None where it does not answer."""


def present(minute: int) -> int | None:
    return minute


def since(start: int) -> Shown:
    return lambda minute: minute if minute >= start else None


def until(end: int) -> Shown:
    return lambda minute: minute if minute < end else None


def not_at(restart: int) -> Shown:
    return lambda minute: None if minute == restart else minute


def standing_still(start: int, end: int = MINUTES + 1) -> Shown:
    """Cut off from the database, it shows the same all the time."""
    return lambda minute: start if start <= minute < end else minute


def stopped(start: int, end: int) -> Shown:
    """It does not answer, and when it goes on, its first answer is from before."""
    return lambda minute: None if start < minute < end else start if minute == end else minute


SCHEDULES: Final[dict[str, tuple[Shown, ...]]] = {
    "three": (present,) * 3,
    "cut_off": (present, present, standing_still(20)),
    "cut_off_and_back": (present, present, standing_still(10, 47)),
    "stopped_and_resumed": (present, present, stopped(10, 47)),
    "started": (present, present, since(47)),
    "gone": (present, until(30)),
    "restarted_one_by_one": (not_at(41), not_at(43), not_at(45)),
    "only_one_has_it": (present,),
}
MOVES: Final = {"three": 45, "restarted_one_by_one": 30}
"""Target -> the minute at which its lease moves from the first replica to the second."""


def kept(behind: int) -> Series:
    """Of every metric with a target: target ``one`` from one replica, and one target for each schedule.

    Counters grow, gauges fall: what is old is smaller of the former and greater of the latter. ``behind``:
    seconds by which all times are in the past.
    """
    return [
        {"series": f'{name}{{target="{target}", instance="{replica}"{labels}}}', "values": values}
        for metric in METRICS
        if "target" in metric.labels
        for name, labels in sample_names(metric)
        for target, schedule in {"one": (present,), **SCHEDULES}.items()
        for replica, shown in enumerate(schedule)
        if (values := written(metric, shown, replica, MOVES.get(target, MINUTES + 1), behind)).strip("_x0 ")
    ]


def written(metric: Metric, shown: Shown, replica: int, moved: int, behind: int) -> str:  # type: ignore[type-arg]
    def value(minute: int) -> float | None:
        of = shown(minute)
        if of is None:
            return None
        if metric.scope == "process":
            holds = replica == (0 if minute < moved else 1)
            if metric.type == "gauge":
                return 1000 - 12 * minute if holds else 0 if metric.name in FLAGS else None
            done = min(minute, moved) if replica == 0 else max(0, minute - moved) if replica == 1 else 0
            return 1200 + 12 * done  # more than 0: increase() is careful about what begins there
        if "timestamp" in metric.name:
            return 60 * of - behind
        return 1000 - 12 * of if metric.type == "gauge" else 12 * of

    return " ".join("_" if (each := value(minute)) is None else f"{each:g}" for minute in range(MINUTES + 1))


def sample_names(metric: Metric) -> Iterator[tuple[str, str]]:  # type: ignore[type-arg]
    """Names of its series, with two values for each label but the target."""
    for suffix in ("_bucket", "_count", "_sum") if metric.type == "histogram" else ("",):
        for value in ("FAILED", "SUCCEED") if "job_state" in metric.labels else ("a", "b"):
            text = "".join(f', {label}="{value}"' for label in metric.labels if label != "target")
            for le in ("60", "+Inf") if suffix == "_bucket" else ("",):
                yield f"{metric.name}{suffix}", text + (f', le="{le}"' if le else "")


# --- promtool's test files, with more replicas than they have -----------------------------------------------

_OF_BOOKS: Final = {metric.name for metric in METRICS if metric.scope == "books"}
_OF_TARGET: Final = {metric.name for metric in METRICS if "target" in metric.labels}


def with_replicas(series: Series, interval: int) -> Series:
    """Each target from three replicas. The second joins in the middle; the third stands still for the middle
    third of the time. ``interval``: seconds between two samples.
    """
    made: Series = []
    targets: dict[str, int] = {}
    for each in series:
        name = re.sub(r"_(bucket|sum|count)$", "", each["series"].partition("{")[0])
        found = re.search(r'\btarget="([^"]*)"', each["series"])
        if name not in _OF_TARGET or found is None or 'instance="' in each["series"]:
            made.append(each)
            continue
        values = expanded(each["values"])
        targets[found[1]] = max(targets.get(found[1], 0), len(values))
        made.append(_of(each["series"], 0, values))
        if name in _OF_BOOKS:
            made += [_of(each["series"], replica, _seen(values, replica)) for replica in (1, 2)]
    for target, steps in targets.items():
        times = [1_000.0 + interval * step for step in range(steps)]
        made += [
            _of(f'{LAST_COMMIT}{{target="{target}"}}', replica, _seen(times, replica)) for replica in range(3)
        ]
    return made


def _seen(values: Sequence[float | None], replica: int) -> list[float | None]:
    third = len(values) // 3
    if replica == 1:
        return [None if step < len(values) // 2 else value for step, value in enumerate(values)]
    if replica == 2:
        return [
            values[third] if third <= step < 2 * third and value is not None else value
            for step, value in enumerate(values)
        ]
    return [*values]


def _of(series: str, replica: int, values: list[float | None]) -> dict[str, str]:
    text = " ".join("_" if value is None else f"{value:.12g}" for value in values)
    return {"series": series.replace("}", f', instance="{replica}"}}'), "values": text}
