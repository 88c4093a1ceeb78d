"""Reads what a PostgreSQL store says of the past, beside replicas that may be writing to it.

Each read is one short transaction on a connection of its own that takes nothing and changes nothing: to be
allowed to read the tables is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from exporter.errors import NoStoreError, NothingCountedError, StoreVersionError
from exporter.store.past import CountedPast
from exporter.store.postgres import schema
from exporter.store.postgres.database import Database, Transaction
from exporter.store.postgres.reading import find_target, load_minutes, load_open_jobs, read_ledger
from exporter.store.postgres.tables import stored_version
from exporter.store.repository import check_project
from exporter.units import MINUTE


class PostgresPast:
    """See ``exporter/store/past.py``. Raises StoreError: missing, newer, or counted for something else."""

    def __init__(
        self,
        url: str,
        password: Callable[[], str | None],
        target: str,
        scope: str,
        project_id: str | None,
    ) -> None:
        self._url, self._password = url, password
        with self._transaction() as (transaction, address):
            version = stored_version(transaction, address)
            if version == 0:
                raise NoStoreError(f"{address}: there is no store: nothing was counted there")
            if version != schema.SCHEMA_VERSION:
                raise StoreVersionError(
                    f"{address}: written by a former version of this exporter: start this version on it once"
                )
            key = find_target(transaction, address, target, scope)
            if key is not None:
                self.ledger = read_ledger(transaction, address, key, target, 0, 0, only_open=True)
        if key is None or self.ledger.watermarks is None:
            raise NothingCountedError(f"{address}: nothing was counted for target {target!r} yet")
        if self.ledger.project_id:
            check_project(target, project_id or "", self.ledger.project_id)
        self._key = key

    def read(self, since: int, until: int) -> CountedPast:
        """What is counted now of jobs created from ``since`` to before ``until``: whole minutes, in ms."""
        with self._transaction() as (transaction, _):
            minutes = load_minutes(transaction, self._key, since // MINUTE, until // MINUTE)
            return CountedPast(minutes, load_open_jobs(transaction, self._key, since, until))

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Transaction, str]]:
        with (
            closing(Database(self._url, self._password, size=1, quiet=True)) as database,
            database.transaction(snapshot=True) as transaction,
        ):
            yield transaction, database.address
