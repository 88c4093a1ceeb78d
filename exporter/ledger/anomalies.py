"""Anomalies of what is not remembered as a job, such as elements that are no records: each is counted once.

Pure. Remembers a bounded number of them: the oldest make room.
"""

from __future__ import annotations

from typing import Final

from exporter.bounded import BoundedDict
from exporter.ledger.record import Anomaly

LIMIT: Final = 10_000


class SeenOnce:
    """The anomalies that were counted."""

    def __init__(self) -> None:
        self._seen_once = BoundedDict[str, None](limit=LIMIT)

    def first_time(self, anomaly: Anomaly, key: str) -> bool:
        """Whether this is the first time; remembers that it was seen."""
        seen = f"{anomaly}:{key}"
        if seen in self._seen_once:
            return False
        self._seen_once.remember(seen, None)
        return True
