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
from typing import Final, NamedTuple

from exporter.errors import StoreError
from exporter.ledger import Job, StoredLedger
from exporter.process import reason
from exporter.store import checksums, schema
from exporter.store.files import resolved
from exporter.store.reading import MinuteCount, load_minutes, load_open_jobs, load_target, stored_version
from exporter.store.repository import check_project
from exporter.store.sqlite_errors import reading
from exporter.units import MINUTE

_AS_WHOM: Final = "run this as the user that the exporter runs as"


class CountedPast(NamedTuple):
    """What one read found of a stretch of creation time."""

    minutes: dict[int, dict[tuple[str, str, str, str], MinuteCount]]
    """Minute since 1970 -> (job_type, tts_service_enum, state, class or reason) -> jobs that ended."""
    open_jobs: dict[str, Job]


class StoredPast:
    """The past of one target. Raises StoreError: missing, damaged, newer, or counted for something else."""

    def __init__(self, path: Path, target: str, scope: str, project_id: str | None = None) -> None:
        self._path = path = resolved(path)
        with self._connection() as db:
            version = stored_version(db, path)
            if version != schema.SCHEMA_VERSION:
                raise StoreError(
                    f"{path}: written by a former version of this exporter, or empty: start the exporter once"
                )
            found = load_target(db, path, target, scope, 0, 0)
        if found is None or found[1].watermarks is None:
            raise StoreError(f"{path}: nothing was counted for target {target!r} yet")
        if found[1].project_id:
            check_project(target, project_id or "", found[1].project_id)
        self._key, self.ledger = found

    ledger: StoredLedger
    """As it was at the beginning; of its minutes the last only."""

    def read(self, since: int, until: int) -> CountedPast:
        """What is counted now of jobs created from ``since`` to before ``until``: whole minutes, in ms."""
        with self._connection() as db:
            db.execute("BEGIN")
            minutes = load_minutes(db, self._key, since // MINUTE, until // MINUTE)
            return CountedPast(minutes, load_open_jobs(db, self._key, since, until))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        path = self._path
        files = [file.name for file in stored_files(path)]
        if path.name not in files:
            raise StoreError(
                f"{path}: there is no store: nothing was counted with this configuration on this machine"
            )
        # Without a log nobody has it open: no files are made beside it, which the exporter might not own.
        address = f"{path.as_uri()}?{'mode=ro' if f'{path.name}-wal' in files else 'immutable=1'}"
        with (
            reading(path),
            closing(sqlite3.connect(address, uri=True, isolation_level=None)) as db,
        ):
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
