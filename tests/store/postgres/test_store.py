"""What only the PostgreSQL store does: tables made once, targets taken from others, faults of a database."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from exporter.app import DATABASE_THREADS
from exporter.errors import (
    ScopeChangedError,
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    StoreVersionError,
)
from exporter.ledger.changes import Changes
from exporter.ledger.stored import StoredLedger
from exporter.ledger.totals import AS_OF_MS, CREATED
from exporter.store.base import Commit, Store
from exporter.store.postgres import PostgresStore, database, schema
from exporter.store.postgres.database import Transaction
from exporter.store.postgres.schema import SCHEMA, SCHEMA_VERSION
from exporter.store.postgres.store import CLAIM_PAUSE
from exporter.store.sqlite import SqliteStore
from exporter.units import MINUTE
from testkit.postgres import NEEDS_PASSWORD, PostgresServer, transaction_pooler
from testkit.processes import free_port, wait_for
from testkit.tcp_proxy import TcpProxy, tcp_proxy
from tests.conftest import Tool
from tests.fake_api import PollerHarness
from tests.store.conftest import PostgresBooks
from tests.store.support import SCOPE, polls

pytestmark = pytest.mark.program

NOTHING = Changes(watermarks=None, jobs={}, evicted=(), totals={}, minutes={}, label_sets=())
COMMIT = Commit(
    version=0, changes=NOTHING, project_id="p1", last_complete_poll=None, buckets={}, keep_minutes_since=0
)
COUNT = (CREATED, "ASYNC_JOB", "TTS_LLM", "")
OTHER_COUNT = (CREATED, "ASYNC_JOB", "TTS_COMMON", "")


def commit(store: Store, version: int, created: int = 0) -> None:
    changes = replace(NOTHING, totals={COUNT: created})
    store.commit("t", SCOPE, replace(COMMIT, version=version, changes=changes))


def store_other(store: Store, version: int) -> None:
    """A commit that counts nothing of what ``commit`` counts."""
    changes = replace(NOTHING, totals={OTHER_COUNT: 7})
    store.commit("t", SCOPE, replace(COMMIT, version=version, changes=changes))


def load(store: Store) -> tuple[int, int]:
    """Version, and what ``commit`` counted."""
    stored = store.load("t", SCOPE, 0, 0)
    return stored.version, stored.totals.get(COUNT, 0)


def held_by(books: PostgresBooks, store: PostgresStore, seconds: int = 3600) -> None:
    """The store's process renewed its leases, by the clock of the database."""
    books.query(
        f"INSERT INTO replicas VALUES ('{store.replica}', clock_timestamp() + interval '{seconds} s', '{{}}',"  # noqa: S608 - our own words
        f" {seconds}) ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, seconds = excluded.seconds"
    )


# --- tables -----------------------------------------------------------------------------------------------


def test_both_stores_keep_the_same(postgres_books: PostgresBooks, tmp_path: Path) -> None:
    """A poller that reads the same jobs leaves the same books."""
    kept = []
    for store in (postgres_books.open(), SqliteStore(tmp_path / "books.db")):
        harness = PollerHarness(store)
        polls(harness)
        held = msgspec.structs.asdict(store.load("t", SCOPE, harness.clock.ms, 0))
        kept.append({**held, "minutes": sorted(held["minutes"])})
        store.close()
    assert kept[0] == kept[1]
    assert kept[0]["jobs"]


def test_a_follower_shows_what_the_holder_shows(postgres_books: PostgresBooks) -> None:
    """Also what depends on the time: the window of recent jobs ends with the last commit, on each of them."""
    with closing(postgres_books.open()) as store, closing(postgres_books.open()) as others:
        holder, follower = PollerHarness(store), PollerHarness(others)
        polls(holder)
        held_by(postgres_books, store)
        late = holder.clock.ms + 10 * MINUTE
        followed = asyncio.run(follower.repository.follow(others, late))
    shown = holder.view
    assert (followed.gauges, followed.totals) == (shown.gauges, shown.totals)
    assert followed.gauges is not None
    assert followed.gauges.jobs
    assert followed.plain(AS_OF_MS) == shown.plain(AS_OF_MS) > 0
    assert (shown.lease_held, followed.lease_held, followed.last_poll.up) == (True, False, False)


def test_processes_that_start_together_make_the_tables_once(postgres_books: PostgresBooks) -> None:
    """On an empty database, and then all count."""
    with ThreadPoolExecutor(4) as executor:
        stores = list(executor.map(lambda _: postgres_books.open(), range(4)))
    assert postgres_books.query("SELECT version FROM format") == [(SCHEMA_VERSION,)]
    for number, store in enumerate(stores):
        store.commit(f"t{number}", SCOPE, COMMIT)
    assert postgres_books.query("SELECT count(*) FROM targets WHERE version = 1") == [(4,)]


def test_one_of_many_first_commits_is_made(postgres_books: PostgresBooks) -> None:
    """All of them began with an empty store."""
    stores = [postgres_books.open() for _ in range(4)]

    def first(store: Store) -> bool:
        load(store)
        try:
            commit(store, 0, 7)
        except StoreConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as executor:
        made = list(executor.map(first, stores))
    assert made.count(True) == 1
    assert load(postgres_books.open()) == (1, 7)


@pytest.mark.parametrize(
    ("sql", "kind", "said"),
    [
        ("UPDATE format SET version = 9", StoreVersionError, "written by a newer version of this exporter"),
        ("DELETE FROM format", StoreCorruptError, "the tables in schema .* were changed from outside"),
        ("DROP TABLE totals", StoreCorruptError, "are damaged or were changed from outside"),
        ("ALTER TABLE jobs DROP flags", StoreCorruptError, "are damaged or were changed from outside"),
        ("UPDATE targets SET buckets = 'x'", StoreCorruptError, "were changed from outside"),
    ],
    ids=["newer", "no-version", "no-table", "no-column", "not-json"],
)
def test_tables_of_others_are_refused_in_one_line(
    postgres_books: PostgresBooks, sql: str, kind: type[StoreError], said: str
) -> None:
    """At a start, and by a process that runs while they change."""
    store = postgres_books.open()
    commit(store, 0)
    postgres_books.query(sql)
    with pytest.raises(kind, match=said) as caught:
        load(store)
    assert "\n" not in str(caught.value)
    with pytest.raises(kind, match=said):
        load(postgres_books.open())


def test_newer_tables_are_one_line_each_way(
    postgres_books: PostgresBooks, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all targets and renewals: when they come, and when a backup with the former ones is restored."""
    store = postgres_books.open()
    with caplog.at_level(logging.INFO):
        store.renew(["t"], 3600)
        postgres_books.query("UPDATE format SET version = version + 7")
        for _ in range(2):
            with pytest.raises(StoreVersionError):
                store.renew(["t"], 3600)
        postgres_books.query("UPDATE format SET version = version - 7")
        for _ in range(2):
            store.renew(["t"], 3600)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "another replica has upgraded the tables",
        "the tables are those of this version again",
    ]


def test_an_older_program_writes_nothing_into_newer_tables(postgres_books: PostgresBooks) -> None:
    """Another replica was upgraded first, between its load and its commit."""
    store = postgres_books.open()
    commit(store, 0)
    postgres_books.query("UPDATE format SET version = 9")
    with pytest.raises(StoreVersionError, match="upgrade the exporter"):
        commit(store, 1, 5)
    assert postgres_books.query("SELECT version FROM targets") == [(1,)]


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: PostgresServer) -> None:
    """Class names and labels may be of any language."""
    latin = postgres.new_database("ENCODING 'LATIN1'")
    with pytest.raises(StoreError, match="has the encoding LATIN1: make one with UTF8"):
        PostgresStore(postgres.url(latin))


def test_other_books_of_the_same_name_are_refused(postgres_books: PostgresBooks) -> None:
    """And the target is not taken from whoever counts them."""
    store = postgres_books.open()
    commit(store, 0)
    with pytest.raises(ScopeChangedError, match="use a new target name"):
        postgres_books.open().load("t", "region=elsewhere", 0, 0)
    commit(store, 1)


# --- rights -----------------------------------------------------------------------------------------------


@pytest.fixture
def role(postgres_books: PostgresBooks) -> Iterator[str]:
    """May connect, and nothing else."""
    postgres_books.query("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN")
    yield "poor"
    postgres_books.query("DROP OWNED BY poor; DROP ROLE poor")


def as_role(books: PostgresBooks, role: str) -> PostgresStore:
    return PostgresStore(books.server.url(books.database, role))


def test_a_role_without_rights_is_told_which_it_needs(postgres_books: PostgresBooks, role: str) -> None:
    with pytest.raises(StoreError, match=r"permission denied for database books: grant the exporter's role"):
        as_role(postgres_books, role)


def test_a_schema_of_its_own_is_enough(postgres_books: PostgresBooks, role: str) -> None:
    """Made by an administrator: then the exporter needs no right on the database itself."""
    postgres_books.query(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {role}")
    store = as_role(postgres_books, role)
    commit(store, 0, 3)
    assert load(store) == (1, 3)
    store.close()


def test_rows_are_enough_where_the_tables_exist(postgres_books: PostgresBooks, role: str) -> None:
    """Made by a role that may: the one that counts then needs to read and write rows."""
    postgres_books.open().close()
    postgres_books.query(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}")
    postgres_books.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {role}")
    store = as_role(postgres_books, role)
    commit(store, 0, 3)
    store.save_breakers({"key": "refused"})
    assert load(store) == (1, 3)
    store.close()


@pytest.mark.e2e
def test_a_password_is_asked_for_again_and_never_shown(postgres_books: PostgresBooks) -> None:
    """It may change while the exporter runs: each new connection uses the one that holds then."""
    server, user = postgres_books.server, NEEDS_PASSWORD
    postgres_books.query(
        f"DROP ROLE IF EXISTS {user}; CREATE ROLE {user} SUPERUSER LOGIN PASSWORD 'first-one'"
    )
    password = "first-one"
    url = server.tcp_url(postgres_books.database, user)
    store = PostgresStore(url, lambda: password)
    postgres_books.query(f"ALTER ROLE {user} PASSWORD 'second-one'")
    password = "second-one"
    postgres_books.query(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{user}'"  # noqa: S608 - our own words
    )
    assert load(store) == (0, 0)
    store.close()
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as caught:
        PostgresStore(url, lambda: "wrong-one")
    assert "wrong-one" not in str(caught.value)
    assert "\n" not in str(caught.value)


# --- who holds a target -----------------------------------------------------------------------------------


def test_a_target_is_loaded_by_one_live_process_only(postgres_books: PostgresBooks) -> None:
    """Until its lease is over, by the clock of the database."""
    one, other = postgres_books.open(), postgres_books.open()
    held_by(postgres_books, one)
    commit(one, 0, 1)
    with pytest.raises(StoreLockedError, match=f"target 't' is held by replica {one.replica}"):
        load(other)
    held_by(postgres_books, one, -1)
    assert load(other) == (1, 1)
    held_by(postgres_books, other)
    with pytest.raises(StoreLockedError, match=f"is held by replica {other.replica}"):
        load(one)


@pytest.mark.parametrize("committed", [False, True], ids=["loaded", "committed"])
def test_a_holder_that_was_paused_writes_no_more(postgres_books: PostgresBooks, committed: bool) -> None:
    """Another process took the target over meanwhile, even if it has not written yet."""
    one, other = postgres_books.open(), postgres_books.open()
    commit(one, 0, 1)
    assert load(other) == (1, 1)
    if committed:
        commit(other, 1, 2)
    with pytest.raises(StoreConflictError, match="took it over"):
        commit(one, 1, 5)
    commit(other, 1 + committed, 3)
    assert load(one) == (2 + committed, 3)


@pytest.mark.parametrize(
    "change", ["fence = fence + 1", "taking = 'another'", "holder = 'another'", "version = version + 1"]
)
def test_each_check_of_a_commit_is_enough(postgres_books: PostgresBooks, change: str) -> None:
    """Where several would refuse it, each of them alone does, and nothing is written."""
    store = postgres_books.open()
    commit(store, 0, 1)
    postgres_books.query(f"UPDATE targets SET {change}")  # noqa: S608 - our own words
    (before,) = postgres_books.query("SELECT version FROM targets")
    with pytest.raises(StoreConflictError, match=r"somebody else committed .*, or took it over"):
        commit(store, 1, 5)
    assert postgres_books.query("SELECT version FROM targets") == [before]
    assert postgres_books.query("SELECT value FROM totals") == [(1,)]


def test_a_commit_given_up_cannot_come_after_the_next_load(postgres_books: PostgresBooks) -> None:
    """The same process took a new fence with that load; the thread of the old commit was slow."""
    store = postgres_books.open()
    commit(store, 0)
    slow = dict(store.fences)
    assert load(store) == (1, 0)
    store.fences, new = slow, store.fences
    with pytest.raises(StoreConflictError):
        commit(store, 1, 5)
    store.fences = new
    commit(store, 1, 2)


def test_a_fence_that_comes_again_is_not_the_old_one(
    postgres_books: PostgresBooks,
) -> None:
    """A standby was promoted without the last taking and commit; another process took it instead."""
    one, other = postgres_books.open(), postgres_books.open()
    commit(other, 0)
    (before,) = postgres_books.query("SELECT fence, version, holder FROM targets")
    load(one)
    commit(one, 1, 5)
    postgres_books.query("UPDATE targets SET (fence, version, holder) = ({}, {}, '{}')".format(*before))  # noqa: S608
    load(other)
    commit(other, 1, 3)
    with pytest.raises(StoreConflictError):
        commit(one, 2, 6)


def test_the_locks_of_a_process_that_stands_still_are_freed(
    postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped (SIGSTOP) while it takes a target: the server ends its session, and the next one goes on."""
    monkeypatch.setattr(database, "IDLE_SECONDS", 0.2)
    one, other = postgres_books.open(), postgres_books.open()
    commit(one, 0, 1)

    def stand_still(transaction: Transaction, *_: object) -> tuple[tuple[int, int], int]:
        transaction.execute(schema.LOCK_TARGET, ("t",))
        assert load(other) == (1, 1)  # waits for the server to end the transaction
        return (1, 1), 0

    monkeypatch.setattr(one, "take", stand_still)
    with pytest.raises(StoreError, match="idle-in-transaction timeout"):
        load(one)
    commit(other, 1, 2)


@pytest.mark.parametrize("made", [True, False], ids=["made", "not-made"])
@pytest.mark.parametrize("others", [0, 1, 2], ids=["alone", "one-commit-of-another", "two-commits"])
def test_polls_count_once_when_another_process_went_on(
    postgres_books: PostgresBooks, made: bool, others: int
) -> None:
    """The answer to a commit was lost. Whether it was made is told by the version that the next one took."""
    store, other = postgres_books.open(), postgres_books.open()
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    answer = store.commit

    def lose(target: str, scope: str, commit: Commit) -> None:
        if made:
            answer(target, scope, commit)
        raise StoreError("the answer was lost")

    store.commit = lose  # type: ignore[method-assign]  # a store that fails after its COMMIT cannot be had otherwise
    harness.repository.poll_ended("failed", 10, harness.clock.ms)
    with pytest.raises(StoreError):
        asyncio.run(harness.repository.commit(harness.clock.ms))
    store.commit = answer  # type: ignore[method-assign]
    if others:
        successor = PollerHarness(other)
        successor.clock, successor.api = harness.clock, harness.api
        asyncio.run(successor.repository.load(harness.clock.ms))
        for _ in range(others):
            asyncio.run(successor.repository.commit(harness.clock.ms))
    asyncio.run(harness.repository.load(harness.clock.ms))
    asyncio.run(harness.repository.commit(harness.clock.ms))
    assert harness.repository.snapshot(harness.clock.ms).polls == {"complete": 3, "failed": 1}


def test_refusals_of_several_processes_are_kept_together(postgres_books: PostgresBooks) -> None:
    """Each writes what it changed: what another one stored meanwhile stays."""
    one, other = postgres_books.open(), postgres_books.open()
    one.save_breakers({"a": "1", "b": "1"})
    other.load_breakers()
    other.save_breakers({"a": "1", "b": "2", "c": "2"})
    one.save_breakers({"b": "1"})  # not a any more; b as it was
    assert postgres_books.open().load_breakers() == {"b": "2", "c": "2"}


# --- leases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["another", "the-same"])
def test_a_taking_that_was_lost_is_not_the_next_one(postgres_books: PostgresBooks, again: bool) -> None:
    """A standby was promoted that lacks a taking with its commits, and the target is taken once more, also by
    the same replica: fence and versions come again. A follower reads all, the old holder writes no more.
    """
    one, other, follower = (postgres_books.open() for _ in range(3))
    commit(other, 0, 1)
    columns = "fence, version, taken_version, taking, holder"
    (before,) = postgres_books.query(f"SELECT {columns} FROM targets")  # noqa: S608
    load(one)
    lost = dict(one.fences)
    commit(one, 1, 5)
    assert follower.read_committed("t", SCOPE, 0, 0).totals == {COUNT: 5}
    values = ", ".join(f"'{value}'" for value in before)
    postgres_books.query(f"UPDATE targets SET ({columns}) = ({values})")  # noqa: S608 - its own
    postgres_books.query("UPDATE totals SET value = 1, version = 1")
    next_holder = one if again else other
    assert load(next_holder) == (1, 1)
    store_other(next_holder, 1)
    assert follower.read_committed("t", SCOPE, 0, 0).totals == {COUNT: 1, OTHER_COUNT: 7}
    one.fences = lost
    with pytest.raises(StoreConflictError):
        commit(one, 2, 6)


@pytest.mark.parametrize("hours", [5, -5], ids=["back", "forward"])
def test_a_database_s_clock_that_is_set_holds_no_target(postgres_books: PostgresBooks, hours: int) -> None:
    """As seen afterwards: a lease that ends hours from now was given before, and is over like one that ended
    hours ago. Its holder writes until another one takes the target.
    """
    one, other = postgres_books.open(), postgres_books.open()
    one.renew(["t"], 15)
    commit(one, 0)
    postgres_books.query(f"UPDATE replicas SET expires = expires + interval '{hours} hours'")  # noqa: S608
    commit(one, 1)
    table = other.renew(["t"], 15)
    assert table.replicas.keys() == {other.replica}
    assert table.holder("t") is None
    assert load(other) == (2, 0)
    with pytest.raises(StoreConflictError):
        commit(one, 2)
    assert one.renew(["t"], 15).replicas.keys() == {one.replica, other.replica}


def test_a_small_step_of_the_database_s_clock_ends_no_lease(postgres_books: PostgresBooks) -> None:
    """Back, by less than the lease: it lasts so much longer."""
    one, other = postgres_books.open(), postgres_books.open()
    one.renew(["t"], 15)
    commit(one, 0)
    postgres_books.query("UPDATE replicas SET expires = expires + interval '10 s'")
    assert other.renew(["t"], 15).holder("t") == one.replica
    with pytest.raises(StoreLockedError):
        load(other)


def test_a_lease_is_over_when_it_is_not_renewed(postgres_books: PostgresBooks) -> None:
    """By the database's clock; then the target is free, and the others know what they can poll."""
    one, other = postgres_books.open(), postgres_books.open()
    one.renew(["t", "u"], 3600)
    commit(one, 0)
    table = other.renew(["t"], 3600)
    assert table.replicas == {one.replica: {"t", "u"}, other.replica: {"t"}}
    assert (table.holder("t"), table.versions) == (one.replica, {"t": 1})
    one.renew(["t", "u"], -1)
    table = other.renew(["t"], 3600)
    assert table.replicas.keys() == {other.replica}
    assert table.holder("t") is None
    assert load(other) == (1, 0)


def test_a_released_target_may_be_taken_at_once(postgres_books: PostgresBooks) -> None:
    """And whoever released it writes no more."""
    one, other = postgres_books.open(), postgres_books.open()
    one.renew(["t"], 3600)
    commit(one, 0)
    one.release(["t"])
    with pytest.raises(StoreConflictError):
        commit(one, 1)
    assert load(other) == (1, 0)
    one.release(["t"])  # it is not its own any more
    commit(other, 1)


def test_a_replica_that_ends_leaves_nothing_behind(postgres_books: PostgresBooks) -> None:
    one, other = postgres_books.open(), postgres_books.open()
    one.renew(["t"], 3600)
    commit(one, 0)
    one.resign()
    table = other.renew(["t"], 3600)
    assert (set(table.replicas), dict(table.holders)) == ({other.replica}, {})


def test_a_view_takes_nothing_and_has_the_open_jobs(postgres_books: PostgresBooks) -> None:
    """All else is as the holder has it."""
    one, other = postgres_books.open(), postgres_books.open()
    assert other.read_committed("t", SCOPE, 0, 0) == StoredLedger()
    harness = PollerHarness(one)
    polls(harness)
    harness.api.create()
    asyncio.run(harness.poll())
    now = harness.clock.ms
    seen, held = other.read_committed("t", SCOPE, now, 10**9), one.load("t", SCOPE, now, 10**9)
    assert seen.jobs == {job_id: job for job_id, job in held.jobs.items() if job.open}
    assert seen.jobs.keys() < held.jobs.keys()
    assert replace(seen, jobs={}) == replace(held, jobs={})
    asyncio.run(harness.repository.load(now))
    with pytest.raises(ScopeChangedError):
        other.read_committed("t", "region=elsewhere", 0, 0)


# --- a database that fails --------------------------------------------------------------------------------


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[TcpProxy]:
    with tcp_proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def remote(postgres_books: PostgresBooks, proxy: TcpProxy) -> Iterator[PostgresStore]:
    """A store behind a network that may break, with one commit."""
    store = PostgresStore(postgres_books.server.tcp_url(postgres_books.database, port=proxy.port))
    commit(store, 0, 1)
    yield store
    store.close()


def test_connections_that_were_closed_while_idle_are_not_used(remote: PostgresStore, proxy: TcpProxy) -> None:
    """As by a restart of the server: nothing fails, no ledger is dropped."""
    proxy.cut()
    commit(remote, 1, 2)
    assert proxy.accepted <= 3


def test_a_server_that_restarted_is_used_again_at_once(postgres_books: PostgresBooks) -> None:
    store = postgres_books.open()
    commit(store, 0, 1)
    postgres_books.server.stop()
    postgres_books.server.start()
    commit(store, 1, 2)
    assert load(store) == (2, 2)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_restart_is_one_line_each_way(
    postgres_books: PostgresBooks,
    how: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many targets and threads meet it, each with another error: sessions are ended, connections
    refused, the server starts.
    """
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.5)
    store, ended = postgres_books.open(), threading.Event()
    seen: list[set[str]] = []

    def use(target: str) -> None:
        seen.append(problems := set())
        while not ended.is_set():
            try:
                store.load(target, SCOPE, 0, 0)
                problems.add("")
            except StoreUnavailableError as error:
                problems.add(str(error))
                ended.wait(0.01)

    def working() -> bool:
        return len(seen) == 4 and all("" in problems for problems in seen)

    with caplog.at_level(logging.INFO), ThreadPoolExecutor(4) as executor:
        uses = [executor.submit(use, target) for target in "tuvw"]
        try:
            wait_for("a use by each", working)
            postgres_books.server.stop(how)
            wait_for("a failure of each", lambda: all(problems - {""} for problems in seen))
            wait_for("another failure", lambda: len(set().union(*seen) - {""}) > 1)
            postgres_books.server.start()
            for problems in seen:
                problems.discard("")
            wait_for("a use by each again", working)
        finally:
            ended.set()
        for one in uses:
            one.result(30)
    assert [record.message for record in caplog.records] == [
        "the database cannot be used: what was committed is still served",
        "the database can be used again",
    ]


def test_an_outage_that_lasts_says_why_it_does(
    postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It began with a broken connection; what keeps a new one from being made is another matter."""
    reasons = [""]

    def password() -> str | None:
        if reasons[0]:
            raise StoreError(reasons[0])
        return None

    with closing(PostgresStore(postgres_books.url, password)) as store, caplog.at_level(logging.INFO):
        commit(store, 0, 1)
        for seconds, why in ((1e6, "the file is gone"), (0.0, "the file is gone"), (0.0, "it is empty")):
            reasons[0] = why
            monkeypatch.setattr(database, "LASTING_SECONDS", seconds)
            postgres_books.query(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE application_name = 'metastudio-tts-exporter'"
            )
            for _ in range(2):
                store.database.next_try = store.database.next_connect = 0.0
                with pytest.raises(StoreUnavailableError):
                    store.load_breakers()
        reasons[0] = ""
        store.database.next_try = store.database.next_connect = 0.0
        assert store.load_breakers() == {}
    assert [record.message for record in caplog.records] == [
        "the database cannot be used: what was committed is still served",
        "the database still cannot be used: what was committed is still served",
        "the database can be used again",
    ]


@pytest.mark.e2e
def test_renewals_that_are_too_slow_are_one_line_each_way(
    postgres_books: PostgresBooks, caplog: pytest.LogCaptureFixture
) -> None:
    """However many commits work meanwhile: one that had longer to wait says nothing of the renewals."""
    store = postgres_books.open()
    commit(store, 0, 1)
    lease = 3 * 1.5
    with caplog.at_level(logging.INFO):
        with postgres_books.server.connect("books") as other, other.transaction():
            other.execute(f"LOCK TABLE {SCHEMA}.replicas")
            for version in range(1, 3):
                with pytest.raises(StoreUnavailableError, match=r"no answer within 1\.5 s"):
                    store.renew(["t"], lease)
                store.database.next_try = 0.0
                commit(store, version, 1 + version)
        store.renew(["t"], 3600.0)
        commit(store, 3, 6)
        assert [record.message for record in caplog.records] == [
            "the database cannot be used: what was committed is still served",
        ]
        store.renew(["t"], lease)
    assert [record.message for record in caplog.records][1:] == ["the database can be used again"]


def test_all_idle_connections_may_be_closed(postgres_books: PostgresBooks) -> None:
    """After a restart each use succeeds, with no pause for each connection that was open before."""
    store = postgres_books.open()
    commit(store, 0, 1)
    with ExitStack() as stack:
        idle = [stack.enter_context(store.database.connection()) for _ in range(database.CONNECTIONS)]
    postgres_books.server.stop()
    postgres_books.server.start()
    with ExitStack() as stack:
        used = [stack.enter_context(store.database.connection()) for _ in idle]
        assert not {id(connection) for connection in used} & {id(connection) for connection in idle}
        assert [connection.execute("SELECT 1").fetchone() for connection in used] == [(1,)] * len(idle)
    assert load(store) == (1, 1)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port where connections are accepted by the kernel, and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


def two_hosts(first: int, second: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{first},127.0.0.1:{second}/books"


def test_a_dead_host_that_comes_first_costs_its_own_wait_only(
    postgres_books: PostgresBooks, black_hole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 2.0)
    store = PostgresStore(two_hosts(black_hole, postgres_books.server.port))
    commit(store, 0, 1)
    assert load(store) == (1, 1)
    store.close()


def test_hosts_that_are_all_dead_are_named(black_hole: int) -> None:
    """Each of them with what was wrong, in one line that says what to do."""
    other = free_port()
    with pytest.raises(StoreUnavailableError) as caught:
        PostgresStore(f"{two_hosts(black_hole, other)}?connect_timeout=2")
    said = str(caught.value)
    assert said.count("Connection refused") == 1
    assert f"port: '{black_hole}'" in said
    assert f"port: '{other}'" in said
    assert "connection timeout expired" in said
    assert said.endswith("see that one of them runs, can be reached from here, and is no standby")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("postgresql://db/d", 5),
        ("postgresql://a,b/d", 10),
        ("postgresql://a,b/d?connect_timeout=3", 6),
        ("postgresql:///d?host=a,b,c,d,e,f", 20),
        ("postgresql://a/d?connect_timeout=0", 20),
        ("postgresql:///d", 5),
    ],
)
def test_how_long_a_connection_may_take_follows_from_the_url(url: str, seconds: float) -> None:
    with closing(database.Database(url)) as opened:
        assert opened.pool.timeout == seconds + database.SPARE_SECONDS


def test_a_timeout_that_is_no_number_is_refused() -> None:
    with pytest.raises(StoreError, match=r"storage\.url: bad value for connect_timeout: 'soon'"):
        database.Database("postgresql://db/d?connect_timeout=soon")


def test_a_process_without_files_left_has_no_database_for_now(
    remote: PostgresStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two lines in the log, and everything goes on by itself."""

    def refused(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with caplog.at_level(logging.INFO):
        with monkeypatch.context() as scarce:
            scarce.setattr(os, "dup", refused)
            for _ in range(5):
                with pytest.raises(StoreUnavailableError, match="too many open files: raise the limit"):
                    commit(remote, 1, 2)
        remote.database.next_try = 0.0
        commit(remote, 1, 2)
    assert load(remote) == (2, 2)
    assert [record.message for record in caplog.records] == [
        "the database cannot be used: what was committed is still served",
        "the database can be used again",
    ]


def test_a_thread_that_cannot_be_started_is_no_end(
    remote: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refused)
        with pytest.raises(StoreUnavailableError, match="no thread can be started"):
            commit(remote, 1, 2)
    remote.database.next_try = 0.0
    commit(remote, 1, 2)


def test_a_renewal_waits_for_a_third_of_the_lease_at_most(remote: PostgresStore, proxy: TcpProxy) -> None:
    """So that a slow database costs one try and not the lease."""
    proxy.swallows = True
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.2 s$"):
        remote.renew(["t"], 0.6)
    assert time.monotonic() - begun < database.ANSWER_SECONDS - 1


def test_a_renewal_does_not_wait_longer_for_a_connection(remote: PostgresStore) -> None:
    with ExitStack() as stack:
        for _ in range(database.CONNECTIONS):
            stack.enter_context(remote.database.connection())
        remote.database.pool.timeout = 3600.0
        with pytest.raises(StoreUnavailableError, match="every connection is in use for too long"):
            remote.renew(["t"], 0.6)


def test_each_thread_has_a_connection() -> None:
    """And the renewals of leases have one more."""
    assert database.CONNECTIONS == DATABASE_THREADS + 1


def test_a_commit_survives_a_crash_of_the_server(postgres_books: PostgresBooks) -> None:
    """Whatever its ``synchronous_commit`` is: what was published must not be gone."""
    server = postgres_books.server
    server.execute("ALTER DATABASE books SET synchronous_commit = off")
    try:
        store = postgres_books.open()
        for version in range(20):
            commit(store, version, version)
        server.stop()
        server.start()
        assert load(store) == (20, 19)
    finally:
        server.execute("ALTER DATABASE books RESET ALL")


def test_no_wait_for_an_answer_is_longer_than_its_bound(
    remote: PostgresStore, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The network swallows packets and acknowledges them; one line says so, one that it is over."""
    monkeypatch.setattr(database, "ANSWER_SECONDS", 0.2)
    proxy.swallows = True
    with caplog.at_level(logging.INFO):
        with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.2 s$"):
            commit(remote, 1, 2)
        for _ in range(20):  # other targets do not wait for it, too
            with pytest.raises(StoreUnavailableError, match=r"no answer within 0\.2 s$"):
                load(remote)
        proxy.swallows = False
        remote.database.next_try = 0.0
        assert load(remote) == (1, 1)
    assert [record.message for record in caplog.records] == [
        "the database cannot be used: what was committed is still served",
        "the database can be used again",
    ]


def test_the_kernel_gives_up_dead_connections(remote: PostgresStore) -> None:
    """Whose packets nobody acknowledges: after as long as an answer may take."""
    with (
        remote.database.connection() as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as end,
    ):
        given = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert given == 1000 * database.ANSWER_SECONDS


def test_a_lock_of_another_session_is_waited_for_within_bounds(
    postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written meanwhile, and the next commit is made."""
    store = postgres_books.open()
    commit(store, 0)
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.2)
    with postgres_books.server.connect(postgres_books.database) as other, other.transaction():
        other.execute(f"LOCK TABLE {SCHEMA}.targets IN EXCLUSIVE MODE")
        with pytest.raises(StoreError, match="another session holds a lock for too long"):
            store.release(["t"])
    assert load(store) == (1, 0)


def test_a_server_that_is_gone_is_not_stormed(
    monkeypatch: pytest.MonkeyPatch, postgres_books: PostgresBooks, remote: PostgresStore, proxy: TcpProxy
) -> None:
    """Two hundred targets that fail make one try, until the pause is over."""
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.5)
    remote.database.pool.timeout = 0.5
    postgres_books.server.stop()
    try:
        before = proxy.accepted
        for _ in range(200):
            with pytest.raises(StoreUnavailableError):
                load(remote)
        assert proxy.accepted - before <= 3
    finally:
        postgres_books.server.start()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (lambda port: f"postgresql://u@127.0.0.1:{port}/d", "connection failed"),
        (
            lambda port: f"postgresql://u@127.0.0.1:{port}/d?sslmode=nonsense",
            'invalid sslmode value: "nonsense"',
        ),
    ],
    ids=["closed-port", "unknown-tls-mode"],
)
def test_a_database_that_cannot_be_reached_is_one_line(
    monkeypatch: pytest.MonkeyPatch, url: Callable[[int], str], said: str
) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.5)
    port = free_port()
    with pytest.raises(StoreUnavailableError, match=said) as caught:
        PostgresStore(url(port))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"postgresql://u@127.0.0.1:{port}/d: ")


@pytest.mark.e2e
def test_a_server_that_may_only_be_read_is_refused(postgres_books: PostgresBooks) -> None:
    """A standby, or a primary that was set to be read-only: another one of the URL may do."""
    postgres_books.query("ALTER DATABASE books SET default_transaction_read_only = on")
    try:
        with pytest.raises(StoreError, match="session is read-only"):
            PostgresStore(postgres_books.url)
    finally:
        postgres_books.server.execute("ALTER DATABASE books RESET ALL")


def test_nothing_is_left_in_a_session(remote: PostgresStore, postgres_books: PostgresBooks) -> None:
    """What a pooler in transaction mode would hand to another client."""
    load(remote)
    with remote.database.connection() as connection:
        for sql, expected in (
            ("SHOW statement_timeout", "0"),
            ("SELECT count(*) FROM pg_prepared_statements", 0),
            ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
        ):
            row: Any = connection.execute(sql.encode()).fetchone()
            assert row[0] == expected


def test_a_pooler_in_transaction_mode_makes_no_difference(postgres_books: PostgresBooks, tool: Tool) -> None:
    """Each transaction may be on another connection than the one before, and another replica's between."""
    server = postgres_books.server
    with transaction_pooler(tool("pgbouncer"), server) as port:
        url = server.tcp_url(postgres_books.database, port=port)
        one, other = PostgresStore(url), PostgresStore(url)
        one.renew(["t"], 3600)
        harness = PollerHarness(one)
        polls(harness)
        now = harness.clock.ms
        with pytest.raises(StoreLockedError):
            other.load("t", SCOPE, now, 0)
        assert other.read_committed("t", SCOPE, now, 0).totals == one.load("t", SCOPE, now, 0).totals
        one.resign()
        assert len(other.load("t", SCOPE, now, 0).jobs) == 240
        one.close()
        other.close()


def test_one_replica_has_the_claim(postgres_books: PostgresBooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it ends it; for nobody, not even itself, while it was refused; of other credentials meanwhile."""
    one, other = postgres_books.open(), postgres_books.open()
    assert (one.take_claim("key"), one.take_claim("key"), other.take_claim("other key")) == (0.0, 0.0, 0.0)
    assert other.take_claim("key") == CLAIM_PAUSE
    other.end_claim("key", 0.0)
    assert other.take_claim("key") == CLAIM_PAUSE
    one.end_claim("key", 0.0)
    assert other.take_claim("key") == 0.0
    other.end_claim("key", 300.0)
    other.end_claim("key", 0.0)
    assert all(250 < store.take_claim("key") <= 300 for store in (one, other))
    postgres_books.query("UPDATE claims SET until = until + interval '5 hours'")  # the clock was set back
    assert one.take_claim("key") == 0.0
    monkeypatch.setattr("exporter.store.postgres.store.CLAIM_SECONDS", -1.0)
    assert (one.take_claim("left"), other.take_claim("left")) == (0.0, 0.0)
