"""Tables of the version before are brought up to date by one start, while replicas of that version run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from exporter.errors import StoreError
from exporter.store.postgres import PostgresStore, database, schema
from exporter.store.postgres.schema import SCHEMA
from testkit.processes import bare_environ, wait_for
from tests.store.conftest import PostgresBooks
from tests.store.postgres.test_store import commit, load

pytestmark = pytest.mark.program

FORMER = """
import sys
from exporter.errors import StoreError
from exporter.store.postgres import PostgresStore
from exporter.ledger.changes import Changes
from exporter.store.base import Commit
target = sys.argv[2]
store, version = PostgresStore(sys.argv[1]), 0
nothing = Changes(watermarks=None, jobs={}, evicted=(), totals={}, minutes={}, label_sets=())
try:
    store.load(target, "region=cn-north-4", 0, 0)
    while True:
        store.renew([target], 3600)
        store.commit(target, "region=cn-north-4", Commit(version=version, changes=nothing, project_id="p1",
            last_complete_poll=None, buckets={}, keep_minutes_since=0))
        version += 1
except StoreError as error:
    print(version, type(error).__name__, error)
"""
"""A replica of the former version: commits, one after the other, until it is refused."""


@pytest.fixture
def former(postgres_books: PostgresBooks) -> Iterator[list[subprocess.Popen[str]]]:
    """Two replicas of the former version that write all the time."""
    postgres_books.open().close()
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", FORMER, postgres_books.url, target],
            env=bare_environ(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for target in ("t", "u")
    ]
    under_way = "SELECT 1 FROM targets HAVING min(version) > 2 AND count(*) = 2"
    wait_for("commits of both", lambda: postgres_books.query(under_way) or None)
    yield programs
    for program in programs:
        program.kill()
        program.communicate()


def next_version(monkeypatch: pytest.MonkeyPatch, upgrade: str) -> None:
    monkeypatch.setitem(schema.UPGRADES, schema.SCHEMA_VERSION, upgrade)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)


@pytest.mark.program
@pytest.mark.parametrize(
    ("upgrade", "usable"),
    [
        (f"CREATE TABLE {SCHEMA}.added (one integer); ALTER TABLE {SCHEMA}.targets ADD extra integer", True),
        (f"ALTER TABLE {SCHEMA}.targets RENAME buckets TO bounds", False),
    ],
    ids=["added", "renamed"],
)
def test_an_upgrade_with_replicas_running_loses_no_commit(
    upgrade: str,
    usable: bool,
    postgres_books: PostgresBooks,
    former: list[subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of several starts one upgrades. The former version's replicas write no more, and say why."""
    next_version(monkeypatch, upgrade)
    with ThreadPoolExecutor(3) as executor:
        stores = list(executor.map(lambda _: postgres_books.open(), range(3)))
    ended = [program.communicate(timeout=30)[0].splitlines() for program in former]
    assert all(len(lines) == 1 for lines in ended), ended
    told = [lines[0].split(maxsplit=2) for lines in ended]
    assert [kind for _, kind, _ in told] == ["StoreVersionError"] * 2, told
    assert all("written by a newer version of this exporter" in text for *_, text in told)
    versions = [
        str(version) for (version,) in postgres_books.query("SELECT version FROM targets ORDER BY name")
    ]
    assert versions == [version for version, *_ in told]
    assert postgres_books.query("SELECT version FROM format") == [(schema.SCHEMA_VERSION,)]
    if usable:
        postgres_books.query("DELETE FROM replicas")
        version, _ = load(stores[0])
        commit(stores[0], version, 7)
        assert load(stores[0]) == (version + 1, 7)


def test_tables_of_version_1_become_those_of_a_new_database(postgres_books: PostgresBooks) -> None:
    """Which had no word for each taking, and not how long a lease is; what was counted is there."""
    columns = (
        "SELECT table_name, column_name, data_type, column_default, is_nullable"
        " FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
    )
    store = postgres_books.open()
    store.renew(["t"], 15)
    commit(store, 0, 3)
    new = postgres_books.query(columns)
    postgres_books.query("ALTER TABLE targets DROP COLUMN taking; ALTER TABLE replicas DROP COLUMN seconds")
    postgres_books.query("UPDATE format SET version = 1")
    upgraded = postgres_books.open()
    assert postgres_books.query(columns) == new
    assert upgraded.renew(["t"], 15).replicas.keys() == {upgraded.replica}
    assert load(upgraded) == (1, 3)
    commit(upgraded, 1, 4)


def test_an_upgrade_locks_every_table(postgres_books: PostgresBooks) -> None:
    """But the one with the version, which every commit reads: that is changed last."""
    postgres_books.open()
    found = postgres_books.query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    tables = {name for (name,) in found}
    locked = schema.LOCK_TABLES.removeprefix("LOCK TABLE ").split(", ")
    assert set(locked) == {f"{SCHEMA}.{name}" for name in tables - {"format"}}
    assert locked[-1] == f"{SCHEMA}.claims"


def test_an_upgrade_that_fails_changes_nothing(
    postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former version goes on."""
    store = postgres_books.open()
    commit(store, 0, 1)
    with monkeypatch.context() as patched:
        next_version(patched, f"ALTER TABLE {SCHEMA}.targets ADD extra integer; SELECT 1 / 0")
        with pytest.raises(StoreError, match="division by zero") as caught:
            postgres_books.open()
        assert "\n" not in str(caught.value)
    commit(store, 1, 2)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        postgres_books.query("SELECT extra FROM targets")


def test_an_upgrade_may_take_longer_than_a_statement(
    postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables may be large: the bounds of a commit are not its own."""
    postgres_books.open()
    monkeypatch.setattr(database, "STATEMENT_SECONDS", 0.1)
    monkeypatch.setattr(database, "ANSWER_SECONDS", 0.2)
    next_version(monkeypatch, "SELECT pg_sleep(0.5)")
    postgres_books.open()
    assert postgres_books.query("SELECT version FROM format") == [(schema.SCHEMA_VERSION,)]


def test_a_start_waits_for_the_one_that_upgrades(
    postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than for any other lock."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"
        " AND clock_timestamp() > query_start + interval '0.5 s'"
    )
    with closing(postgres_books.server.connect("books")) as other, ThreadPoolExecutor(1) as executor:
        other.execute("SELECT pg_advisory_lock(%s)", (schema.LOCK,))
        start = executor.submit(postgres_books.open)
        wait_for("a start that waits", lambda: postgres_books.query(waiting) or None)
        assert not start.done()
        other.close()
        assert load(start.result(30)) == (0, 0)


def test_an_upgrade_that_is_not_allowed_is_one_line(
    postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role with the least rights cannot; the owner's start does it."""
    postgres_books.open()
    postgres_books.query(
        f"DROP ROLE IF EXISTS rows; CREATE ROLE rows LOGIN; GRANT USAGE ON SCHEMA {SCHEMA} TO rows;"
        f" GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO rows"
    )
    next_version(monkeypatch, f"ALTER TABLE {SCHEMA}.targets ADD extra integer")
    try:
        with pytest.raises(StoreError, match=r"must be owner of table targets: .*docs/high-availability\.md"):
            PostgresStore(postgres_books.server.url("books", "rows"))
        postgres_books.open()
        store = PostgresStore(postgres_books.server.url("books", "rows"))
        commit(store, 0, 1)
        store.close()
    finally:
        postgres_books.query("DROP OWNED BY rows; DROP ROLE rows")
