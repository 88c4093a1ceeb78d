"""Finds what would keep a start from using a PostgreSQL database, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

from exporter.errors import StoreError, StoreUnavailableError
from exporter.store.loading import FormerStore, FoundLedger
from exporter.store.postgres import schema
from exporter.store.postgres.database import Database, Transaction
from exporter.store.postgres.errors import REMEDIES
from exporter.store.postgres.reading import find_target, read_ledger
from exporter.store.postgres.refusals import check_parameters, check_refusal
from exporter.store.postgres.tables import check_encoding, stored_version


def examine_postgres(
    url: str, password: Callable[[], str | None], scopes: Mapping[str, str], now: int, keep: int
) -> Iterator[FoundLedger | FormerStore]:
    """Yields each target's ledger, as far as there is one, without the jobs that are final.

    Raises StoreError: StoreUnavailableError where the database cannot be reached from here, or only now.
    """
    with closing(Database(url, password, size=1, quiet=True)) as database:
        parameters = database.connect_parameters()
        check_parameters(database.address, parameters)
        try:
            yield from _examine(database, scopes, now, keep)
        except StoreUnavailableError as error:
            check_refusal(error, parameters)
            raise


def _examine(
    database: Database, scopes: Mapping[str, str], now: int, keep: int
) -> Iterator[FoundLedger | FormerStore]:
    with database.transaction(snapshot=True) as transaction:
        address = database.address
        check_encoding(transaction.connection, address)
        version = stored_version(transaction, address)
        if missing := _missing_rights(transaction, version):
            raise StoreError(f"{address}: the role may not {missing}: {REMEDIES['42501']}")
        if version != schema.SCHEMA_VERSION:
            if version:  # or else a start makes the tables
                yield FormerStore(address, version, schema.SCHEMA_VERSION)
            return
        for target, scope in scopes.items():
            if (key := find_target(transaction, address, target, scope)) is not None:
                stored = read_ledger(transaction, address, key, target, now, keep, only_open=True)
                yield FoundLedger(address, target, stored)


def _missing_rights(transaction: Transaction, version: int) -> str | None:
    """What the role cannot do and must, if anything."""
    if version == 0:
        query, missing = schema.MAY_CREATE, "make the tables"
    elif version < schema.SCHEMA_VERSION:
        query, missing = schema.MAY_UPGRADE, "bring the tables up to date, as their owner may"
    else:
        query, missing = schema.HAS_RIGHTS, "read and write every table"
    row = transaction.execute(query).fetchone()
    return None if row and row[0] else missing
