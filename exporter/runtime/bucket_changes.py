"""Says that histograms are counted with other buckets than those configured: one line for all targets.

Knows how the settings are named and written; must not know what is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

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
    found = [(name, change) for name, one in repositories.items() for change in one.new_bucket_changes()]
    for counted, message in (
        (True, "buckets differ from those that were stored: their histograms start anew"),
        (False, "another replica counts with other buckets: here its histograms stay empty"),
    ):
        changes = [(name, change) for name, change in found if (name in held) is counted]
        for described, names in by_setting(changes).items():
            fields = described._asdict()
            log.warn(logger, message, **fields, count=len(names), targets=listed(names))


class SettingChange(NamedTuple):
    """With bounds as the configuration has them."""

    setting: str
    stored: str
    configured: str


def by_setting(changes: Iterable[tuple[str, BucketChange]]) -> dict[SettingChange, list[str]]:
    """The names of the targets that have each; given are pairs of a target's name and its change."""
    found: dict[SettingChange, dict[str, None]] = {}
    for target, (histogram, *bounds) in changes:
        stored, configured = (_written(histogram, one) for one in bounds)
        found.setdefault(SettingChange(_SETTINGS[histogram], stored, configured), {})[target] = None
    return {change: list(names) for change, names in found.items()}


def _written(histogram: str, bounds: Iterable[int]) -> str:
    if histogram == totals.TEXT_LENGTH:
        return " ".join(map(str, bounds))
    return " ".join(f"{bound / SECOND:g}s" for bound in bounds)
