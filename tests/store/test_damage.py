"""One damage to a store's file: it is refused, or what is loaded from it is what was written."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import StoreError
from exporter.ledger.changes import Changes
from exporter.store import checksums
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore, examine_sqlite
from tests.fake_api import PollerHarness
from tests.store.support import SCOPE, fill, polls, stored

SEED = 20
DAMAGES = 250
"""Of each kind. Twenty times as many were tried once; a test must not take minutes."""
BREAKERS = {"a key": "refused", "another": "too"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with rows in every table."""
    path = fill(tmp_path_factory.mktemp("written") / "books.db")
    store = SqliteStore(path)
    store.save_breakers(BREAKERS)
    before = store.load("t", SCOPE, 0, 0)
    changes = Changes(
        watermarks=before.watermarks,
        jobs={},
        evicted=(),
        totals={},
        minutes={},
        label_sets=(("A", "TTS_LAB"),),
    )
    commit = Commit(
        version=before.version,
        changes=changes,
        project_id="p1",
        last_complete_poll=None,
        buckets={},
        keep_minutes_since=0,
    )
    store.commit("t", SCOPE, commit)
    store.close()
    return path


def flip_a_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def zero_16_bytes(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) - 16)
    data[place : place + 16] = bytes(16)


def swap_16_bytes(data: bytearray, chance: random.Random) -> None:
    """Within one page, where they most likely are of the same kind."""
    page = chance.randrange(len(data) // 4096) * 4096
    one, other = sorted(page + chance.randrange(4080) for _ in range(2))
    data[one : one + 16], data[other : other + 16] = data[other : other + 16], data[one : one + 16]


def swap_pages(data: bytearray, chance: random.Random) -> None:
    one, other = (4096 * chance.randrange(len(data) // 4096) for _ in range(2))
    data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]


def loaded(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    store = SqliteStore(path)
    try:
        breakers = store.load_breakers()
    finally:
        store.close()
    return stored(path), breakers


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_a_bit, zero_16_bytes, swap_16_bytes, swap_pages])
def test_a_damaged_file_is_refused_or_loads_what_was_written(
    written: Path, tmp_path: Path, damage: Callable[[bytearray, random.Random], None]
) -> None:
    """SQLite takes most changes of a value for what was written."""
    whole, right, path = written.read_bytes(), loaded(written), tmp_path / "books.db"
    chance = random.Random(SEED)
    refused = set()
    for number in range(DAMAGES):
        data = bytearray(whole)
        damage(data, chance)
        path.write_bytes(data)
        try:
            found = loaded(path)
        except StoreError as error:
            refused.add(str(error).split(":")[0])
        else:
            assert found == right, f"damage {number}"
    assert refused == {str(path)}


CHANGES = {
    "total": "UPDATE totals SET value = value + 1 WHERE name = 'created'",
    "job": "UPDATE jobs SET state = 'SUCCEED' WHERE job_id = (SELECT job_id FROM jobs LIMIT 1)",
    "job-id": "UPDATE jobs SET job_id = job_id || 'x' WHERE job_id = (SELECT job_id FROM jobs LIMIT 1)",
    "minute": "UPDATE minutes SET jobs = jobs + 1",
    "watermark": "UPDATE targets SET settled = settled - 1000",
    "name": "UPDATE targets SET name = 'T'",
    "project": "UPDATE targets SET project_id = 'p2'",
    "label-set": "UPDATE label_sets SET tts_service_enum = 'TTS_LAC'",
    "breaker": "UPDATE breakers SET state = 'accepted' WHERE credentials = 'another'",
    "owner-of-jobs": "UPDATE jobs SET target = 7",
    "owner-of-totals": "UPDATE totals SET target = 7",
    "definition": (
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'looked', 'lokked')"
    ),
    "version-of-the-tables": "PRAGMA user_version = 2",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_another_hand_changed_is_named_as_damage(written: Path, tmp_path: Path, change: str) -> None:
    """Each of these is a valid SQLite file with other counts in it."""
    path = tmp_path / "books.db"
    path.write_bytes(written.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.executescript(change)
        db.commit()
    with pytest.raises(StoreError, match=r"books\.db: the store is damaged .* move it away .* -wal and -shm"):
        loaded(path)


@pytest.mark.parametrize("size", [1, 14, 100, 511])
def test_the_first_bytes_of_a_store_are_no_new_store(written: Path, tmp_path: Path, size: int) -> None:
    """A file that was cut off, by a full disk or a copy that ended early, held counts."""
    path = tmp_path / "books.db"
    path.write_bytes(written.read_bytes()[:size])
    with pytest.raises(StoreError, match=r"books\.db: the store is damaged .* move it away"):
        loaded(path)
    assert path.stat().st_size == size


OWNED = ("jobs", "totals", "minutes", "label_sets")


@pytest.mark.slow
def test_a_row_that_is_gone_is_named_as_damage(written: Path, tmp_path: Path) -> None:
    """Every row in turn is deleted by another hand: what is left has the right checksums."""
    path = tmp_path / "books.db"
    with closing(sqlite3.connect(written)) as db:
        crcs = {table: db.execute(f"SELECT crc FROM {table}").fetchall() for table in OWNED}  # noqa: S608 - our own words
    assert all(crcs.values())
    for table, (crc,) in ((table, row) for table, rows in crcs.items() for row in rows[:DAMAGES]):
        path.write_bytes(written.read_bytes())
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"DELETE FROM {table} WHERE crc = {crc}")  # noqa: S608 - our own words
            db.commit()
        with pytest.raises(StoreError, match="damaged"):
            stored(path)


@pytest.mark.parametrize("name", BREAKERS)
def test_a_breaker_that_is_gone_is_named_as_damage(written: Path, tmp_path: Path, name: str) -> None:
    """By a start and by a check; a file of a former version, without their sum, loads as before."""
    path = tmp_path / "books.db"
    path.write_bytes(written.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM breakers WHERE credentials = ?", (name,))
        db.commit()
    for read in (loaded, lambda path: list(examine_sqlite(path, {}, 0, 0))):
        with pytest.raises(StoreError, match="damaged"):
            read(path)
    path.write_bytes(written.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM breakers WHERE credentials = ''")
        db.commit()
    assert loaded(path) == loaded(written)


@pytest.mark.parametrize("table", OWNED)
@pytest.mark.parametrize(
    "change", ["DELETE FROM {0} WHERE crc = {1}", "UPDATE {0} SET crc = 1 WHERE crc = {1}"]
)
def test_a_check_finds_what_a_start_would(written: Path, tmp_path: Path, table: str, change: str) -> None:
    """A row that is gone, or is not the one that was written; and nothing in a good store."""
    path = tmp_path / "books.db"
    path.write_bytes(written.read_bytes())
    list(examine_sqlite(path, {"t": SCOPE}, 0, 0))
    with closing(sqlite3.connect(path)) as db:
        (crc,) = db.execute(f"SELECT crc FROM {table}").fetchone()  # noqa: S608 - our own words
        db.execute(change.format(table, crc))
        db.commit()
    with pytest.raises(StoreError, match="damaged"):
        list(examine_sqlite(path, {"t": SCOPE}, 0, 0))


@pytest.mark.parametrize("table", ["totals", "jobs", "minutes"])
def test_other_rows_with_right_checksums_are_named(written: Path, tmp_path: Path, table: str) -> None:
    """As those of former commits are: each has the checksum that belongs to it, and none is missing."""
    path = tmp_path / "books.db"
    value = {"totals": "value", "jobs": "looked", "minutes": "jobs"}[table]
    path.write_bytes(written.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        checksums.RowsSum(db)
        db.execute(f"UPDATE {table} SET {value} = {value} + 1")  # noqa: S608 - our own words
        db.execute(f"UPDATE {table} SET crc = row_crc({checksums.COLUMNS[table]})")  # noqa: S608 - our own words
        db.commit()
    with pytest.raises(StoreError, match="damaged"):
        stored(path)


@pytest.fixture(scope="module")
def some_time(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[bytes], bytes]:
    """The pages of one file at several times, and how it is now."""
    path = tmp_path_factory.mktemp("time") / "books.db"
    store = SqliteStore(path)
    harness = PollerHarness(store)
    former = []
    for number in range(12):
        polls(harness, rounds=2, service=f"TTS_{number % 4}_")
        store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        former.append(path.read_bytes())
    store.close()
    return former[:-1], path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("size", [4096, 512], ids=["page", "sector"])
def test_a_write_that_the_disk_lost_is_named(
    some_time: tuple[list[bytes], bytes], tmp_path: Path, size: int
) -> None:
    """One page or sector is as it once was: its rows are older, but each is right in itself."""
    former, now = some_time
    path = tmp_path / "books.db"
    path.write_bytes(now)
    right = stored(path)
    refused = 0
    for number, old in enumerate(former):
        for place in range(0, len(old), size):
            if old[place : place + size] == now[place : place + size]:
                continue
            path.write_bytes(now[:place] + old[place : place + size] + now[place + size :])
            try:
                found = stored(path)
            except StoreError:
                refused += 1
            else:
                assert found == right, f"{place} of time {number}"
    assert refused > 50


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, int]:
    """Database and log as a process that is killed leaves them, and the number of its last commit."""
    path = tmp_path_factory.mktemp("killed") / "books.db"
    store = SqliteStore(path)
    harness = PollerHarness(store)
    polls(harness, rounds=4)
    store.db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the log begins anew, before what it held
    polls(harness, rounds=2)
    left = path.read_bytes(), path.with_name("books.db-wal").read_bytes()
    version = store.load("t", SCOPE, 0, 0).version
    store.close()
    return *left, version


def version_after(path: Path, database: bytes, log: bytes) -> int:
    path.write_bytes(database)
    path.with_name("books.db-wal").write_bytes(log)
    store = SqliteStore(path)
    try:
        return store.load("t", SCOPE, 0, 0).version
    finally:
        store.close()


@pytest.mark.slow
def test_a_damaged_log_loses_the_last_commit_at_most(
    killed: tuple[bytes, bytes, int], tmp_path: Path
) -> None:
    """SQLite would go back, without a word, to the commit before the damage. The last one may be half
    written.
    """
    database, log, last = killed
    path = tmp_path / "books.db"
    assert version_after(path, database, log) == last
    chance = random.Random(SEED)
    refused = 0
    for number in range(DAMAGES):
        data = bytearray(log)
        flip_a_bit(data, chance)
        try:
            version = version_after(path, database, bytes(data))
        except StoreError:
            assert path.with_name("books.db-wal").read_bytes() == data
            refused += 1
        else:
            assert version >= last - 1, f"damage {number}"
    assert refused > DAMAGES // 4


def test_a_log_cut_off_anywhere_is_one_that_ends_there(
    killed: tuple[bytes, bytes, int], tmp_path: Path
) -> None:
    """As a crash leaves it: that must not keep the exporter from starting."""
    database, log, last = killed
    chance = random.Random(SEED)
    for _ in range(30):
        assert version_after(tmp_path / "books.db", database, log[: chance.randrange(len(log))]) <= last


def test_a_wrong_index_of_names_hides_no_target(written: Path, tmp_path: Path) -> None:
    """Not found by its name, a target would start anew beside its own rows."""
    path = tmp_path / "books.db"
    data = bytearray(written.read_bytes())
    with closing(sqlite3.connect(written)) as db:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_targets_1'"
        page = db.execute(query).fetchone()[0]
    place = data.index(b"t", 4096 * (page - 1) + 4000)
    data[place : place + 1] = b"u"
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        loaded(path)


def test_a_file_from_before_checksums_gets_them(written: Path, tmp_path: Path) -> None:
    """A file of the second version: the same counts, and from then on a changed value is noticed."""
    path, right = tmp_path / "books.db", loaded(written)
    path.write_bytes(written.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        for table in ("targets", "jobs", "totals", "minutes", "label_sets", "breakers"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN crc")
        db.execute("ALTER TABLE targets DROP COLUMN rows_sum")
        db.execute("ALTER TABLE minutes DROP COLUMN ids")
        db.execute("PRAGMA user_version = 2")
        db.commit()
    assert loaded(path) == right
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE totals SET value = value + 1")
        db.commit()
    with pytest.raises(StoreError, match="damaged"):
        loaded(path)


def test_a_log_without_its_database_is_not_thrown_away(tmp_path: Path) -> None:
    """SQLite deletes it, and with it the last commits of a database that was moved away alone."""
    (tmp_path / "books.db-wal").write_bytes(b"commits")
    with pytest.raises(StoreError, match=r"books\.db-wal: belongs to a database that is not there"):
        SqliteStore(tmp_path / "books.db")
    assert (tmp_path / "books.db-wal").read_bytes() == b"commits"
