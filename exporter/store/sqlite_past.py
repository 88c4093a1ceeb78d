"""Reads what a SQLite store says of the past, beside an exporter that may be writing to it.

Knows how a file is read without disturbing its owner: each read is one short transaction on a connection that
cannot write, so that no log grows for it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from exporter.errors import NoStoreError, NothingCountedError, StoreError
from exporter.process import reason
from exporter.store import checksums, schema
from exporter.store.files import resolved
from exporter.store.past import CountedPast
from exporter.store.reading import load_target, sqlite_minutes, sqlite_open_jobs, sqlite_store_version
from exporter.store.repository import check_project
from exporter.store.sqlite_errors import while_reading
from exporter.units import MINUTE

_AS_WHOM: Final = "run this as the user that the exporter runs as"


class SqlitePast:
    """See ``past.StoredPast``. Raises StoreError: missing, damaged, newer, or counted for something else."""

    def __init__(self, path: Path, target: str, scope: str, project_id: str | None) -> None:
        self._path = path = resolved(path)
        with reading_beside(path) as db:
            version = sqlite_store_version(db, path)
            if version != schema.SCHEMA_VERSION:
                raise StoreError(
                    f"{path}: written by a former version of this exporter, or empty: start the exporter once"
                )
            found = load_target(db, path, target, scope, 0, 0)
        if found is None or found[1].watermarks is None:
            raise NothingCountedError(f"{path}: nothing was counted for target {target!r} yet")
        if found[1].project_id:
            check_project(target, project_id or "", found[1].project_id)
        self._key, self.ledger = found

    def read(self, since: int, until: int) -> CountedPast:
        """What is counted now of jobs created from ``since`` to before ``until``: whole minutes, in ms."""
        with reading_beside(self._path) as db:
            db.execute("BEGIN")
            minutes = sqlite_minutes(db, self._key, since // MINUTE, until // MINUTE)
            return CountedPast(minutes, sqlite_open_jobs(db, self._key, since, until))


@contextmanager
def reading_beside(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, beside an exporter that may. Raises StoreError, NoStoreError."""
    files = [file.name for file in stored_files(path)]
    if path.name not in files:
        kind = StoreError if files else NoStoreError
        raise kind(f"{path}: there is no store: nothing was counted with this configuration on this machine")
    # Without a -wal file no exporter has it open. "immutable": SQLite makes no files beside it, which another
    # user would own.
    uri = f"{path.as_uri()}?{'mode=ro' if f'{path.name}-wal' in files else 'immutable=1'}"
    with while_reading(path), closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
        checksums.register(db)
        yield db


def stored_files(path: Path) -> list[Path]:
    """The database and its log, as far as they exist. Raises StoreError for those that cannot be read."""
    path = resolved(path)
    files = []
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        try:
            regular = stat.S_ISREG(file.stat().st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"{file}: cannot be read ({reason(error)}): {_AS_WHOM}") from None
        if not regular:
            raise StoreError(f"{file}: is not a regular file, so no exporter can use this store")
        if not os.access(file, os.R_OK):
            raise StoreError(f"{file}: cannot be read ({os.strerror(errno.EACCES)}): {_AS_WHOM}")
        files.append(file)
    return files
