"""Gives memory back to the system when many connections have ended, for glibc keeps what was freed.

Knows glibc; with another C library, nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MANY_CONNECTIONS: Final = 64
"""Connections at a time from which on giving their memory back is worth the milliseconds that it takes."""


def trim() -> None:
    """Have the C library return what it does not use."""
    import ctypes  # not at the top: few exporters ever have so many connections

    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


class MemoryTrimmer:
    """Gives memory back when more than half of many connections have ended."""

    def __init__(self, trim: Callable[[], None] = trim) -> None:
        self._trim = trim
        self._most = 0

    def update(self, connections: int) -> None:
        """Called regularly with the number of open connections."""
        self._most = max(self._most, connections)
        if self._most >= MANY_CONNECTIONS and connections < self._most / 2:
            self._most = connections
            self._trim()
