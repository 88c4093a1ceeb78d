"""Anomalies of what the books do not remember, such as records that are none: each is told once.

Pure. As far as memory goes: the oldest make room.
"""

from __future__ import annotations

from typing import Final

from exporter.ledger.record import Anomaly

LIMIT: Final = 10_000


class Told:
    """See the module."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}

    def is_news(self, anomaly: Anomaly, key: str) -> bool:
        """Whether this is the first time; it is not, from now on."""
        told = f"{anomaly}:{key}"
        if told in self._told:
            return False
        if len(self._told) >= LIMIT:
            del self._told[next(iter(self._told))]
        self._told[told] = None
        return True
