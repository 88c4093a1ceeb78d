"""The latest job behind a number: one for each failure class and each duration bucket of each label set.

Pure. Kept in memory only: a restart loses no count, only an example for whoever looks into a spike. Addressed
by the total that the job was added to, so there are never more exemplars than totals.
"""

from __future__ import annotations

from collections import defaultdict

from exporter.ledger.record import SeriesLabels
from exporter.ledger.totals import Exemplar, TotalKey


class Exemplars:
    """Latest exemplar by total."""

    def __init__(self) -> None:
        self._latest: dict[str, dict[TotalKey, tuple[str, int, int]]] = defaultdict(dict)

    def take(self, key: TotalKey, job_id: str | None, value: int, at: int) -> None:
        """A job was added to this total. One without an id cannot be looked up, so it is no exemplar."""
        if job_id is not None:
            self._latest[key[0]][key] = (job_id, value, at)

    def of(self, name: str) -> dict[SeriesLabels, Exemplar]:
        """A copy, to be published."""
        latest = self._latest.get(name, {})
        return {key[1:]: Exemplar(*found) for key, found in latest.items()}
