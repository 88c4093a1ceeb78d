"""Reads what is in a SQLite store, and compares it with its checksums.

Knows the tables; must not know how the file was opened. A start and ``check`` read by the same functions.
Equal labels become one object (``intern``): there may be a million jobs, and hundreds of targets, with few.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from sys import intern
from typing import Final, TypeVar

import msgspec

from exporter.errors import StoreCorruptError, StoreVersionError
from exporter.ledger import Job, StoredLedger, Watermarks, series_labels, total_key
from exporter.store import checksums, schema
from exporter.store.checksums import ChecksumError
from exporter.store.loading import STEP, check_scope, first_minute
from exporter.store.past import MinuteCount

_NAMES: Final = msgspec.json.Decoder(list[str])
_NUMBERS: Final = msgspec.json.Decoder(list[int])
_JOBS: Final = msgspec.json.Decoder(list[Job])
_TOTALS: Final = msgspec.json.Decoder(list[tuple[str, str, str, int]])
_LABEL_SETS: Final = msgspec.json.Decoder(list[tuple[str, int]])
_MINUTES: Final = msgspec.json.Decoder(list[tuple[str, str, str, str, int, int, int | None]])

_Name = TypeVar("_Name", bound=str | int)
_Others = TypeVar("_Others", bound=tuple[str | int | None, ...] | Job)


def load_target(
    db: sqlite3.Connection, path: Path, target: str, scope: str, now: int, keep: int
) -> tuple[int, StoredLedger] | None:
    """Its row id and its ledger, as ``base.Store.load`` has it; ``None`` when it was never committed.

    Raises StoreError, and what ``sqlite_errors.while_reading`` takes for damage.
    """
    row = db.execute(schema.GET_TARGET, (target,)).fetchone()
    if row is None:
        return None
    key, stored_scope, project_id, version, *stamps, last_complete_poll, buckets = row
    checksums.check_rows(db, "targets", "id = ?", key)
    checksums.check_sum(db, key)
    check_scope(str(path), target, stored_scope, scope)
    stored = StoredLedger(
        version=version,
        project_id=project_id,
        watermarks=_watermarks(stamps),
        jobs=_jobs(db, key),
        totals={
            total_key(name, job_type, service, detail): value
            for name, (job_type, service, detail, value) in _rows(
                db, schema.GET_TOTALS, (key,), _NAMES, _TOTALS
            )
        },
        label_sets=tuple(
            (job_type, service)
            for job_type, (service, _) in _rows(db, schema.GET_LABEL_SETS, (key,), _NAMES, _LABEL_SETS)
        ),
        last_complete_poll=last_complete_poll,
        buckets=msgspec.json.decode(buckets, type=dict[str, tuple[int, ...]]),
    )
    minutes = tuple(
        (minute, series_labels(job_type, service, state), number)
        for minute, (job_type, service, state, _, number, _, _) in _rows(
            db, schema.GET_MINUTES, (key, first_minute(stored, now, keep)), _NUMBERS, _MINUTES
        )
    )
    return key, msgspec.structs.replace(stored, minutes=minutes)


def _rows(
    db: sqlite3.Connection,
    query: str,
    values: tuple[int, *tuple[int | str, ...]],
    names: msgspec.json.Decoder[list[_Name]],
    others: msgspec.json.Decoder[list[_Others]],
) -> list[tuple[_Name, _Others]]:
    """What ``schema`` makes JSON of: less work than row by row, and the types are checked."""
    name_column, other_columns, crcs = db.execute(query, values).fetchone()
    found, rest = names.decode(name_column), others.decode(other_columns)
    if checksums.row_crcs(values[0], found, rest) != _NUMBERS.decode(crcs):
        raise ChecksumError
    return list(zip(found, rest, strict=True))


def _jobs(db: sqlite3.Connection, key: int) -> dict[str, Job]:
    """All remembered jobs, in order of creation."""
    jobs: dict[str, Job] = {}
    rows = db.execute("SELECT count(*) FROM jobs WHERE target = ?", (key,)).fetchone()[0]
    last = (-(2**63), "")
    for _ in range(0, rows, STEP):
        step = _rows(db, schema.GET_JOBS, (key, *last, STEP), _NAMES, _JOBS)
        if not step:
            raise ChecksumError
        for _, job in step:
            job.state, job.job_type = intern(job.state), intern(job.job_type)
            job.tts_service_enum = intern(job.tts_service_enum)
        jobs.update(step)
        last_id, last_job = step[-1]
        last = (last_job.created, last_id)
    if len(jobs) != rows:
        raise ChecksumError  # two rows of one job
    return jobs


def _watermarks(stamps: list[int | None]) -> Watermarks | None:
    baseline, settled_until, evicted_until, history, catching_up = stamps
    if baseline is None or settled_until is None or evicted_until is None or history is None:
        return None
    return Watermarks(baseline, settled_until, evicted_until, history, catching_up or 0)


def sqlite_minutes(
    db: sqlite3.Connection, key: int, since: int, until: int
) -> dict[int, dict[tuple[str, str, str, str], MinuteCount]]:
    """What was counted in the minutes from ``since`` to before ``until``. Raises ChecksumError."""
    minutes: dict[int, dict[tuple[str, str, str, str], MinuteCount]] = {}
    for minute, (job_type, service, state, detail, jobs, characters, ids) in _rows(
        db, schema.GET_MINUTES_OF, (key, since, until), _NUMBERS, _MINUTES
    ):
        labels = intern(job_type), intern(service), intern(state), intern(detail)
        minutes.setdefault(minute, {})[labels] = MinuteCount(jobs, characters, ids)
    return minutes


def sqlite_open_jobs(db: sqlite3.Connection, key: int, since: int, until: int) -> dict[str, Job]:
    """The open ones created from ``since`` to before ``until``, milliseconds. Raises ChecksumError."""
    found = _rows(db, schema.GET_JOBS_OF, (key, since, until), _NAMES, _JOBS)
    return {job_id: job for job_id, job in found if job.open}


def verify(db: sqlite3.Connection) -> None:
    """What belongs to no target alone. Raises ChecksumError, sqlite3.Error."""
    checksums.check_rows(db, "targets")
    checksums.check_rows(db, "breakers")
    checksums.check_breakers(db)
    checksums.check_owners(db)


def sqlite_store_version(db: sqlite3.Connection, path: Path) -> int:
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
    """The tables of a file of this version."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema.CREATE)
        return _tables(db)
