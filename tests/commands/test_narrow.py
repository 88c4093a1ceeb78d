"""Tables in a narrow terminal: nothing is cut off, and lines to paste stay whole."""

from __future__ import annotations

import io
import uuid

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


@pytest.mark.parametrize("columns", [40, 60, 80, 160])
def test_differences_are_whole(columns: int) -> None:
    """Each id, cause and label stands unbroken in one line, to be copied and searched for."""
    cell = MinuteCell("WEBSOCKET_JOB", "GPU_CLONE", "FAILED", "sensitive_content")
    ids = tuple(f"159413ff-6810-4000-a06a-1a56eb8ff1e{digit}" for digit in range(5))
    moved = Difference(29_000_000, Cause.EXPIRED_THEN_FINISHED, cell, cell, 5, ids)
    lost = Difference(29_000_000, Cause.UNEXPLAINED, None, cell, 2, (), ids[3:], "counted twice")
    to = console(columns)
    left_out = "before 2026-11-28T15:28:00Z: counting began then"
    print_result(Verification("t", Past(0, 60_000), (left_out,), 1, 1, 0, 1, (moved, lost)), to)
    shown = text_of(to)
    assert "…" not in shown
    assert f"not compared: {left_out}\n" in shown
    for words in (cell, (*ids[:3], *ids[3:]), ("2025-02-19T21:20Z", *Cause.EXPIRED_THEN_FINISHED.split())):
        for word in words:
            assert any(word in line.split() for line in shown.splitlines()), word


def test_differences_fit_on_a_terminal() -> None:
    """Of 80 columns, with the longest cause."""
    cell = MinuteCell("ASYNC_JOB", "TTS_LAB_GPU", "FAILED", "unclassified")
    one = Difference(29_000_000, Cause.EXPIRED_THEN_FINISHED, cell, cell, 1, (str(uuid.UUID(int=7)),))
    to = console(80)
    print_result(Verification("t", Past(0, 60_000), (), 1, 1, 0, 1, (one,)), to)
    tables = text_of(to)[text_of(to).index("what differs") :]
    assert max(map(len, tables.splitlines())) <= 80
