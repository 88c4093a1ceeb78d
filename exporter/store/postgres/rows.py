"""All rows of a PostgreSQL store, for ``store copy``: see ``exporter/store/rows.py``.

No replica may live meanwhile, and none can start: the tables are locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from exporter.errors import StoreError, StoreLockedError, StoreVersionError
from exporter.store.loading import STEP
from exporter.store.postgres import schema
from exporter.store.postgres.database import Database, DatabaseConnection
from exporter.store.postgres.errors import translated
from exporter.store.postgres.schema import SCHEMA
from exporter.store.postgres.tables import make_or_upgrade, stored_version
from exporter.store.rows import BREAKERS, KEYS, LABEL_SETS, OWNED, TARGETS, Row

_COLUMNS: Final = {
    TARGETS: (
        "name, scope, project_id, version, baseline, settled_until, evicted_until, history, catching_up,"
        " last_complete_poll, buckets"
    ),
    "jobs": (
        "job_id, created, state, job_type, tts_service_enum, text_length, last_checked, misses,"
        " missing_since, flags"
    ),
    "totals": "name, job_type, tts_service_enum, detail, value",
    "minutes": "minute, job_type, tts_service_enum, state, detail, jobs, characters, ids",
    LABEL_SETS: "job_type, tts_service_enum, place",
    BREAKERS: "credentials, state",
}
_TYPES: Final = {
    "jobs": "int4 bytea int8 text text text int8 int8 int8 int8 int8",
    "totals": "int4 text text text text int8",
    "minutes": "int4 int8 text text text text int8 int8 int8",
    LABEL_SETS: "int4 text text int8",
    BREAKERS: "text text",
}
"""Of the columns that are written, for binary COPY."""

_LOCK: Final = f"{schema.LOCK_TABLES} IN EXCLUSIVE MODE"
_BOOKS: Final = "version > 0"
"""Other targets were never committed: a start has only taken them."""

Password = Callable[[], str | None]


@contextmanager
def postgres_source(url: str, password: Password) -> Iterator[PostgresRows]:
    """The rows of a database, which are not changed. Raises StoreError, also while a replica lives."""
    with _transaction(url, password) as rows:
        if rows.version() == 0:
            raise StoreError(f"{rows.address}: there is no store: nothing was counted there")
        rows.lock()
        yield rows


@contextmanager
def postgres_target(url: str, password: Password) -> Iterator[PostgresRows]:
    """Rows that are written at the end of the block, or none. Raises StoreError, also for a database that
    holds anything. The tables are made with them where there are none.
    """
    with _transaction(url, password) as rows:
        if rows.version() == 0:
            rows.make_tables()
        rows.lock()
        if rows.count():
            raise StoreError(
                f"{rows.address}: holds books already: drop or rename the schema {SCHEMA} there, or choose"
                " another database"
            )
        rows.remove_targets_without_books()
        yield rows


@contextmanager
def _transaction(url: str, password: Password) -> Iterator[PostgresRows]:
    with (
        closing(Database(url, password, size=1, quiet=True)) as database,
        database.long_transaction() as connection,
    ):
        yield PostgresRows(connection, database.address)


class PostgresRows:
    """See ``rows.StoredRows``."""

    def __init__(self, connection: DatabaseConnection, address: str) -> None:
        self._connection = connection
        self.address = address
        self._keys: dict[str, int] = {}

    def version(self) -> int:
        """Of the tables: ours, or 0 where there are none. Raises StoreError."""
        version = stored_version(self._connection, self.address)
        if version not in (0, schema.SCHEMA_VERSION):
            raise StoreVersionError(
                f"{self.address}: written by a former version of this exporter (store version {version}, this"
                f" one has {schema.SCHEMA_VERSION}): start this version on it once, and stop it"
            )
        return version

    def make_tables(self) -> None:
        make_or_upgrade(self._connection, self.address)

    def lock(self) -> None:
        """Nobody else writes until the end of the transaction. Raises StoreLockedError for a live replica."""
        self._connection.execute(_LOCK)
        live = [replica for replica, *_ in self._connection.execute(schema.GET_REPLICAS)]
        if live:
            raise StoreLockedError(
                f"{self.address}: an exporter is using this store (replica {', '.join(sorted(live))}):"
                " stop all of them; one that was killed counts as stopped when its lease is over"
            )

    def remove_targets_without_books(self) -> None:
        self._connection.execute(f"DELETE FROM {SCHEMA}.targets WHERE NOT {_BOOKS}")

    def count(self) -> int:
        owned = (f"(SELECT count(*) FROM {SCHEMA}.{table})" for table in (*OWNED, BREAKERS))
        targets = f"(SELECT count(*) FROM {SCHEMA}.targets WHERE {_BOOKS})"
        row = self._connection.execute(f"SELECT {' + '.join([*owned, targets])}").fetchone()
        return int(row[0]) if row else 0

    def read(self, table: str) -> Iterator[list[Row]]:
        with translated(self.address):
            if table == TARGETS:
                yield from self._steps(
                    f"{_COLUMNS[table]} FROM {SCHEMA}.targets WHERE {_BOOKS} ORDER BY name"
                )
            elif table == BREAKERS:
                yield from self._steps(f"{_COLUMNS[table]} FROM {SCHEMA}.breakers ORDER BY credentials")
            else:
                yield from self._read_owned(table)

    def _read_owned(self, table: str) -> Iterator[list[Row]]:
        targets = f"SELECT id, name FROM {SCHEMA}.targets WHERE {_BOOKS} ORDER BY name"
        for key, name in self._connection.execute(targets).fetchall():
            position = 0
            for rows in self._steps(
                f"{_COLUMNS[table]} FROM {SCHEMA}.{table} WHERE target = %s ORDER BY {KEYS[table]}", key
            ):
                if table == "jobs":
                    yield [(name, job_id.decode(), *row) for job_id, *row in rows]
                elif table == LABEL_SETS:
                    yield [(name, *row[:-1], position + number) for number, row in enumerate(rows)]
                    position += len(rows)
                else:
                    yield [(name, *row) for row in rows]

    def _steps(self, query: str, *parameters: int) -> Iterator[list[tuple[Any, ...]]]:
        with self._connection.cursor("rows", binary=True) as cursor:
            cursor.execute(f"SELECT {query}", parameters)
            while rows := cursor.fetchmany(STEP):
                yield rows

    def write(self, table: str, rows: list[Row]) -> None:
        with translated(self.address):
            if table == TARGETS:
                for row in rows:
                    self._add_target(row)
                return
            written: list[tuple[Any, ...]] = list(rows)
            if table == "jobs":
                written = [(self._keys[name], job_id.encode(), *row) for name, job_id, *row in written]
            elif table in OWNED:
                written = [(self._keys[name], *row) for name, *row in written]
            columns = _COLUMNS[table] if table == BREAKERS else f"target, {_COLUMNS[table]}"
            copy = f"COPY {SCHEMA}.{table} ({columns}) FROM STDIN (FORMAT BINARY)"
            with self._connection.cursor() as cursor, cursor.copy(copy) as sink:
                sink.set_types(_TYPES[table].split())
                for row in written:
                    sink.write_row(row)

    def _add_target(self, row: Row) -> None:
        places = ", ".join(["%s"] * len(row))
        statement = f"INSERT INTO {SCHEMA}.targets ({_COLUMNS[TARGETS]}) VALUES ({places}) RETURNING id"
        made = self._connection.execute(statement, row).fetchone()
        self._keys[str(row[0])] = made[0]  # type: ignore[index]  # RETURNING gives a row

    def finish(self) -> None:
        """Nothing is left to do."""
