"""Anomalies of what the books do not remember, such as records that are none: each is told once.

Pure. As far as memory goes: the oldest make room.
"""

from __future__ import annotations

from typing import Final

from exporter.bounded import BoundedDict
from exporter.ledger.record import Anomaly

LIMIT: Final = 10_000


class SeenOnce:
    """See the module."""

    def __init__(self) -> None:
        self._seen_once = BoundedDict[str, None](limit=LIMIT)

    def first_time(self, anomaly: Anomaly, key: str) -> bool:
        """Whether this is the first time; it is not, from now on."""
        told = f"{anomaly}:{key}"
        if told in self._seen_once:
            return False
        self._seen_once.remember(told, None)
        return True
