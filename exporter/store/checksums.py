"""Checksums in a SQLite store: SQLite notices broken structure, but neither a changed value nor a lost row.

Each row has a CRC-32 of its other columns, written with them. A row that is missing, or is as it was before
the last commits (the disk lost a write), changes the sum over all rows of a target, which the target's own
row keeps. A row whose target does not exist would never be read, so such rows are searched for as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import msgspec

from exporter.ledger import Job

COLUMNS: Final = {
    "targets": (
        "id, name, scope, project_id, version, baseline, settled, forgotten, history, catching_up,"
        " last_complete_poll, buckets, rows_sum"
    ),
    "jobs": (
        "target, job_id, created, state, job_type, tts_service_enum, text_length, looked, misses,"
        " missing_since, flags"
    ),
    "totals": "target, name, job_type, tts_service_enum, detail, value",
    "minutes": "target, minute, job_type, tts_service_enum, state, detail, jobs, characters, ids",
    "label_sets": "target, job_type, tts_service_enum, place",
    "breakers": "0, credentials, state",
}
"""What the checksum of a row is computed of: its target first, then its name among the target's rows.

Columns keep the names that they had in the first version: ``settled`` and ``forgotten`` are the watermarks
``settled_until`` and ``evicted_until``, ``looked`` is ``Job.last_checked``.
"""

_OWNED: Final = ("jobs", "totals", "minutes", "label_sets")

_PRIME: Final = 4_294_967_291
"""The largest one that 32 bits can hold."""
_SUM: Final = f"(SELECT coalesce(sum((crc >> 1) * crc % {_PRIME} + 1), 0) FROM {{0}} WHERE {{1}})"  # noqa: S608 - our own words
"""Over rows of a table: ``_term``, in SQL."""
_SUMS: Final = " + ".join(_SUM.format(table, "target = targets.id") for table in _OWNED)
"""The sum over a target's rows."""

SUM_KEY: Final = "''"
"""In SQL: instead of credentials in the row of ``breakers`` that keeps the sum over the others.

Files of former versions have none until breakers are saved.
"""
BREAKERS_SUM: Final = _SUM.format("breakers", f"credentials != {SUM_KEY}")

_NEXT_OWNER: Final = "SELECT target FROM {0} WHERE target > ? ORDER BY target LIMIT 1"

_ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode
_FIRST: Final = -(2**63)

Value = int | str | None


class ChecksumError(Exception):
    """A row is not the one that was written."""


def register(db: sqlite3.Connection) -> None:
    """Let SQL of this connection call ``row_crc(owner, name, ...)``."""
    db.create_function("row_crc", -1, row_crc, deterministic=True)


class RowsSum:
    """What a transaction changes in its target's sum: its SQL reports what it writes and removes.

    SQL of this connection can call ``added_crc`` instead of ``row_crc`` for a row that is written, and
    ``removed(crc)``, always true, for a row that is not there afterwards.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.change = 0
        """Since it was set to 0."""
        register(db)
        db.create_function("added_crc", -1, self._added)
        db.create_function("removed", 1, self._removed)

    def _added(self, owner: int, name: Value, *values: Value) -> int:
        crc = row_crc(owner, name, *values)
        self.change += _term(crc)
        return crc

    def _removed(self, crc: int) -> bool:
        self.change -= _term(crc)
        return True


def _term(crc: int) -> int:
    """What a row adds to the sum. Not its plain CRC: those of two rows that change alike can cancel."""
    return (crc >> 1) * crc % _PRIME + 1


def row_crc(owner: int, name: Value, *values: Value) -> int:
    """The checksum of one row."""
    return crc32(_encode(values), crc32(_encode(name), owner))


def row_crcs(owner: int, names: Sequence[Value], others: Sequence[tuple[Value, ...] | Job]) -> list[int]:
    """The same of many rows, in a fraction of the time."""
    starts = [crc32(name, owner) for name in _ROWS.decode(_encode(names))]
    return list(map(crc32, _ROWS.decode(_encode(others)), starts))


def check_rows(db: sqlite3.Connection, table: str, condition: str = "1", *values: Value) -> None:
    """Read the rows of which the condition is true. Raises ChecksumError, sqlite3.Error."""
    wrong = f"row_crc({COLUMNS[table]}) IS NOT crc"
    query = f"SELECT 1 FROM {table} WHERE ({condition}) AND {wrong} LIMIT 1"  # noqa: S608 - our own words
    if db.execute(query, values).fetchone():
        raise ChecksumError


def check_sum(db: sqlite3.Connection, target: int) -> None:
    """Are all rows of this target there, each as it was written last? Raises ChecksumError, sqlite3.Error."""
    query = f"SELECT rows_sum = {_SUMS} FROM targets WHERE id = ?"  # noqa: S608 - our own words
    if not db.execute(query, (target,)).fetchone()[0]:
        raise ChecksumError


def check_breakers(db: sqlite3.Connection) -> None:
    """Are all breakers there that were saved last? Raises ChecksumError, sqlite3.Error."""
    query = f"SELECT 1 FROM breakers WHERE credentials = {SUM_KEY} AND state != CAST({BREAKERS_SUM} AS TEXT)"  # noqa: S608 - our own words
    if db.execute(query).fetchone():
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
    for table in _OWNED:
        db.execute(f"UPDATE {table} SET crc = row_crc({COLUMNS[table]})")  # noqa: S608 - our own words
    db.execute(f"UPDATE breakers SET crc = row_crc({COLUMNS['breakers']})")  # noqa: S608 - our own words
    seal(db)


def seal(db: sqlite3.Connection) -> None:
    """The sum of every target, whose rows have their checksums, and the checksums of the targets."""
    db.execute(f"UPDATE targets SET rows_sum = {_SUMS}")  # noqa: S608 - our own words
    db.execute(f"UPDATE targets SET crc = row_crc({COLUMNS['targets']})")  # noqa: S608 - our own words
