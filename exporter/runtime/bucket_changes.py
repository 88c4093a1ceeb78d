"""Says that histograms are counted with other buckets than those configured: one line for all targets.

Knows how the settings are named and written; must not know what is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from exporter import log
from exporter.ledger import BucketChange, totals
from exporter.runtime.replica import listed
from exporter.store import LedgerRepository
from exporter.units import SECOND

logger = logging.getLogger(__name__)

_SETTINGS: Final = {
    totals.TEXT_LENGTH: "metrics.text_length_buckets",
    totals.DURATION_UPPER: "metrics.duration_buckets",
    totals.DURATION_LOWER: "metrics.duration_buckets",
}


def log_bucket_changes(repositories: Mapping[str, LedgerRepository], held: Collection[str]) -> None:
    """What is new of these targets, of which this process polls those in ``held``."""
    found: dict[tuple[bool, str, str, str], dict[str, None]] = {}
    for name, repository in repositories.items():
        for described in map(bucket_change_fields, repository.new_bucket_changes()):
            found.setdefault((name in held, *described), {})[name] = None
    for (counted, setting, stored, configured), names in found.items():
        log.warn(
            logger,
            "buckets differ from those that were stored: their histograms start anew"
            if counted
            else "another replica counts with other buckets: here its histograms stay empty",
            setting=setting,
            stored=stored,
            configured=configured,
            count=len(names),
            targets=listed(names),
        )


def bucket_change_fields(change: BucketChange) -> tuple[str, str, str]:
    """The setting, and the stored and the configured bounds as the configuration has them."""
    name = change.histogram
    return _SETTINGS[name], _written(name, change.stored), _written(name, change.configured)


def _written(histogram: str, bounds: Iterable[int]) -> str:
    if histogram == totals.TEXT_LENGTH:
        return " ".join(map(str, bounds))
    return " ".join(f"{bound / SECOND:g}s" for bound in bounds)
