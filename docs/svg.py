"""Makes ``docs/images/doctor.svg`` of what ``doctor --json`` wrote: python docs/svg.py < report.json."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME

from exporter.commands.doctor.report import Report, print_report

IMAGE = Path(__file__).parent / "images" / "doctor.svg"
WIDTH = 120


class Written(msgspec.Struct):
    """The document of ``doctor --json``."""

    targets: tuple[Report, ...]


def main() -> None:
    console = Console(file=io.StringIO(), record=True, width=WIDTH, highlight=False, markup=False)
    for report in msgspec.json.decode(sys.stdin.buffer.read(), type=Written).targets:
        print_report(report, console)
    svg = console.export_svg(title="metastudio-tts-exporter doctor", theme=DEFAULT_TERMINAL_THEME)
    # Fonts of another host: most places that show the image do not load them, and nobody should have to.
    IMAGE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
