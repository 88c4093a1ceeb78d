"""Reads what is in a SQLite store, and compares it with its checksums.

Knows the tables; must not know how the file was opened. A start and ``check`` read by the same functions.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from exporter.errors import ScopeChangedError, StoreCorruptError, StoreVersionError
from exporter.ledger import Job, StoredLedger, Watermarks
from exporter.store import checksums, schema
from exporter.store.checksums import ChecksumError
from exporter.units import MINUTE

STEP: Final = 10_000
"""Jobs that are read at a time: about a megabyte."""

_IDS: Final = msgspec.json.Decoder(list[str])
_CRCS: Final = msgspec.json.Decoder(list[int])
_JOBS: Final = msgspec.json.Decoder(list[Job])


def load_target(
    db: sqlite3.Connection, path: Path, target: str, scope: str, now: int, keep: int
) -> tuple[int, StoredLedger] | None:
    """Its row id and its ledger, as ``base.Store.load`` has it; ``None`` when it was never committed.

    Raises StoreError, and what ``sqlite_errors.reading`` takes for damage.
    """
    row = db.execute(schema.GET_TARGET, (target,)).fetchone()
    if row is None:
        return None
    key, stored_scope, project_id, version, *stamps, last_complete_poll, buckets = row
    checksums.check_rows(db, "targets", "id = ?", key)
    checksums.check_sum(db, key)
    if stored_scope != scope:
        raise ScopeChangedError(
            f"{path}: target {target!r} was counted for {stored_scope} and is now configured"
            f" for {scope}: use a new target name, so that different things are not added up"
        )
    watermarks = _watermarks(stamps)
    # After downtime, or with a wrong clock of ours, what is kept follows the time that counting goes by.
    since = ((now if watermarks is None else min(now, watermarks.settled_until)) - keep) // MINUTE
    checksums.check_rows(db, "totals", "target = ?", key)
    checksums.check_rows(db, "label_sets", "target = ?", key)
    checksums.check_rows(db, "minutes", "target = ? AND minute >= ?", key, since)
    return key, StoredLedger(
        version=version,
        project_id=project_id,
        watermarks=watermarks,
        jobs=_jobs(db, key),
        totals={
            (name, job_type, service, detail): int(value)
            for name, job_type, service, detail, value in db.execute(schema.GET_TOTALS, (key,))
        },
        label_sets=tuple(db.execute(schema.GET_LABEL_SETS, (key,))),
        minutes=tuple(db.execute(schema.GET_MINUTES, (key, since))),
        last_complete_poll=last_complete_poll,
        buckets=msgspec.json.decode(buckets, type=dict[str, tuple[int, ...]]),
    )


def _jobs(db: sqlite3.Connection, key: int) -> dict[str, Job]:
    """All remembered jobs, by way of JSON: less work than row by row, and the types are checked."""
    jobs: dict[str, Job] = {}
    texts: dict[str, str] = {}
    same = texts.setdefault
    rows = db.execute("SELECT count(*) FROM jobs WHERE target = ?", (key,)).fetchone()[0]
    last = (-(2**63), "")
    for _ in range(0, rows, STEP):
        ids, fields, crcs = db.execute(schema.GET_JOBS, (key, *last, STEP)).fetchone()
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


def _watermarks(stamps: list[int | None]) -> Watermarks | None:
    baseline, settled_until, evicted_until, history, catching_up = stamps
    if baseline is None or settled_until is None or evicted_until is None or history is None:
        return None
    return Watermarks(baseline, settled_until, evicted_until, history, catching_up or 0)


def verify(db: sqlite3.Connection) -> None:
    """What belongs to no target alone. Raises ChecksumError, sqlite3.Error."""
    checksums.check_rows(db, "targets")
    checksums.check_rows(db, "breakers")
    checksums.check_breakers(db)
    checksums.check_owners(db)


def stored_version(db: sqlite3.Connection, path: Path) -> int:
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
