"""The default store: one SQLite file, one process.

WAL with ``synchronous=FULL``: a commit that returned survives a crash of the process and of the machine.
The process holds locks for its life, so that two exporters cannot count into one file (``files.py``); readers
may look at the same time. Rows that are read must have the checksum written with them (``checksums.py``).
Every fault of SQLite becomes one StoreError that says what to do.
"""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec

from exporter.errors import (
    ScopeChangedError,
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
)
from exporter.ledger import Job, StoredLedger, Times
from exporter.process import exhausted
from exporter.store import checksums, files, schema, wal
from exporter.store.base import Commit
from exporter.store.checksums import ChecksumError
from exporter.store.files import StoreFiles, resolved
from exporter.units import MINUTE

_OPEN_FILES = 4
"""As many as SQLite opens at once: the database, its -wal and -shm, the folder."""

BUSY_TIMEOUT_SECONDS = 1.0
"""Shorter than shutdown may take; whoever holds the store for longer is told of, and tried again."""

STEP = 10_000
"""Jobs that are read at a time: about a megabyte."""

_IDS = msgspec.json.Decoder(list[str])
_CRCS = msgspec.json.Decoder(list[int])
_JOBS = msgspec.json.Decoder(list[Job])

_OUTSIDE = ("BUSY", "LOCKED", "FULL", "READONLY", "CANTOPEN", "PERM", "IOERR", "NOMEM", "INTERRUPT")
"""Codes of SQLite whose reason is not what stands in the file. While reading, every other one is damage.

So is ``READONLY`` without an addition: we could open the file for writing, but its header forbids it.
"""


class SqliteStore:
    """See ``base.Store``. Opening it creates the file when there is none, and never overwrites another."""

    def __init__(self, path: Path) -> None:
        self._path = path = resolved(path)
        self._ids: dict[str, int] = {}
        self._files = StoreFiles(path)
        try:
            self._open()
            self._files.opened()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with _reading(self._path):
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
        with _reading(self._path):
            row = self.db.execute(schema.GET_TARGET, (target,)).fetchone()
            if row is None:
                return StoredLedger()
            key, stored_scope, project_id, version, *stamps, last_complete_poll, buckets = row
            checksums.check(self.db, "targets", "id = ?", key)
            checksums.check_sum(self.db, key)
            if stored_scope != scope:
                raise ScopeChangedError(
                    f"{self._path}: target {target!r} was counted for {stored_scope} and is now configured"
                    f" for {scope}: use a new target name, so that different things are not added up"
                )
            self._ids[target] = key
            times = _times(stamps)
            # After downtime, or with a wrong clock of ours, what is kept follows the books' own time.
            since = ((now if times is None else min(now, times.settled_until)) - keep) // MINUTE
            checksums.check(self.db, "totals", "target = ?", key)
            checksums.check(self.db, "label_sets", "target = ?", key)
            checksums.check(self.db, "minutes", "target = ? AND minute >= ?", key, since)
            return StoredLedger(
                version=version,
                project_id=project_id,
                times=times,
                jobs=self._jobs(key),
                totals={
                    (name, job_type, service, detail): int(value)
                    for name, job_type, service, detail, value in self.db.execute(schema.GET_TOTALS, (key,))
                },
                label_sets=tuple(
                    self.db.execute(
                        "SELECT job_type, tts_service_enum FROM label_sets WHERE target = ? ORDER BY place",
                        (key,),
                    )
                ),
                minutes=tuple(self.db.execute(schema.GET_MINUTES, (key, since))),
                last_complete_poll=last_complete_poll,
                buckets=msgspec.json.decode(buckets, type=dict[str, tuple[int, ...]]),
            )

    def _jobs(self, key: int) -> dict[str, Job]:
        """All remembered jobs, by way of JSON: less work than row by row, and the types are checked."""
        jobs: dict[str, Job] = {}
        texts: dict[str, str] = {}
        same = texts.setdefault
        rows = self.db.execute("SELECT count(*) FROM jobs WHERE target = ?", (key,)).fetchone()[0]
        last = (-(2**63), "")
        for _ in range(0, rows, STEP):
            ids, fields, crcs = self.db.execute(schema.GET_JOBS, (key, *last, STEP)).fetchone()
            names, step = _IDS.decode(ids), _JOBS.decode(fields)
            if not step or checksums.row_crcs(key, names, step) != _CRCS.decode(crcs):
                raise ChecksumError
            for job in step:  # equal texts shall be one object: there may be a million jobs, with few labels
                job.state = same(job.state, job.state)
                job.job_type = same(job.job_type, job.job_type)
                job.tts_service_enum = same(job.tts_service_enum, job.tts_service_enum)
            jobs.update(zip(names, step, strict=True))
            last = (step[-1].created, names[-1])
        if len(jobs) != rows:
            raise ChecksumError  # two rows of one job
        return jobs

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        with _errors(self._path), self._transaction():
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
        times = changes.times
        stamps: tuple[int | None, ...] = (None,) * 5
        if times is not None:
            stamps = (
                times.baseline,
                times.settled_until,
                times.evicted_until,
                times.history,
                times.catching_up,
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
        db.executemany(schema.ADD_MINUTE, ((key, *minute, *add) for minute, add in changes.minutes.items()))
        db.executemany(schema.PUT_LABEL_SET, ((key, *label_set) for label_set in changes.label_sets))
        db.execute(schema.PRUNE_MINUTES, (key, commit.keep_minutes_since // MINUTE))
        held = (commit.project_id, *stamps, commit.last_complete_poll, buckets)
        if db.execute(schema.UPDATE_TARGET, (*held, self._sum.change, key, commit.version)).rowcount != 1:
            raise StoreConflictError(f"{self._path}: somebody else committed to these books")
        db.execute(schema.SEAL_TARGET, (key,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
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
        with _reading(self._path):
            return dict(self.db.execute("SELECT credentials, state FROM breakers"))

    def save_breakers(self, breakers: dict[str, str]) -> None:
        with _errors(self._path), self._transaction():
            self.db.execute("DELETE FROM breakers")
            self.db.executemany(schema.PUT_BREAKER, breakers.items())

    def close(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
        self._files.close()


def _times(stamps: list[int | None]) -> Times | None:
    baseline, settled_until, forgotten, history, catching_up = stamps
    if baseline is None or settled_until is None or forgotten is None or history is None:
        return None
    return Times(baseline, settled_until, forgotten, history, catching_up or 0)


def examine(path: Path) -> None:
    """What would keep ``SqliteStore`` from opening or loading it, without changing it. Raises StoreError.

    What a log beside the database holds is not looked at.
    """
    path = resolved(path)
    if files.examine(path):
        # Without locks, and without files beside it: nobody has it open.
        address = f"{path.as_uri()}?immutable=1"
        with _reading(path), closing(sqlite3.connect(address, uri=True)) as db:
            checksums.register(db)
            if _version(db, path) == schema.SCHEMA_VERSION:
                _verify(db)
                checksums.check_all(db)


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Is the file ours, readable and of a version we know? Makes the tables in an empty one."""
    if (version := _version(db, path)) == 0:
        with closing(db.cursor()) as cursor:
            cursor.executescript(
                f"BEGIN IMMEDIATE; {schema.CREATE} PRAGMA application_id = {schema.APPLICATION_ID};"
                f" PRAGMA user_version = {schema.SCHEMA_VERSION}; COMMIT;"
            )
        return
    _upgrade(db, version)
    _verify(db)


def _verify(db: sqlite3.Connection) -> None:
    checksums.check(db, "targets")
    checksums.check(db, "breakers")
    checksums.check_owners(db)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Of our tables, 0 for an empty file. Raises StoreError, ChecksumError."""
    application_id = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    tables = _tables(db)
    if application_id == 0 and version == 0 and not tables:
        return 0
    complete = tables >= _our_tables()
    if application_id != schema.APPLICATION_ID and not complete:
        raise StoreCorruptError(
            f"{path}: this SQLite file belongs to another program: choose another storage.url"
        )
    if version > schema.SCHEMA_VERSION:
        raise StoreVersionError(
            f"{path}: written by a newer version of this exporter (store version {version}, this one knows"
            f" {schema.SCHEMA_VERSION}): upgrade the exporter, or choose another storage.url; if no newer"
            " version ever ran here, the file is damaged: move it away"
        )
    if (
        db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok"  # order and indexes too
        or application_id != schema.APPLICATION_ID
        or version < 1
        or complete != (version == schema.SCHEMA_VERSION)
    ):
        raise ChecksumError
    return int(version)


def _tables(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _our_tables() -> set[tuple[str, ...]]:
    """What a file of this version holds."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema.CREATE)
        return _tables(db)


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


def _damaged(path: Path) -> str:
    return (
        f"{path}: the store is damaged and was left as it is: move it away to start new books"
        " (an honest reset), together with its -wal and -shm files, or restore a copy taken while the"
        " exporter was stopped"
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Where what was written is read: anything else than that is damage."""
    with _errors(path):
        try:
            yield
        except (ChecksumError, ValueError, TypeError):  # a value of another kind than any that we write
            raise StoreCorruptError(_damaged(path)) from None
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_READONLY" or not name.removeprefix("SQLITE_").startswith(_OUTSIDE):
                raise StoreCorruptError(_damaged(path)) from None
            raise


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """SQLite's faults, told apart by their code, as one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreCorruptError(_damaged(path)) from None
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreLockedError(f"{path}: another program holds a lock on the store: end it") from None
        if missing := _exhausted(error, name, path):
            raise StoreError(f"{path}: {missing}") from None
        if name.startswith("SQLITE_FULL"):
            raise StoreError(f"{path}: no space left on the device: nothing was changed, free some") from None
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise StoreError(
                f"{path}: cannot be opened for writing: check the permissions of the file and its folder"
            ) from None
        raise StoreError(f"{path}: {error} ({name or type(error).__name__}): nothing was changed") from None


def _exhausted(error: sqlite3.Error, name: str, path: Path) -> str | None:
    """What this process has no more of, where SQLite's code does not say it."""
    if name.startswith("SQLITE_NOMEM"):
        return exhausted(MemoryError())
    if name.startswith("SQLITE_CANTOPEN"):
        with ExitStack() as opened:
            try:
                for _ in range(_OPEN_FILES):
                    opened.callback(os.close, os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as failed:
                return exhausted(failed)
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) and largest != resource.RLIM_INFINITY:
        return (
            f"{error} ({name}), while no file may be larger than {largest} bytes: raise that limit"
            " (ulimit -f, LimitFSIZE=)"
        )
    return None
