"""Units of time inside the program: whole milliseconds, by name."""

from __future__ import annotations

from typing import Final

SECOND: Final = 1000


MINUTE: Final = 60_000
