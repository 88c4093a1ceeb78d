"""Units of time inside the program: whole milliseconds, by name."""

from __future__ import annotations

from typing import Final

SECOND: Final = 1000
MINUTE: Final = 60_000


def milliseconds(seconds: float) -> int:
    """The nearest: 1.001 seconds are 1001, where ``int`` would make 1000 of 1000.9999999999999."""
    return round(seconds * SECOND)
