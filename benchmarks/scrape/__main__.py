"""CPU and latency of a scrape, by server, size and encoding: python -m benchmarks.scrape.

Prints a table and writes JSON. A server whose program is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.scrape import data
from benchmarks.scrape.load import Measured, Round, one_round, together
from benchmarks.scrape.servers import ROOT, SERVERS

ROUNDS: Final = 5
GOAL_CPU: Final = 0.4
GOAL_RATIO: Final = 20.0
OURS: Final = "this exporter"
GO: Final = "client_golang"


class Cell(msgspec.Struct, frozen=True):
    """One server at one size, in one encoding."""

    server: str
    series: int
    gzip: bool
    measured: Measured


def main() -> None:
    """Everything in one run, so that the ratios are of one machine in one mood."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=3.0, help="a cell (default: 3)")
    arguments.add_argument("--json", type=Path, default=ROOT / "build" / "scrapes.json")
    chosen = arguments.parse_args()
    cells: list[Cell] = []
    print(
        f"{'server':20}{'series':>8}{'':>7}{'bytes':>10}{'CPU ms':>9}{'p50 ms':>9}{'p99 ms':>9}{'x ours':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for size in data.SIZES:
            for compressed in (True, False):
                cells += row(size, compressed, chosen.seconds, Path(folder))
    chosen.json.parent.mkdir(exist_ok=True)
    chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(cells)))
    verdict(cells)


def row(size: data.Size, compressed: bool, seconds: float, folder: Path) -> list[Cell]:
    """All servers at once, in turns: what disturbs the machine disturbs them alike. Ours first."""
    cells: list[Cell] = []
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(SERVERS[name][0](size, folder)) for name in installed()}
        rounds: dict[str, list[Round]] = {name: [] for name in servers}
        for _ in range(ROUNDS):
            for name, running in servers.items():
                rounds[name].append(one_round(running, compressed=compressed, seconds=seconds / ROUNDS))
    for name in servers:
        found = together(rounds[name])
        cells.append(Cell(name, size.series, compressed, found))
        ratio = found.cpu / cells[0].measured.cpu
        print(
            f"{name:20}{size.series:8}{'gzip' if compressed else 'plain':>7}{found.bytes:10}"
            f"{found.cpu:9.3f}{found.p50:9.2f}{found.p99:9.2f}{ratio:8.2f}",
            flush=True,
        )
    return cells


def installed() -> list[str]:
    """The servers whose programs are here."""
    return [name for name, (_, program) in SERVERS.items() if shutil.which(program) is not None]


def verdict(cells: list[Cell]) -> None:
    """The goals, met or not."""
    cpu = {cell.server: cell.measured.cpu for cell in cells if cell.series == 3_000 and cell.gzip}
    met = _met(cpu[OURS] <= GOAL_CPU)
    print(f"\n3,000 series, gzip: {cpu[OURS]:.3f} ms CPU a scrape; goal {GOAL_CPU} ms: {met}")
    if GO in cpu:
        ratio = cpu[GO] / cpu[OURS]
        print(f"{ratio:.1f}x below client_golang; goal {GOAL_RATIO:.0f}x: {_met(ratio >= GOAL_RATIO)}")


def _met(met: bool) -> str:
    return "met" if met else "NOT met"


if __name__ == "__main__":
    main()
