"""Keeps what was counted, for one process or several: one transaction a commit, and a ledger that equals it.

Knows SQL and files; must not know what the numbers mean.
"""

from exporter.store.base import RENEWALS, CommandLock, SharedStore, Store
from exporter.store.leases import LeaseTable, spread
from exporter.store.loading import FormerStore
from exporter.store.past import CountedPast, MinuteCount, StoredPast
from exporter.store.repository import LedgerRepository, ledger_from, minutes_loaded
from exporter.store.rows import StoredRows, copy_rows
from exporter.store.sqlite import SqliteStore, examine_sqlite, exposed_sqlite_files
from exporter.store.sqlite_command_lock import SqliteCommandLock
from exporter.store.sqlite_past import SqlitePast
from exporter.store.sqlite_rows import sqlite_source, sqlite_target

__all__ = [
    "RENEWALS",
    "CommandLock",
    "CountedPast",
    "FormerStore",
    "LeaseTable",
    "LedgerRepository",
    "MinuteCount",
    "SharedStore",
    "SqliteCommandLock",
    "SqlitePast",
    "SqliteStore",
    "Store",
    "StoredPast",
    "StoredRows",
    "copy_rows",
    "examine_sqlite",
    "exposed_sqlite_files",
    "ledger_from",
    "minutes_loaded",
    "spread",
    "sqlite_source",
    "sqlite_target",
]
