"""The store that the configuration asks for.

Knows which kinds of stores there are; must not know what is in them.
"""

from __future__ import annotations

from pathlib import Path

from exporter.config.load import Config
from exporter.errors import StoreError
from exporter.store import SqliteStore, Store, examine


def open_store(config: Config) -> Store:
    """The store that ``storage.url`` names. Raises StoreError."""
    return SqliteStore(_sqlite_file(config))


def examine_store(config: Config) -> None:
    """Raises StoreError when it could not be opened; changes nothing."""
    examine(_sqlite_file(config))


def _sqlite_file(config: Config) -> Path:
    if (path := config.storage.sqlite_file) is None:
        raise StoreError("storage.url: only sqlite:///FILE is available in this version")
    return path
