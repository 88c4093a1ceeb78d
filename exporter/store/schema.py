"""The tables of the SQLite store, and the SQL that reads and writes them."""

from __future__ import annotations

from typing import Final

from exporter.ledger import IDS_MASK
from exporter.store.checksums import BREAKERS_SUM, COLUMNS, SUM_KEY

APPLICATION_ID: Final = 0x4D545453
"""``MTTS``: marks the file as ours (SQLite file header)."""

SCHEMA_VERSION: Final = 4

# Primary keys come first and in order: SQLite 3.40 takes any other table WITHOUT ROWID for damaged
# (its quick_check finds NULL where there is none).
# Jobs lie in order of creation: those of one page are neighbours, their ids would scatter them over the file.
_CREATE_JOBS: Final = """
CREATE TABLE jobs (
    target INTEGER NOT NULL REFERENCES targets (id),
    created INTEGER NOT NULL, job_id TEXT NOT NULL,
    state TEXT NOT NULL, job_type TEXT NOT NULL, tts_service_enum TEXT NOT NULL,
    text_length INTEGER NOT NULL, looked INTEGER NOT NULL,
    misses INTEGER NOT NULL, missing_since INTEGER NOT NULL, flags INTEGER NOT NULL,
    PRIMARY KEY (target, created, job_id)
) WITHOUT ROWID;
"""
_ADD_CHECKSUMS: Final = "".join(
    f"ALTER TABLE {table} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0;\n"
    for table, column in (("targets", "rows_sum"), *((table, "crc") for table in COLUMNS))
)
_ADD_IDS: Final = "ALTER TABLE minutes ADD COLUMN ids INTEGER;\n"
"""``NULL`` where a former version counted: unknown, and stays so when more is counted."""
CREATE: Final = f"""
{_CREATE_JOBS}
CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    project_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    baseline INTEGER, settled INTEGER, forgotten INTEGER, history INTEGER, catching_up INTEGER,
    last_complete_poll INTEGER,
    buckets TEXT NOT NULL
);
CREATE TABLE totals (
    target INTEGER NOT NULL REFERENCES targets (id),
    name TEXT NOT NULL, job_type TEXT NOT NULL, tts_service_enum TEXT NOT NULL, detail TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (target, name, job_type, tts_service_enum, detail)
) WITHOUT ROWID;
CREATE TABLE minutes (
    target INTEGER NOT NULL REFERENCES targets (id),
    minute INTEGER NOT NULL,
    job_type TEXT NOT NULL, tts_service_enum TEXT NOT NULL, state TEXT NOT NULL, detail TEXT NOT NULL,
    jobs INTEGER NOT NULL, characters INTEGER NOT NULL,
    PRIMARY KEY (target, minute, job_type, tts_service_enum, state, detail)
) WITHOUT ROWID;
CREATE TABLE label_sets (
    target INTEGER NOT NULL REFERENCES targets (id),
    job_type TEXT NOT NULL, tts_service_enum TEXT NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (target, job_type, tts_service_enum)
) WITHOUT ROWID;
CREATE TABLE breakers (credentials TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
{_ADD_CHECKSUMS}
{_ADD_IDS}
"""

UPGRADES: Final = {
    1: f"""  -- by id -> in order of creation
ALTER TABLE jobs RENAME TO jobs_by_id;
{_CREATE_JOBS}
INSERT INTO jobs SELECT target, created, job_id, state, job_type, tts_service_enum, text_length, looked,
    misses, missing_since, flags FROM jobs_by_id;
DROP TABLE jobs_by_id;
""",  # noqa: S608 - our own words
    2: _ADD_CHECKSUMS,
    3: _ADD_IDS,
}
"""From each former version to the next."""

UPDATE_TARGET: Final = """
UPDATE targets SET version = version + 1, project_id = ?, baseline = ?, settled = ?, forgotten = ?,
    history = ?, catching_up = ?, last_complete_poll = ?, buckets = ?,
    rows_sum = rows_sum + ?
WHERE id = ? AND version = ?
"""
SEAL_TARGET: Final = f"UPDATE targets SET crc = row_crc({COLUMNS['targets']}) WHERE id = ?"  # noqa: S608 - our own words


def _put(table: str, key: int) -> str:
    """A new row, or new values in one with the same first ``key`` columns."""
    columns = COLUMNS[table].split(", ")
    places = ", ".join(f"?{number}" for number in range(1, len(columns) + 1))
    values = ", ".join(f"{column} = excluded.{column}" for column in [*columns[key:], "crc"])
    return f"""
INSERT INTO {table} ({COLUMNS[table]}, crc) VALUES ({places}, added_crc({places}))
ON CONFLICT DO UPDATE SET {values} WHERE removed({table}.crc)
"""  # noqa: S608 - our own words


PUT_JOB: Final = _put("jobs", 3)
DELETE_JOB: Final = "DELETE FROM jobs WHERE target = ? AND created = ? AND job_id = ? AND removed(crc)"
PUT_TOTAL: Final = _put("totals", 5)
DELETE_TOTAL: Final = """
DELETE FROM totals WHERE target = ? AND name = ? AND job_type = ? AND tts_service_enum = ? AND detail = ?
    AND removed(crc)
"""
_IDS: Final = f"(ids + excluded.ids) & {IDS_MASK}"
ADD_MINUTE: Final = f"""
INSERT INTO minutes ({COLUMNS["minutes"]}, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
    added_crc(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9))
ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs, characters = characters + excluded.characters,
    ids = {_IDS},
    crc = added_crc(target, minute, job_type, tts_service_enum, state, detail, jobs + excluded.jobs,
        characters + excluded.characters, {_IDS})
WHERE removed(minutes.crc) AND removed(excluded.crc)
"""  # noqa: S608 - our own words
PRUNE_MINUTES: Final = "DELETE FROM minutes WHERE target = ? AND minute < ? AND removed(crc)"
PUT_LABEL_SET: Final = """
INSERT INTO label_sets
SELECT ?1, ?2, ?3, place, added_crc(?1, ?2, ?3, place)
FROM (SELECT count(*) AS place FROM label_sets WHERE target = ?1)
WHERE NOT EXISTS (SELECT 1 FROM label_sets WHERE target = ?1 AND job_type = ?2 AND tts_service_enum = ?3)
"""
PUT_BREAKER: Final = "INSERT INTO breakers VALUES (?1, ?2, row_crc(0, ?1, ?2))"
PUT_BREAKERS_SUM: Final = f"""
INSERT INTO breakers SELECT {SUM_KEY}, total, row_crc(0, {SUM_KEY}, total)
FROM (SELECT CAST({BREAKERS_SUM} AS TEXT) AS total)
"""  # noqa: S608 - our own words
GET_BREAKERS: Final = f"SELECT credentials, state FROM breakers WHERE credentials != {SUM_KEY}"  # noqa: S608 - our own words
GET_TARGET: Final = """
SELECT id, scope, project_id, version, baseline, settled, forgotten, history, catching_up, last_complete_poll,
    buckets
FROM targets WHERE name = ?
"""


def _get(table: str, rows: str) -> str:
    """These rows as JSON: one array of their names, one of their other columns, one of their checksums.

    Each query gives one row: for each row it gives, Python would wait until other threads leave the
    interpreter to it. Names have an array of their own: keys of an object end at a NUL.
    """
    name, others = COLUMNS[table].removeprefix("target, ").split(", ", 1)
    arrays = (name, f"json_array({others})", "crc")
    return f"SELECT {', '.join(f'CAST(json_group_array({it}) AS BLOB)' for it in arrays)} FROM ({rows})"  # noqa: S608 - our own words


GET_JOBS: Final = _get(
    "jobs",
    "SELECT * FROM jobs WHERE target = ?1 AND (created, job_id) > (?2, ?3) ORDER BY created, job_id LIMIT ?4",
)
"""The next jobs after one."""
GET_TOTALS: Final = _get("totals", "SELECT * FROM totals WHERE target = ?1")
GET_LABEL_SETS: Final = _get("label_sets", "SELECT * FROM label_sets WHERE target = ?1 ORDER BY place")
GET_JOBS_OF: Final = _get("jobs", "SELECT * FROM jobs WHERE target = ?1 AND created >= ?2 AND created < ?3")
GET_MINUTES_OF: Final = _get(
    "minutes", "SELECT * FROM minutes WHERE target = ?1 AND minute >= ?2 AND minute < ?3"
)
GET_MINUTES: Final = _get("minutes", "SELECT * FROM minutes WHERE target = ?1 AND minute >= ?2")
