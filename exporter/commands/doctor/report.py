"""Findings for people, as a table with the lines to configure below it; and for machines, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.commands.doctor.findings import Finding, Verdict

_STYLES: Final = {
    Verdict.OK: "green",
    Verdict.DIFFERS: "yellow",
    Verdict.UNUSABLE: "bold red",
    Verdict.NOT_KNOWN: "dim",
}


class Report(msgspec.Struct, frozen=True):
    """What was found out about one target."""

    target: str
    usable: bool
    findings: tuple[Finding, ...]


def print_report(report: Report, console: Console) -> None:
    """A table; below it the lines that answer what differs."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", show_edge=False, pad_edge=False)
    table.title = Text(f"target {report.target}")
    for name in ("finding", "verdict"):
        table.add_column(name, no_wrap=True)
    table.add_column("", overflow="fold")
    for finding in report.findings:
        verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
        table.add_row(Text(finding.name), verdict, Text(_line(finding.text)))
    console.print(table)
    if lines := config_lines(report.findings):
        console.print(Text(f"\nconfiguration of target {report.target}, to add or correct:", style="bold"))
        for line in lines:
            console.print(Text(f"    {line}"), soft_wrap=True)
    if poll := tuple(line for finding in report.findings for line in finding.poll):
        console.print(Text("\nconfiguration, section poll:", style="bold"))
        for line in poll:
            console.print(Text(f"    {line}"), soft_wrap=True)
    verdict = Text("usable", style="green") if report.usable else Text("not usable", style="bold red")
    console.print(Text.assemble(f"\n{report.target}: ", verdict, "\n"))


def config_lines(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Each once, in the order of the findings."""
    return tuple(dict.fromkeys(line for finding in findings for line in finding.config))


def _line(text: str) -> str:
    """Printable: the text may hold what a stranger sent."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
