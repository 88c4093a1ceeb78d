"""When another clock has jumped, and does not merely run faster than ours: R3 and R6, docs/counting.md."""

from __future__ import annotations

from typing import Final

from exporter.units import SECOND

FASTEST: Final = 10
"""A clock may run so many times as fast as ours (simulators do)."""
JUMP: Final = 10 * SECOND
"""One that gains so many milliseconds more than that has jumped."""


def has_jumped(gained: float, passed: float) -> bool:
    """``gained`` is what the other clock went on while ours went on by ``passed``; milliseconds."""
    return gained > JUMP + FASTEST * passed
