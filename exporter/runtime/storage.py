"""The store that the configuration asks for.

Knows which kinds of stores there are; must not know what is in them.
"""

from __future__ import annotations

from exporter.config import Config
from exporter.store import SqliteStore, Store, examine


def open_store(config: Config) -> Store:
    """The store that ``storage.url`` names. Raises StoreError."""
    return SqliteStore(config.storage.sqlite_file)


def examine_store(config: Config) -> None:
    """Raises StoreError when it could not be opened; changes nothing."""
    examine(config.storage.sqlite_file)
