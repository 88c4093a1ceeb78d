"""What loading a target has in common, in whatever store it is. Knows neither SQL nor files."""

from __future__ import annotations

from typing import Final, NamedTuple

from exporter.errors import ScopeChangedError
from exporter.ledger import StoredLedger
from exporter.units import MINUTE

STEP: Final = 10_000
"""Rows that are read or written at a time: of jobs about a megabyte."""


class FoundLedger(NamedTuple):
    """What a store that was only looked at holds of a target."""

    address: str
    """Of the store, as in ``base.Store``."""
    target: str
    stored: StoredLedger


class FormerStore(NamedTuple):
    """A store that was only looked at: a start brings it up to date before it reads anything."""

    address: str
    version: int
    new_version: int


def check_scope(address: str, target: str, stored: str, scope: str) -> None:
    """Raises ScopeChangedError when the target was counted for another scope than it is configured for."""
    if stored != scope:
        raise ScopeChangedError(
            f"{address}: target {target!r} was counted for {stored} and is now configured"
            f" for {scope}: use a new target name, so that different things are not added up"
        )


def first_minute(stored: StoredLedger, now: int, keep: int) -> int:
    """From which on counts by minute are loaded: those that are counted or planned with.

    After downtime, or with a wrong clock of ours, that follows the time that counting goes by; and of
    remembered jobs it goes back to the oldest one.
    """
    oldest = next(iter(stored.jobs.values())).created if stored.jobs else now
    settled = now if stored.watermarks is None else stored.watermarks.settled_until
    return (min(now, oldest, settled) - keep) // MINUTE
