"""Keeps what was counted: one transaction a commit, and a ledger that equals it.

Knows SQL and files; must not know what the numbers mean.
"""

from exporter.store.base import Store
from exporter.store.repository import LedgerRepository, ledger_from, minutes_loaded
from exporter.store.sqlite import SqliteStore, examine, exposed

__all__ = ["LedgerRepository", "SqliteStore", "Store", "examine", "exposed", "ledger_from", "minutes_loaded"]
