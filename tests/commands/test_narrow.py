"""Tables in a narrow terminal: nothing is cut off, and lines to paste stay whole."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from exporter.commands.doctor.findings import differs
from exporter.commands.doctor.report import Report, print_report
from exporter.commands.past import Past
from exporter.commands.verify.cells import MinuteCell
from exporter.commands.verify.command import Verification, print_result
from exporter.commands.verify.compare import Cause, Difference

PROJECT = "5a1de0000000000000000000000000a1"


def console(columns: int) -> Console:
    return Console(file=io.StringIO(), width=columns, highlight=False, markup=False, emoji=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("columns", [40, 60])
def test_findings_are_whole_and_so_are_the_lines_to_configure(columns: int) -> None:
    """An id is wrapped, and can be pasted from the line below the table."""
    line = f'project_id: "{PROJECT}"'
    to = console(columns)
    print_report(Report("t", True, (differs("project", f"{PROJECT}, found by name", line),)), to)
    shown = text_of(to)
    assert "…" not in shown
    assert f"    {line}\n" in shown


@pytest.mark.parametrize("columns", [40, 60])
def test_differences_are_whole(columns: int) -> None:
    """Labels and ids are wrapped, not cut."""
    cell = MinuteCell("WEBSOCKET_JOB", "GPU_CLONE", "FAILED", "disconnected")
    one = Difference(
        29_000_000, Cause.RULES_CHANGED, cell, cell, 1, ("159413ff-6810-4000-a06a-1a56eb8ff1e2",)
    )
    to = console(columns)
    print_result(Verification("t", Past(0, 60_000), (), 1, 1, 0, 1, (one,)), to)
    assert "…" not in text_of(to)
