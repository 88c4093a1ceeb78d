"""All rows of a SQLite store, for ``store copy``: see ``rows.py``.

The file is locked as by an exporter. A row that is read must have the checksum written with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from exporter.errors import StoreError, StoreVersionError
from exporter.store import checksums, files, schema
from exporter.store.loading import STEP
from exporter.store.reading import sqlite_store_version
from exporter.store.rows import BREAKERS, KEYS, LABEL_SETS, OWNED, TARGETS, Row
from exporter.store.sqlite import SqliteStore
from exporter.store.sqlite_errors import while_reading, while_writing
from exporter.store.sqlite_past import reading_beside

_COLUMNS: Final = {table: columns.partition(", ")[2] for table, columns in checksums.COLUMNS.items()}
"""Without the target."""
_TARGET: Final = _COLUMNS[TARGETS].removesuffix(", rows_sum")
_BREAKERS: Final = f"FROM breakers WHERE credentials != {checksums.SUM_KEY}"
_READ: Final = {
    TARGETS: f"SELECT {_TARGET} FROM targets ORDER BY name",
    BREAKERS: f"SELECT {_COLUMNS[BREAKERS]} {_BREAKERS} ORDER BY credentials",
    **{
        table: f"SELECT {_COLUMNS[table]} FROM {table} WHERE target = ? ORDER BY {keys}"
        for table, keys in KEYS.items()
    },
}


def _insert(table: str, columns: str) -> str:
    placeholders = ", ".join(f"?{number}" for number, _ in enumerate(columns.split(", "), 1))
    return f"INSERT INTO {table} ({columns}, crc) VALUES ({placeholders}, row_crc({placeholders}))"


_WRITE: Final = {
    TARGETS: f"INSERT INTO targets ({_TARGET}) VALUES ({', '.join('?' * len(_TARGET.split(', ')))})",
    BREAKERS: schema.PUT_BREAKER,
    **{table: _insert(table, checksums.COLUMNS[table]) for table in OWNED},
}


@contextmanager
def sqlite_source(path: Path) -> Iterator[SqliteRows]:
    """The rows of a file, which is not changed. Raises StoreError, also while an exporter uses it."""
    path = files.resolved(path)
    if not path.exists():
        raise StoreError(f"{path}: there is no store")
    if _version(path) == 0:
        raise StoreError(f"{path}: is empty: there is nothing to copy")
    store = SqliteStore(path)
    try:
        rows = SqliteRows(store.db, path)
        with while_reading(path):
            rows.check()
        yield rows
    finally:
        store.close()


@contextmanager
def sqlite_target(path: Path) -> Iterator[SqliteRows]:
    """Rows that are written at the end of the block, or none. Raises StoreError, also for a file that holds
    anything. Where there was no file, there is none after an error.
    """
    path = files.resolved(path)
    new = not path.exists()
    if not new:
        _version(path)
    store = SqliteStore(path)
    try:
        rows = SqliteRows(store.db, path)
        rows.refuse_books()
        with while_writing(path), store.transaction():
            yield rows
    except BaseException:
        store.db.close()
        for suffix in ("", "-wal", "-shm", ".lock") if new else ():
            with suppress(OSError):
                path.with_name(path.name + suffix).unlink()
        raise
    finally:
        store.close()


def _version(path: Path) -> int:
    """Of its tables: ours, or 0 where there are none. Raises StoreError. Nothing is changed."""
    if path.stat().st_size == 0:
        return 0
    with reading_beside(path) as db:
        version = sqlite_store_version(db, path)
    if version not in (0, schema.SCHEMA_VERSION):
        raise StoreVersionError(
            f"{path}: written by a former version of this exporter (store version {version}, this one has"
            f" {schema.SCHEMA_VERSION}): start this version on it once, and stop it"
        )
    return version


class SqliteRows:
    """See ``rows.StoredRows``."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = db, path
        self.address = str(path)

    def check(self) -> None:
        """Is all there, as it was written? Raises ChecksumError, sqlite3.Error."""
        for table in OWNED:
            checksums.check_rows(self._db, table)
        for key, _ in self._targets():
            checksums.check_sum(self._db, key)

    def count(self) -> int:
        counts = (f"(SELECT count(*) FROM {table})" for table in (TARGETS, *OWNED))
        query = f"SELECT {' + '.join(counts)} + (SELECT count(*) {_BREAKERS})"
        return int(self._db.execute(query).fetchone()[0])

    def refuse_books(self) -> None:
        """Raises StoreError where anything is held."""
        if self.count():
            raise StoreError(f"{self.address}: holds books already: copy to a file that does not exist")

    def _targets(self) -> list[tuple[int, str]]:
        return self._db.execute("SELECT id, name FROM targets ORDER BY name").fetchall()

    def read(self, table: str) -> Iterator[list[Row]]:
        with while_reading(self._path):
            if table not in OWNED:
                yield from _steps(self._db.execute(_READ[table]))
                return
            for key, name in self._targets():
                position = 0
                for rows in _steps(self._db.execute(_READ[table], (key,))):
                    if table == LABEL_SETS:
                        rows = [(*row[:-1], position + number) for number, row in enumerate(rows)]
                        position += len(rows)
                    yield [(name, *row) for row in rows]

    def write(self, table: str, rows: list[Row]) -> None:
        if table in OWNED:
            keys = {name: key for key, name in self._targets()}
            rows = [(keys[str(name)], *row) for name, *row in rows]
        self._db.executemany(_WRITE[table], rows)

    def finish(self) -> None:
        self._db.execute(f"DELETE FROM breakers WHERE credentials = {checksums.SUM_KEY}")
        self._db.execute(schema.PUT_BREAKERS_SUM)
        checksums.seal(self._db)


def _steps(cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
    while rows := cursor.fetchmany(STEP):
        yield rows
