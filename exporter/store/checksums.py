"""A checksum in every row of a SQLite store: SQLite notices broken structure, but not a changed value.

It is a CRC-32 of the row's other columns, written with them. A row that lost its owner (the target that it
belongs to) would not be read at all, so owners that do not exist are looked for as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import msgspec

from exporter.ledger.job_index import Job

COLUMNS: Final = {
    "targets": (
        "id, name, scope, project_id, version, baseline, settled, forgotten, history, catching_up,"
        " last_complete_poll, buckets"
    ),
    "jobs": (
        "target, job_id, created, state, job_type, tts_service_enum, text_length, looked, misses,"
        " missing_since, flags"
    ),
    "totals": "target, name, job_type, tts_service_enum, detail, value",
    "minutes": "target, minute, job_type, tts_service_enum, state, detail, jobs, characters",
    "label_sets": "target, job_type, tts_service_enum, place",
    "breakers": "0, credentials, state",
}
"""What the checksum of a row is of: its owner first, then what tells it apart."""

_OWNED: Final = ("jobs", "totals", "minutes", "label_sets")

_NEXT_OWNER: Final = "SELECT target FROM {0} WHERE target > ? ORDER BY target LIMIT 1"

_ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode
_FIRST: Final = -(2**63)

Value = int | str | None


class ChecksumError(Exception):
    """A row is not the one that was written."""


def register(db: sqlite3.Connection) -> None:
    """Let SQL of this connection say ``row_crc(owner, name, ...)``."""
    db.create_function("row_crc", -1, row_crc, deterministic=True)


def row_crc(owner: int, name: Value, *values: Value) -> int:
    """The checksum of one row."""
    return crc32(_encode(values), crc32(_encode(name), owner))


def row_crcs(owner: int, names: Sequence[str], jobs: Sequence[Job]) -> list[int]:
    """The same of many jobs, in a fraction of the time."""
    starts = [crc32(name, owner) for name in _ROWS.decode(_encode(names))]
    return list(map(crc32, _ROWS.decode(_encode(jobs)), starts))


def check(db: sqlite3.Connection, table: str, condition: str = "1", *values: Value) -> None:
    """Read the rows of which the condition is true. Raises ChecksumError, sqlite3.Error."""
    wrong = f"row_crc({COLUMNS[table]}) IS NOT crc"
    query = f"SELECT 1 FROM {table} WHERE ({condition}) AND {wrong} LIMIT 1"  # noqa: S608 - our own words
    if db.execute(query, values).fetchone():
        raise ChecksumError


def check_owners(db: sqlite3.Connection) -> None:
    """Do all rows belong to a target? Raises ChecksumError, sqlite3.Error."""
    known = set(db.execute("SELECT id FROM targets"))
    for table in _OWNED:
        query = _NEXT_OWNER.format(table)
        found = db.execute(query, (_FIRST,)).fetchone()
        while found:
            if found not in known:
                raise ChecksumError
            found = db.execute(query, found).fetchone()


def write_all(db: sqlite3.Connection) -> None:
    """For a file of a version that had none."""
    for table, columns in COLUMNS.items():
        db.execute(f"UPDATE {table} SET crc = row_crc({columns})")  # noqa: S608 - our own words
