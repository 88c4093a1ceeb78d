"""Gives memory back to the system when many connections have ended, for glibc keeps what was freed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from exporter.process import give_memory_back

MANY_CONNECTIONS: Final = 64
"""Connections at a time from which on giving their memory back is worth the milliseconds that it takes."""


class MemoryTrimmer:
    """Gives memory back when more than half of many connections have ended."""

    def __init__(self, trim: Callable[[], None] = give_memory_back) -> None:
        self._trim = trim
        self._most = 0

    def update(self, connections: int) -> None:
        """Called regularly with the number of open connections."""
        self._most = max(self._most, connections)
        if self._most >= MANY_CONNECTIONS and connections < self._most / 2:
            self._most = connections
            self._trim()
