"""The store that the configuration asks for.

Knows which kinds of stores there are; must not know what is in them.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from exporter import log
from exporter.config import Config, StorageConfig, read_secret
from exporter.errors import CredentialsError, StoreError
from exporter.ledger import documented_label_sets
from exporter.runtime.target import classifier, ledger_scope, ledger_settings
from exporter.store import SqliteStore, Store, examine, exposed, ledger_from, minutes_loaded
from exporter.units import SECOND

if TYPE_CHECKING:
    from exporter.store.postgres import PostgresStore

logger = logging.getLogger(__name__)


def open_store(config: Config, redactor: log.Redactor | None = None) -> Store:
    """The store that ``storage.url`` names. Raises StoreError. ``redactor`` learns its password."""
    if not config.storage.in_file:
        return _open_database(config.storage, redactor)
    store = SqliteStore(config.storage.sqlite_file)
    if store.exposed is not None:
        log.warn(logger, "the store is not private", problem=store.exposed)
    return store


def _open_database(storage: StorageConfig, redactor: log.Redactor | None) -> Store:
    """Raises StoreError."""
    connect = _postgres_store()

    def password() -> str | None:
        if storage.password is None:
            return None
        try:
            secret = read_secret(storage.password)
        except CredentialsError as error:
            raise StoreError(f"storage.password_file: {error}") from None
        if redactor is not None:
            redactor.add(secret)
        return secret

    return connect(storage.url, password)


def _postgres_store() -> type[PostgresStore]:
    """Imported when it is needed: its libraries cost time and memory, and not everybody has them.

    Raises StoreError where they are missing.
    """
    try:
        from exporter.store.postgres import PostgresStore
    except ImportError as error:
        raise StoreError(
            "storage.url: for PostgreSQL an extra is needed: pip install"
            f" 'metastudio-tts-exporter[postgres]' ({error})"
        ) from None
    return PostgresStore


def examine_store(config: Config) -> str | None:
    """Raises StoreError when it could not be opened, or no target's ledger loaded; changes nothing.

    Returns what cannot be made private of its files, if anything.
    """
    if not config.storage.in_file:  # a database is not asked: it may be out of reach from here, for now
        _postgres_store()
        return None
    classes, file = classifier(config), config.storage.sqlite_file
    targets = {target.name: target for target in config.targets}
    settings = {name: ledger_settings(config, target, classes) for name, target in targets.items()}
    scopes = {name: ledger_scope(target) for name, target in targets.items()}
    keep = max(map(minutes_loaded, settings.values()))
    for name, stored in examine(file, scopes, int(time.time() * SECOND), keep):
        filters = targets[name].filters
        ledger_from(
            stored,
            settings[name],
            documented_label_sets(filters.job_type, filters.tts_service_enum),
            target=name,
            project_id=targets[name].project_id or "",
            place=str(file.resolve()),
        )
    return exposed(file)
