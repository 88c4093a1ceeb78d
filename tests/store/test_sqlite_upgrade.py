"""Files of former versions are taken over, with all that is in them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from exporter.errors import StoreError
from exporter.ledger.changes import Changes
from exporter.ledger.job_index import Job
from exporter.store import schema
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from tests.store.support import SCOPE

JOBS = {f"job-{number}": Job(1_000 - number, "WAITING", "ASYNC_JOB", "TTS_LLM") for number in range(50)}
TO_FIRST_VERSION = """
CREATE TABLE former (
    target INTEGER NOT NULL REFERENCES targets (id),
    job_id TEXT NOT NULL,
    created INTEGER NOT NULL, state TEXT NOT NULL,
    job_type TEXT NOT NULL, tts_service_enum TEXT NOT NULL,
    text_length INTEGER NOT NULL, looked INTEGER NOT NULL,
    misses INTEGER NOT NULL, missing_since INTEGER NOT NULL, flags INTEGER NOT NULL,
    PRIMARY KEY (target, job_id)
) WITHOUT ROWID;
INSERT INTO former SELECT target, job_id, created, state, job_type, tts_service_enum, text_length, looked,
    misses, missing_since, flags FROM jobs;
DROP TABLE jobs;
ALTER TABLE former RENAME TO jobs;
ALTER TABLE targets DROP COLUMN rows_sum;
ALTER TABLE targets DROP COLUMN crc;
ALTER TABLE totals DROP COLUMN crc;
ALTER TABLE minutes DROP COLUMN crc;
ALTER TABLE minutes DROP COLUMN ids;
ALTER TABLE label_sets DROP COLUMN crc;
ALTER TABLE breakers DROP COLUMN crc;
PRAGMA user_version = 1;
"""


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    """A file as the first version wrote it."""
    path = tmp_path / "books.db"
    store = SqliteStore(path)
    store.commit("t", SCOPE, commit_of(0, jobs=JOBS))
    store.close()
    with sqlite3.connect(path) as db:
        db.executescript(TO_FIRST_VERSION)
    db.close()
    return path


def commit_of(version: int, *, jobs: dict[str, Job], evicted: tuple[tuple[str, int], ...] = ()) -> Commit:
    changes = Changes(watermarks=None, jobs=jobs, evicted=evicted, totals={}, minutes={}, label_sets=())
    return Commit(
        version=version,
        changes=changes,
        project_id="",
        last_complete_poll=None,
        buckets={},
        keep_minutes_since=0,
    )


def jobs_in(path: Path) -> dict[str, Job]:
    store = SqliteStore(path)
    try:
        return store.load("t", SCOPE, 0, 0).jobs
    finally:
        store.close()


def version_of(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def test_a_file_of_the_first_version_is_taken_over(first_version: Path) -> None:
    """Its jobs are there, can be changed and evicted, and the file is one of ours from then on."""
    store = SqliteStore(first_version)
    assert store.load("t", SCOPE, 0, 0).jobs == JOBS
    changed = Job(1_000, "SUCCEED", "ASYNC_JOB", "TTS_LLM")
    store.commit("t", SCOPE, commit_of(1, jobs={"job-0": changed}, evicted=(("job-1", 999),)))
    store.close()
    left = JOBS | {"job-0": changed}
    del left["job-1"]
    assert jobs_in(first_version) == left
    assert version_of(first_version) == schema.SCHEMA_VERSION


def test_ids_that_a_former_version_did_not_add_up_stay_unknown(tmp_path: Path) -> None:
    """Half a sum would name the wrong jobs."""
    path, minutes = tmp_path / "books.db", {(7, "a", "b", "SUCCEED", ""): (1, 2)}
    commit = commit_of(0, jobs={})
    commit = replace(commit, changes=replace(commit.changes, minutes=minutes))
    store = SqliteStore(path)
    store.commit("t", SCOPE, commit)
    store.close()
    with sqlite3.connect(path) as db:
        db.executescript("ALTER TABLE minutes DROP COLUMN ids; PRAGMA user_version = 3;")
    db.close()
    store = SqliteStore(path)
    store.load("t", SCOPE, 0, 0)
    added = replace(commit.changes, minute_ids=dict.fromkeys(minutes, 5))
    store.commit("t", SCOPE, replace(commit, version=1, changes=added))
    assert store.db.execute("SELECT jobs, ids FROM minutes").fetchall() == [(2, None)]
    store.close()
    assert version_of(path) == schema.SCHEMA_VERSION
    SqliteStore(path).close()


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(
    first_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an upgrade would be neither version."""
    with monkeypatch.context() as broken:
        halfway = schema.UPGRADES[1].replace("INSERT INTO jobs", "DROP TABLE nowhere; INSERT INTO jobs")
        broken.setitem(schema.UPGRADES, 1, halfway)
        with pytest.raises(StoreError):
            SqliteStore(first_version)
    assert version_of(first_version) == 1
    assert jobs_in(first_version) == JOBS


def test_a_file_of_no_version_is_damage(first_version: Path) -> None:
    """There is nothing to upgrade it from."""
    with sqlite3.connect(first_version) as db:
        db.execute("PRAGMA user_version = 0")
    db.close()
    with pytest.raises(StoreError, match="damaged"):
        SqliteStore(first_version)


def test_two_rows_of_one_job_are_damage(tmp_path: Path) -> None:
    """The primary key would allow them; one of them would be lost without a word."""
    path = tmp_path / "books.db"
    store = SqliteStore(path)
    store.commit("t", SCOPE, commit_of(0, jobs=JOBS))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE jobs SET job_id = 'job-1' WHERE job_id = 'job-2'")
    db.close()
    with pytest.raises(StoreError, match="damaged"):
        jobs_in(path)
