"""Colours are for terminals, and for those who want them."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.text import Text

from exporter.commands.console import new_console

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "no_colour", "coloured"),
    [(Terminal, None, True), (Terminal, "1", False), (StringIO, None, False)],
    ids=["terminal", "no-color", "file"],
)
def test_colours_are_for_terminals_without_no_color(
    out: type[StringIO], no_colour: str | None, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A red word is red there, and plain in a file and where ``NO_COLOR`` is set."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    if no_colour is not None:
        monkeypatch.setenv("NO_COLOR", no_colour)
    shown = out()
    new_console(shown).print(Text("unexplained", "red"))
    assert "unexplained" in shown.getvalue()
    assert (COLOUR.search(shown.getvalue()) is not None) == coloured
