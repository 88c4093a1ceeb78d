"""Gives memory back to the system when a crowd of clients has gone: glibc keeps what was freed.

Knows glibc; where there is another C library, nothing happens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

CROWD: Final = 64
"""Connections at a time whose memory is worth the milliseconds that giving it back takes."""


def trim() -> None:
    """Have the C library return what it does not use."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


class GiveBack:
    """Told now and then how many connections there are."""

    def __init__(self, trim: Callable[[], None] = trim) -> None:
        self._trim = trim
        self._most = 0

    def look(self, connections: int) -> None:
        """Gives memory back when less than half of a crowd is left."""
        self._most = max(self._most, connections)
        if self._most >= CROWD and connections < self._most / 2:
            self._most = connections
            self._trim()
