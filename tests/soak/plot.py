"""Draws the result of a soak: memory, store and remembered jobs over simulated time.

``python -m tests.soak.plot soak.json docs/images/soak.png`` draws an SVG; Chromium makes the PNG.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path

import msgspec

from tests.soak.run import Sample

WIDTH, PANEL, LEFT, TOP = 860, 150, 70, 46
INK, GRID, LINE = "#24292f", "#d0d7de", "#0969da"


class Soaked(msgspec.Struct):
    """What ``python -m tests.soak.run --result`` wrote."""

    samples: list[Sample]
    jobs: int
    exact: bool


def draw(soaked: Soaked) -> str:
    samples = [sample for sample in soaked.samples if sample.hours > 0]
    verdict = "exact at the end" if soaked.exact else "NOT exact at the end"
    days = samples[-1].hours / 24
    title = f"{soaked.jobs:,} jobs in {days:.1f} simulated days with faults and kills: {verdict}"
    panels = [
        ("resident memory, MiB", [sample.rss_mib for sample in samples]),
        ("store on disk, MiB", [sample.store_mib for sample in samples]),
        ("jobs remembered", [float(sample.remembered) for sample in samples]),
        ("jobs counted, millions", [sample.jobs / 1e6 for sample in samples]),
    ]
    hours = [sample.hours for sample in samples]
    body = [panel(name, hours, values, TOP + index * PANEL) for index, (name, values) in enumerate(panels)]
    height = TOP + len(panels) * PANEL + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif"'
        f' font-size="12" fill="{INK}"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="24" font-size="15">{title}</text>{"".join(body)}'
        f'<text x="{WIDTH - 20}" y="{height - 12}" text-anchor="end">simulated days</text></svg>'
    )


def panel(name: str, hours: Sequence[float], values: Sequence[float], top: int) -> str:
    """One curve over simulated days, from zero."""
    width, height, step = WIDTH - LEFT - 20, PANEL - 44, _step(max(values))
    most = step * (max(values) // step + 1)
    base = top + 18 + height

    def x(hour: float) -> float:
        return LEFT + width * hour / hours[-1]

    points = " ".join(
        f"{x(hour):.1f},{base - height * value / most:.1f}" for hour, value in zip(hours, values, strict=True)
    )
    marks = "".join(
        f'<path d="M{LEFT} {y}H{LEFT + width}" stroke="{GRID}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{mark * step:,.10g}</text>'
        for mark in range(round(most / step) + 1)
        if (y := round(base - height * mark * step / most))
    )
    days = "".join(
        f'<text x="{x(day * 24):.1f}" y="{base + 15}" text-anchor="middle">{day}</text>'
        for day in range(int(hours[-1] / 24) + 1)
    )
    return (
        f'<text x="{LEFT}" y="{top + 12}">{name}</text>'
        f"{marks}{days}"
        f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.5"/>'
    )


def _step(most: float) -> float:
    """Between two marks of an axis up to ``most``: 1, 2 or 5 with zeros, two to five marks in all."""
    power = 10.0 ** floor(log10(most or 1.0))
    return next(step for step in (power / 5, power / 2, power, power * 2) if most / step < 5)


def main() -> int:
    source, target = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    picture = draw(msgspec.json.decode(source.read_bytes(), type=Soaked))
    svg = target.with_suffix(".svg")
    svg.write_text(picture, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={WIDTH},{TOP + 4 * PANEL + 30}", f"--screenshot={target}", svg.as_uri()]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    svg.unlink()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
