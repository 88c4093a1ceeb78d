"""Makes ``docs/images/NAME.svg`` of what a command printed on a terminal, with its colours.

    script -qec 'stty cols 120; metastudio-tts-exporter doctor 2>/dev/null' /dev/null |
        python docs/svg.py doctor

The pictures are of the simulator: ``doctor`` with ``--watch 2m``; ``verify`` (``cols 112``) of minutes with

    metastudio-tts-exporter simulate --port 8080 --rate 60 --world '{"late": 0.02, "late_seconds": 60,
        "vanish": 0.006, "vanish_seconds": 60, "label_change": 0.004}'

and with what first-hour.md says.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    name = sys.argv[1]
    printed = Text.from_ansi(sys.stdin.read().replace("\r\n", "\n"))  # as a terminal ends its lines
    width = max(cell_len(line.rstrip()) for line in printed.plain.splitlines())
    console = Console(file=io.StringIO(), record=True, width=width, highlight=False, markup=False)
    console.print(printed)
    svg = console.export_svg(title=f"metastudio-tts-exporter {name}", theme=DEFAULT_TERMINAL_THEME)
    # Fonts of another host: most places that show the image do not load them, and nobody should have to.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
