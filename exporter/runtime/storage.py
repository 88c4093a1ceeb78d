"""The store that the configuration asks for.

Knows which kinds of stores there are; must not know what is in them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from exporter import log
from exporter.config import Config, StorageConfig, TargetConfig, read_secret
from exporter.errors import CredentialsError, StoreError
from exporter.ledger import BucketChange, bucket_changes, documented_label_sets
from exporter.runtime.asking_commands import LOOK_SECONDS
from exporter.runtime.bucket_changes import by_setting
from exporter.runtime.replica import listed
from exporter.runtime.target import classifier, ledger_scope, ledger_settings
from exporter.store import (
    CommandLock,
    FormerStore,
    SqliteCommandLock,
    SqlitePast,
    SqliteStore,
    Store,
    StoredPast,
    StoredRows,
    examine_sqlite,
    exposed_sqlite_files,
    ledger_from,
    minutes_loaded,
    sqlite_source,
    sqlite_target,
)
from exporter.units import SECOND

logger = logging.getLogger(__name__)


def open_store(config: Config, redactor: log.Redactor) -> Store:
    """The store that ``storage.url`` names. Raises StoreError. ``redactor`` learns its password."""
    if not config.storage.in_file:
        return _open_database(config.storage, redactor)
    store = SqliteStore(config.storage.sqlite_file)
    if store.exposed is not None:
        log.warn(logger, "the store is not private", problem=store.exposed)
    return store


def _open_database(storage: StorageConfig, redactor: log.Redactor) -> Store:
    """Raises StoreError."""
    with _extra():
        from exporter.store.postgres import PostgresStore
    return PostgresStore(storage.url, _password(storage, redactor))


def _password(
    storage: StorageConfig, redactor: log.Redactor, name: str = "storage.password_file"
) -> Callable[[], str | None]:
    """What reads it again for each connection. Raises StoreError, with the name of what gives it."""

    def password() -> str | None:
        if storage.password is None:
            return None
        try:
            secret = read_secret(storage.password)
        except CredentialsError as error:
            raise StoreError(f"{name}: {error}") from None
        redactor.add(secret)
        return secret

    return password


@contextmanager
def _extra() -> Iterator[None]:
    """PostgreSQL is imported when it is needed: it costs time and memory, and not everybody has it.

    Raises StoreError where it is missing.
    """
    try:
        yield
    except ImportError as error:
        raise StoreError(
            "storage.url: for PostgreSQL an extra is needed: pip install '.[postgres]' in its sources, or"
            f" pip install 'metastudio-tts-exporter[postgres]' ({error})"
        ) from None


def open_past(storage: StorageConfig, target: TargetConfig, redactor: log.Redactor) -> StoredPast:
    """What was counted for the target, beside a running exporter. Raises NothingCountedError, StoreError."""
    scope = ledger_scope(target)
    if storage.in_file:
        return SqlitePast(storage.sqlite_file, target.name, scope, target.project_id)
    with _extra():
        from exporter.store.postgres import PostgresPast
    password = _password(storage, redactor)
    return PostgresPast(storage.url, password, target.name, scope, target.project_id)


def command_lock(storage: StorageConfig, credentials: tuple[str, ...], redactor: log.Redactor) -> CommandLock:
    """By which exporters that use this store know that a command asks with credentials of these names. Raises
    StoreError.
    """
    if storage.in_file:
        return SqliteCommandLock(storage.sqlite_file, credentials, known_after=LOOK_SECONDS)
    with _extra():
        from exporter.store.postgres import PostgresCommandLock
    return PostgresCommandLock(storage.url, _password(storage, redactor), credentials)


def source_rows(storage: StorageConfig, redactor: log.Redactor) -> AbstractContextManager[StoredRows]:
    """All that a store holds, while no exporter uses it. Raises StoreError."""
    if storage.in_file:
        return sqlite_source(storage.sqlite_file)
    with _extra():
        from exporter.store.postgres import postgres_source
    return postgres_source(storage.url, _password(storage, redactor, "--password-file"))


def target_rows(storage: StorageConfig, redactor: log.Redactor) -> AbstractContextManager[StoredRows]:
    """An empty store, to be filled in one transaction that ends with the block. Raises StoreError."""
    if storage.in_file:
        return sqlite_target(storage.sqlite_file)
    with _extra():
        from exporter.store.postgres import postgres_target
    return postgres_target(storage.url, _password(storage, redactor, "--password-file"))


def examine_store(config: Config, redactor: log.Redactor) -> tuple[str, ...]:
    """Raises StoreError when it could not be opened, or no target's ledger loaded; changes nothing.

    StoreUnavailableError: a database cannot be reached from here. Returns what a start would change, and what
    it could not make private of a store's files, one line each.
    """
    storage, classes = config.storage, classifier(config)
    targets = {target.name: target for target in config.targets}
    settings = {name: ledger_settings(config, target, classes) for name, target in targets.items()}
    scopes = {name: ledger_scope(target) for name, target in targets.items()}
    keep, now = max(map(minutes_loaded, settings.values())), int(time.time() * SECOND)
    if storage.in_file:
        found = examine_sqlite(storage.sqlite_file, scopes, now, keep)
    else:
        with _extra():
            from exporter.store.postgres import examine_postgres
        found = examine_postgres(storage.url, _password(storage, redactor), scopes, now, keep)
    warnings: list[str] = []
    changes: list[tuple[str, BucketChange]] = []
    for one in found:
        if isinstance(one, FormerStore):
            others = (
                "" if storage.in_file else ": replicas of the former one stop polling until they are updated"
            )
            warnings.append(
                f"storage.url: {one.address}: a start brings the store from version {one.version} to"
                f" {one.new_version}, and there is no way back but a backup{others}"
            )
            continue
        name, filters = one.target, targets[one.target].filters
        ledger_from(
            one.stored,
            settings[name],
            documented_label_sets(filters.job_type, filters.tts_service_enum),
            target=name,
            project_id=targets[name].project_id or "",
            address=one.address,
        )
        changes += ((name, change) for change in bucket_changes(one.stored, settings[name]))
    warnings += (
        f"{change.setting}: {change.configured} is not what was counted with, {change.stored}: histograms of"
        f" {listed(names)} start anew at zero"
        for change, names in by_setting(changes).items()
    )
    if storage.in_file and (exposed := exposed_sqlite_files(storage.sqlite_file)) is not None:
        warnings.append(f"storage.url: {exposed}")
    return tuple(warnings)
