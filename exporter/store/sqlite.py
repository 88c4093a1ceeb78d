"""The default store: one SQLite file, one process.

WAL with ``synchronous=FULL``: a commit that returned survives a crash of the process and of the machine. The
process holds locks for its life, so that two exporters cannot count into one file (``files.py``); other
programs may read at the same time. Rows that are read must have the checksum written with them
(``checksums.py``). Every fault of SQLite becomes one StoreError that says what to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from exporter.errors import StoreConflictError
from exporter.ledger import StoredLedger
from exporter.store import checksums, files, schema, wal
from exporter.store.base import Commit
from exporter.store.checksums import ChecksumError
from exporter.store.files import StoreFiles, resolved
from exporter.store.loading import FormerStore, FoundLedger
from exporter.store.reading import load_target, sqlite_store_version, verify
from exporter.store.sqlite_errors import while_reading, while_writing
from exporter.units import MINUTE

BUSY_TIMEOUT_SECONDS = 1.0
"""Shorter than shutdown may take. A store that is locked for longer is an error, and tried again."""


class SqliteStore:
    """See ``base.Store``. Opening it creates the file when there is none, and never overwrites another."""

    def __init__(self, path: Path) -> None:
        self._path = path = resolved(path)
        self.address = str(path)
        self._ids: dict[str, int] = {}
        self._files = StoreFiles(path)
        try:
            self._open()
            self._files.add_files_of_sqlite()
            self.exposed = files.exposed_files(path, opened=True)
            """What cannot be made private of its files, if anything."""
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with while_reading(self._path):
            # Before SQLite sees the log: it would empty it.
            if wal.has_lost_commits(self._path.with_name(self._path.name + "-wal")):
                raise ChecksumError
            self.db = db = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
            )
            """The only connection to the file; whoever writes by it must keep the checksums right."""
            self._sum = checksums.RowsSum(db)
            _check(db, self._path)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            # SQLite opens a file that may only be read without a word: find out now, not at a commit.
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
            db.execute("ROLLBACK")

    def load(self, target: str, scope: str, now: int, keep: int) -> StoredLedger:
        self._files.check()
        with while_reading(self._path):
            found = load_target(self.db, self._path, target, scope, now, keep)
        if found is None:
            return StoredLedger()
        self._ids[target], stored = found
        return stored

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        with while_writing(self._path), self.transaction():
            key = self._ids.get(target)
            if commit.version == 0:
                key = self._create(target, scope)
            if key is None:
                raise StoreConflictError(
                    f"{self._path}: target {target!r} was committed before it was loaded"
                )
            self._write(key, commit)
        self._ids[target] = key

    def _create(self, target: str, scope: str) -> int:
        if self.db.execute("SELECT 1 FROM targets WHERE name = ?", (target,)).fetchone():
            raise StoreConflictError(f"{self._path}: target {target!r} was started by somebody else")
        cursor = self.db.execute(
            "INSERT INTO targets (name, scope, project_id, version, buckets) VALUES (?, ?, '', 0, '{}')",
            (target, scope),
        )
        return int(cursor.lastrowid or 0)

    def _write(self, key: int, commit: Commit) -> None:
        changes, db = commit.changes, self.db
        watermarks = changes.watermarks
        stamps: tuple[int | None, ...] = (None,) * 5
        if watermarks is not None:
            stamps = (
                watermarks.baseline,
                watermarks.settled_until,
                watermarks.evicted_until,
                watermarks.history,
                watermarks.catching_up,
            )
        buckets = msgspec.json.encode(commit.buckets).decode()
        db.executemany(schema.DELETE_JOB, ((key, created, job_id) for job_id, created in changes.evicted))
        db.executemany(
            schema.PUT_JOB,
            ((key, job_id, *msgspec.structs.astuple(job)) for job_id, job in changes.jobs.items()),
        )
        db.executemany(
            schema.PUT_TOTAL,
            ((key, *total, value) for total, value in changes.totals.items() if value is not None),
        )
        db.executemany(
            schema.DELETE_TOTAL, ((key, *total) for total, value in changes.totals.items() if value is None)
        )
        db.executemany(
            schema.ADD_MINUTE,
            (
                (key, *minute, *add, changes.minute_ids.get(minute, 0))
                for minute, add in changes.minutes.items()
            ),
        )
        db.executemany(schema.PUT_LABEL_SET, ((key, *label_set) for label_set in changes.label_sets))
        db.execute(schema.PRUNE_MINUTES, (key, commit.keep_minutes_since // MINUTE))
        held = (commit.project_id, *stamps, commit.last_complete_poll, buckets)
        if db.execute(schema.UPDATE_TARGET, (*held, self._sum.change, key, commit.version)).rowcount != 1:
            raise StoreConflictError(f"{self._path}: somebody else committed to these books")
        db.execute(schema.SEAL_TARGET, (key,))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written by ``db``. Raises StoreError, sqlite3.Error."""
        self._files.check()
        self.db.execute("BEGIN IMMEDIATE")
        self._sum.change = 0
        try:
            yield
            self._files.check()
            self.db.execute("COMMIT")
            self._files.committed()
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def load_breakers(self) -> dict[str, str]:
        with while_reading(self._path):
            return dict(self.db.execute(schema.GET_BREAKERS))

    def save_breakers(self, breakers: dict[str, str]) -> None:
        with while_writing(self._path), self.transaction():
            self.db.execute("DELETE FROM breakers")
            self.db.executemany(schema.PUT_BREAKER, breakers.items())
            self.db.execute(schema.PUT_BREAKERS_SUM)

    def command_asks(self, credentials: str) -> bool:
        return self._files.command_asks(credentials)

    def close(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
        self._files.close()


def examine_sqlite(
    path: Path, scopes: Mapping[str, str], now: int, keep: int
) -> Iterator[FoundLedger | FormerStore]:
    """What would keep ``SqliteStore`` from opening it, or from loading these targets. Raises StoreError.

    Changes nothing. Yields each target's ledger, as far as there is one. What a log beside the database holds
    is not read.
    """
    path = resolved(path)
    if not files.examine_files(path):
        return
    # Without locks, and without files beside it: nobody has it open.
    uri = f"{path.as_uri()}?immutable=1"
    with while_reading(path), closing(sqlite3.connect(uri, uri=True)) as db:
        checksums.register(db)
        if (version := sqlite_store_version(db, path)) != schema.SCHEMA_VERSION:
            if version:  # or else a start makes the tables
                yield FormerStore(str(path), version, schema.SCHEMA_VERSION)
            return
        verify(db)
        for target, scope in scopes.items():
            if (found := load_target(db, path, target, scope, now, keep)) is not None:
                yield FoundLedger(str(path), target, found[1])


def exposed_sqlite_files(path: Path) -> str | None:
    """What a start could not make private of the files, if anything."""
    return files.exposed_files(resolved(path), opened=False)


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Is the file ours, readable and of a version we know? Makes the tables in an empty one."""
    if (version := sqlite_store_version(db, path)) == 0:
        with closing(db.cursor()) as cursor:
            cursor.executescript(
                f"BEGIN IMMEDIATE; {schema.CREATE} PRAGMA application_id = {schema.APPLICATION_ID};"
                f" PRAGMA user_version = {schema.SCHEMA_VERSION}; COMMIT;"
            )
        return
    _upgrade(db, version)
    verify(db)


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    """From a former version's tables to ours, all or nothing."""
    if version == schema.SCHEMA_VERSION:
        return
    steps = "".join(schema.UPGRADES[former] for former in range(version, schema.SCHEMA_VERSION))
    try:
        with closing(db.cursor()) as cursor:
            cursor.executescript(f"BEGIN IMMEDIATE; {steps}")
        checksums.write_all(db)
        db.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
