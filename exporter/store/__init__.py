"""Keeps what was counted: one transaction a commit, and a ledger that equals it.

Knows SQL and files; must not know what the numbers mean.
"""

from exporter.store.base import Store
from exporter.store.past import CountedPast, StoredPast, stored_files
from exporter.store.reading import MinuteCount
from exporter.store.repository import LedgerRepository, ledger_from, minutes_loaded
from exporter.store.sqlite import SqliteStore, examine, exposed

__all__ = [
    "CountedPast",
    "LedgerRepository",
    "MinuteCount",
    "SqliteStore",
    "Store",
    "StoredPast",
    "examine",
    "exposed",
    "ledger_from",
    "minutes_loaded",
    "stored_files",
]
