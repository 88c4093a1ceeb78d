"""Writes the spooled increments as samples, series by series, each in order of time.

``openmetrics`` for ``promtool tsdb create-blocks-from openmetrics``, ``victoriametrics`` for
``/api/v1/import/prometheus``. Must not know where increments come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from exporter.commands.backfill.increments import FAMILIES, SeriesKey
from exporter.commands.backfill.spool import Spool
from exporter.units import MINUTE, SECOND

OutputFormat = Literal["openmetrics", "victoriametrics"]
_LINES: Final = 5_000
"""Of one write."""


def sample_times(since: int, until: int) -> Iterator[int]:
    """Milliseconds: each whole minute, and the end."""
    yield from range(since, until, MINUTE)
    yield until


def step_of(created: int, since: int) -> int:
    """The number of the first of ``sample_times`` that is after a job's creation."""
    return (created - since) // MINUTE + 1


def write_samples(
    spool: Spool,
    since: int,
    until: int,
    labels: Mapping[str, str],
    form: OutputFormat,
    write: Callable[[bytes], object],
    advance: Callable[[float], None],
) -> None:
    """All series: 0 at the beginning, one sample a minute, and 0 just behind the end, where live counting
    goes on from 0.
    """
    for family, kind in FAMILIES.items():
        series = [key for key in spool.series() if key.family == family]
        if series and form == "openmetrics":
            write(f"# TYPE {family} {kind}\n".encode())
        for key in sorted(series, key=_order):
            _write_series(_name(key, labels), spool.steps(key), since, until, form, write)
            advance(1)
    if form == "openmetrics":
        write(b"# EOF\n")


def _order(key: SeriesKey) -> tuple[str, str, str, float, str]:
    """A histogram's series by label set, its buckets ascending, then sum and count."""
    bound = float(key.value) if key.label == "le" else 0.0
    return key.job_type, key.tts_service_enum, key.suffix, bound, key.value


def _write_series(
    name: str,
    steps: Iterator[tuple[int, int]],
    since: int,
    until: int,
    form: OutputFormat,
    write: Callable[[bytes], object],
) -> None:
    spell = _seconds if form == "openmetrics" else str
    total, (at, amount) = 0, next(steps, (-1, 0))
    lines = []
    for step, time in enumerate(sample_times(since, until)):
        while at == step:
            total += amount
            at, amount = next(steps, (-1, 0))
        lines.append(f"{name} {total} {spell(time)}\n")
        if len(lines) == _LINES:
            write("".join(lines).encode())
            lines.clear()
    lines.append(f"{name} 0 {spell(until + 1)}\n")
    write("".join(lines).encode())


def _seconds(ms: int) -> str:
    return f"{ms // SECOND}.{ms % SECOND:03d}" if ms % SECOND else str(ms // SECOND)


def _name(key: SeriesKey, common: Mapping[str, str]) -> str:
    labels = {**common, "job_type": key.job_type, "tts_service_enum": key.tts_service_enum}
    if key.label:
        labels[key.label] = key.value
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{key.family}{key.suffix}{{{pairs}}}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
