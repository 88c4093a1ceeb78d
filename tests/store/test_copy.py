"""``store copy``: every row of a store in another one, of the same kind or not; or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import (
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    StoreVersionError,
)
from exporter.store.base import Store
from exporter.store.postgres import PostgresStore, postgres_source, postgres_target, schema
from exporter.store.postgres.rows import PostgresRows
from exporter.store.postgres.schema import SCHEMA
from exporter.store.rows import BREAKERS, LABEL_SETS, TABLES, TARGETS, Row, StoredRows, copy_rows
from exporter.store.sqlite import SqliteStore
from exporter.store.sqlite_rows import SqliteRows, sqlite_source, sqlite_target
from testkit.postgres import PostgresServer, transaction_pooler
from tests.conftest import Tool
from tests.fake_api import PollerHarness
from tests.store.support import SCOPE, fill, polls
from tests.store.test_sqlite_upgrade import TO_FIRST_VERSION

pytestmark = pytest.mark.program

Content = dict[str, list[Row]]


class FilePlace:
    """A SQLite file that may be copied from and to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def source(self) -> Any:
        return sqlite_source(self.path)

    def target(self) -> Any:
        return sqlite_target(self.path)

    def open(self) -> Store:
        return SqliteStore(self.path)


class DatabasePlace:
    """The same of a PostgreSQL database."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self.server, self.database = server, database
        self.url = server.url(database)

    def source(self) -> Any:
        return postgres_source(self.url, lambda: None)

    def target(self) -> Any:
        return postgres_target(self.url, lambda: None)

    def open(self) -> Store:
        return PostgresStore(self.url)

    def empty(self) -> None:
        self.server.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE", self.database)


Place = FilePlace | DatabasePlace


def copy(source: Place, target: Place) -> int:
    """How many rows it was told of."""
    told: list[int] = []
    with target.target() as written, source.source() as read:
        copy_rows(read, written, told.append)
    return sum(told)


def content(place: Place) -> Content:
    with place.source() as found:
        return read_all(found)


def read_all(found: StoredRows) -> Content:
    return {table: [row for step in found.read(table) for row in step] for table in TABLES}


@pytest.fixture
def filled(tmp_path: Path) -> FilePlace:
    """Some hundred jobs that a poller counted."""
    return FilePlace(fill(tmp_path / "books.db"))


@pytest.fixture
def database(postgres: PostgresServer) -> DatabasePlace:
    return DatabasePlace(postgres, postgres.empty_database())


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return FilePlace(tmp_path / "target.db")
    place: DatabasePlace = request.getfixturevalue("database")
    return place


# --- exact ------------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
_ID = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_NUMBER = st.integers(-(2**63), 2**63 - 1)
_OPTIONAL = st.none() | _NUMBER
_SHAPES: dict[str, tuple[st.SearchStrategy[Row], tuple[int, ...]]] = {
    "jobs": (
        st.tuples(_ID, _NUMBER, _TEXT, _TEXT, _TEXT, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER),
        (1, 0),
    ),
    "totals": (st.tuples(_TEXT, _TEXT, _TEXT, _TEXT, _NUMBER), (0, 1, 2, 3)),
    "minutes": (
        st.tuples(_NUMBER, _TEXT, _TEXT, _TEXT, _TEXT, _NUMBER, _NUMBER, _OPTIONAL),
        (0, 1, 2, 3, 4),
    ),
}
"""Columns after the target, and which of them are the key, in its order."""
_TARGET = st.tuples(_TEXT, _TEXT, st.integers(1, 2**62), *[_OPTIONAL] * 6, _TEXT)


@st.composite
def books(draw: st.DrawFn) -> Content:
    """Anything that the tables can hold, as ``StoredRows.read`` gives it."""
    names = sorted(draw(st.sets(_TEXT, min_size=1, max_size=4)), key=str.encode)
    found: Content = {TARGETS: [(name, *draw(_TARGET)) for name in names]}
    for table, (shape, key) in _SHAPES.items():
        found[table] = []
        for name in names:
            drawn = draw(st.lists(shape, max_size=5, unique_by=partial(_key, key)))
            found[table] += [(name, *row) for row in sorted(drawn, key=partial(_key, key))]
    found[LABEL_SETS] = [
        (name, *pair, place)
        for name in names
        for place, pair in enumerate(draw(st.lists(st.tuples(_TEXT, _TEXT), max_size=4, unique=True)))
    ]
    breakers = draw(st.dictionaries(_TEXT.filter(bool), _TEXT, max_size=3))
    found[BREAKERS] = [(key, breakers[key]) for key in sorted(breakers, key=str.encode)]
    return found


def _key(columns: tuple[int, ...], row: Row) -> tuple[Any, ...]:
    """What a row is sorted by: texts by their bytes."""
    return tuple(value.encode() if isinstance(value := row[it], str) else value for it in columns)


class Given:
    """Rows that a test made up."""

    address = "made up"

    def __init__(self, rows: Content) -> None:
        self._rows = rows

    def count(self) -> int:
        return sum(map(len, self._rows.values()))

    def read(self, table: str) -> Iterator[list[Row]]:
        yield from ([row] for row in self._rows[table])

    def write(self, table: str, rows: list[Row]) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=books())
def test_whatever_a_store_holds_comes_back_as_it_was(
    rows: Content, tmp_path_factory: pytest.TempPathFactory, database: DatabasePlace
) -> None:
    """To PostgreSQL, to another SQLite file, and to a third one: nulls, odd texts, all numbers."""
    folder = tmp_path_factory.mktemp("copies")
    first, second, third = (FilePlace(folder / f"{name}.db") for name in ("first", "second", "third"))
    database.empty()
    with first.target() as written:
        copy_rows(Given(rows), written, lambda _: None)
    copy(first, database)
    copy(database, second)
    copy(second, third)
    for place in (first, database, second, third):
        assert content(place) == rows
    assert dump(first.path) == dump(third.path)


def dump(path: Path) -> dict[str, list[Any]]:
    """What SQLite itself says of a file, checksums and all."""
    with closing(sqlite3.connect(path)) as db:
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608


@pytest.mark.parametrize("ways", [["database"], ["file"], ["database", "file"]], ids="-".join)
def test_counting_goes_on_as_without_a_copy(ways: list[str], tmp_path: Path, database: DatabasePlace) -> None:
    """Of two pollers with the same jobs one is moved in the middle: in the end both have the same books."""
    kept = []
    for moves in ([], ways):
        place: Place = FilePlace(tmp_path / f"{len(moves)}.db")
        harness = PollerHarness(store := place.open())
        polls(harness, rounds=5)
        store.save_breakers({"key": "refused"})
        store.close()
        for move in moves:
            next_place = database if move == "database" else FilePlace(tmp_path / "moved.db")
            copy(place, next_place)
            place = next_place
        harness.store = store = place.open()
        assert store.load_breakers() == {"key": "refused"}
        harness.restart()
        polls(harness, rounds=5, service="TTS_LAB")
        held = msgspec.structs.asdict(store.load("t", SCOPE, harness.clock.ms, 10**9))
        kept.append({**held, "minutes": sorted(held["minutes"])})
        store.close()
    assert kept[0] == kept[1]
    assert kept[0]["jobs"]


def test_a_value_that_did_not_arrive_is_noticed(
    filled: FilePlace, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever changes it on its way; then nothing is kept."""
    for kind in (SqliteRows, PostgresRows):
        write = kind.write

        def one_off(self: Any, table: str, rows: list[Row], write: Any = write) -> None:
            if table == "minutes":
                rows = [*rows[:-1], (*rows[-1][:-2], rows[-1][-2], 7)]
            write(self, table, rows)

        monkeypatch.setattr(kind, "write", one_off)
    with pytest.raises(StoreError, match=r"what was written is not what .* holds \(table minutes\)"):
        copy(filled, target)
    monkeypatch.undo()
    copy(filled, target)


def test_it_is_said_how_far_the_copy_is(filled: FilePlace, target: Place) -> None:
    """Each row is written and compared: twice their number altogether."""
    with filled.source() as read:
        rows = read.count()
    assert copy(filled, target) == 2 * rows
    assert rows == sum(map(len, content(target).values()))


def test_many_rows_are_copied_in_steps(
    filled: FilePlace, database: DatabasePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they are divided, label sets keep their order."""
    one = content(filled)
    labels: list[Row] = [("t", "ASYNC_JOB", f"S{7 * place % 10}", place) for place in range(10)]
    several: Content = {
        table: [(f"t{number}", *row[1:]) for number in range(3) for row in rows]
        for table, rows in (one | {LABEL_SETS: labels}).items()
    }
    before: Content = {**several, BREAKERS: [("key", "refused")]}
    many = FilePlace(tmp_path / "many.db")
    with many.target() as written:
        copy_rows(Given(before), written, lambda _: None)
    for module in ("exporter.store.rows", "exporter.store.sqlite_rows", "exporter.store.postgres.rows"):
        monkeypatch.setattr(f"{module}.STEP", 3)
    copy(many, database)
    copy(database, FilePlace(tmp_path / "other.db"))
    assert content(database) == content(FilePlace(tmp_path / "other.db")) == before


def test_a_pooler_in_transaction_mode_is_no_hindrance(
    filled: FilePlace, database: DatabasePlace, tmp_path: Path, tool: Tool
) -> None:
    """All of it is one transaction."""
    with transaction_pooler(tool("pgbouncer"), database.server) as port:
        pooled = DatabasePlace(database.server, database.database)
        pooled.url = database.server.tcp_url(database.database, port=port)
        copy(filled, pooled)
        copy(pooled, FilePlace(tmp_path / "other.db"))
    assert content(FilePlace(tmp_path / "other.db")) == content(filled)


# --- refused ----------------------------------------------------------------------------------------------


def test_a_store_that_an_exporter_uses_is_refused(filled: FilePlace, target: Place) -> None:
    """On either side: by the lock of a file, by the lease of a replica."""
    running = filled.open()
    with pytest.raises(StoreLockedError, match="another exporter is using this store: stop it"):
        copy(filled, target)
    running.close()
    copy(filled, target)
    other = FilePlace(filled.path.with_name("other.db"))
    used = target.open()
    if isinstance(used, PostgresStore):
        used.renew(["t"], 3600)
    for one, another in ((target, other), (filled, target)):
        with pytest.raises(StoreLockedError, match=r"(another|an) exporter is using this store.*: stop"):
            copy(one, another)
    if isinstance(used, PostgresStore):
        used.resign()
    used.close()
    copy(target, other)


def test_a_killed_replica_counts_as_stopped_after_its_lease(
    filled: FilePlace, database: DatabasePlace
) -> None:
    store = PostgresStore(database.url)
    store.renew(["t"], -1)
    store.close()
    copy(filled, database)


def test_no_replica_starts_while_its_database_is_copied(
    filled: FilePlace, database: DatabasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the lock, fails, and tries again: what it counts is not left out of the copy."""
    copy(filled, database)
    monkeypatch.setattr("exporter.store.postgres.database.LOCK_SECONDS", 0.2)
    store = PostgresStore(database.url)
    with database.source():
        with pytest.raises(StoreError, match="another session holds a lock"):
            store.renew(["t"], 3600)
        with pytest.raises(StoreError, match="another session holds a lock"):
            store.load("t", SCOPE, 0, 0)
        assert store.read_committed("t", SCOPE, 0, 0).version
    store.renew(["t"], 3600)
    store.close()


def test_a_target_that_holds_books_is_refused(filled: FilePlace, target: Place) -> None:
    """Also those of the copy made before, and refused credentials alone."""
    copy(filled, target)
    before = content(target)
    with pytest.raises(StoreError, match="holds books already: "):
        copy(filled, target)
    assert content(target) == before


def test_refused_credentials_alone_are_something(filled: FilePlace, target: Place) -> None:
    store = target.open()
    store.save_breakers({"key": "refused"})
    store.close()
    with pytest.raises(StoreError, match="holds books already: "):
        copy(filled, target)


def test_a_target_where_nothing_was_counted_may_be_filled(filled: FilePlace, target: Place) -> None:
    """An exporter was started there too early, and took its targets."""
    store = target.open()
    store.load("t", SCOPE, 0, 0)
    store.load("elsewhere", SCOPE, 0, 0)
    store.save_breakers({})
    store.close()
    copy(filled, target)
    assert content(target) == content(filled)


@pytest.mark.parametrize(
    ("sql", "kind", "said"),
    [
        ("PRAGMA user_version = 9", StoreVersionError, "written by a newer version of this exporter"),
        ("UPDATE totals SET value = value + 1", StoreCorruptError, "the store is damaged"),
        ("DELETE FROM label_sets", StoreCorruptError, "the store is damaged"),
        ("PRAGMA application_id = 1; DROP TABLE minutes", StoreCorruptError, "belongs to another program"),
        (TO_FIRST_VERSION, StoreVersionError, r"former version .*store version 1, this one has 4\): start"),
    ],
    ids=["newer", "value-changed", "rows-lost", "of-another-program", "older"],
)
def test_a_file_that_cannot_be_trusted_is_refused(
    filled: FilePlace, target: Place, sql: str, kind: type[StoreError], said: str
) -> None:
    """In one line, and is not changed; nothing is left of a target."""
    with closing(sqlite3.connect(filled.path)) as db:
        db.executescript(sql)
    before = filled.path.read_bytes()
    with pytest.raises(kind, match=said) as caught:
        copy(filled, target)
    assert "\n" not in str(caught.value)
    assert filled.path.read_bytes() == before
    assert nothing_in(target)


@pytest.mark.parametrize("version", [0, 9], ids=["older", "newer"])
def test_a_database_of_another_version_is_refused(
    filled: FilePlace, database: DatabasePlace, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To copy from, and to copy to even when it is empty: it is not upgraded by that."""
    if version == 0:  # there is no version before the first one
        monkeypatch.setattr("exporter.store.postgres.schema.SCHEMA_VERSION", 2)
        said = (
            r"former version .*store version 1, this one has 2\): start this version on it once, and stop it"
        )
    else:
        said = "written by a newer version of this exporter"
    with closing(psycopg.connect(database.url, autocommit=True)) as connection:
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        connection.execute(schema.CREATE)
        connection.execute(f"UPDATE {SCHEMA}.format SET version = {version or 1}")  # noqa: S608
    for one, another in ((filled, database), (database, FilePlace(filled.path.with_name("other.db")))):
        with pytest.raises(StoreVersionError, match=said) as caught:
            copy(one, another)
        assert "\n" not in str(caught.value)


def test_what_is_not_there_is_not_made(tmp_path: Path, database: DatabasePlace) -> None:
    """To copy from: a file that is missing or empty, a database without our tables."""
    missing, other = FilePlace(tmp_path / "missing.db"), FilePlace(tmp_path / "other.db")
    with pytest.raises(StoreError, match=r"missing\.db: there is no store"):
        copy(missing, database)
    missing.path.touch()
    with pytest.raises(StoreError, match=r"missing\.db: is empty: there is nothing to copy"):
        copy(missing, database)
    with pytest.raises(StoreError, match="there is no store: nothing was counted there"):
        copy(database, other)
    assert nothing_in(database)
    assert [path.name for path in tmp_path.iterdir()] == ["missing.db"]


# --- interrupted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 0.4, 0.6, 1.0], ids=["first-rows", "writing", "comparing", "last-rows"])
def test_an_interrupted_copy_leaves_nothing(filled: FilePlace, target: Place, at: float) -> None:
    """Ctrl-C: neither rows nor tables nor files; the next one is made whole."""
    with filled.source() as read:
        total = 2 * read.count()

    def interrupt(made: int, done: list[int] = []) -> None:  # noqa: B006 - kept between the calls
        done.append(made)
        if sum(done) >= at * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), target.target() as written, filled.source() as read:
        copy_rows(read, written, interrupt)
    assert nothing_in(target)
    copy(filled, target)
    assert content(target) == content(filled)


def test_a_database_that_is_gone_in_the_middle_holds_nothing(
    filled: FilePlace, database: DatabasePlace
) -> None:
    """One line says so."""

    def stop(_: int) -> None:
        database.server.stop()

    try:
        with (
            pytest.raises(StoreUnavailableError) as caught,
            database.target() as written,
            filled.source() as read,
        ):
            copy_rows(read, written, stop)
    finally:
        database.server.start()
    assert "\n" not in str(caught.value)
    assert nothing_in(database)
    copy(filled, database)


def nothing_in(place: Place) -> bool:
    """Neither tables nor files."""
    if isinstance(place, FilePlace):
        return not [path for path in place.path.parent.iterdir() if path.name.startswith(place.path.name)]
    schemas = f"SELECT 1 FROM pg_namespace WHERE nspname = '{SCHEMA}'"  # noqa: S608 - our own word
    return not place.server.execute(schemas, place.database)
