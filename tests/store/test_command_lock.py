"""A command that asks the API says so by a lock in the store."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter.errors import StoreError
from exporter.store.base import CommandLock, SharedStore, Store
from exporter.store.postgres import PostgresCommandLock, PostgresStore
from exporter.store.sqlite import SqliteStore
from exporter.store.sqlite_command_lock import SqliteCommandLock
from tests.store.conftest import Books, PostgresBooks, SqliteBooks

HOLDER = """
import sys
from pathlib import Path
from exporter.store.sqlite_command_lock import SqliteCommandLock
lock = SqliteCommandLock(Path(sys.argv[1]), ("key",), 1.0)
print(lock.take(), flush=True)
sys.stdin.read()
"""


def lock_of(books: Books, credentials: str = "key") -> CommandLock:
    if isinstance(books, SqliteBooks):
        return SqliteCommandLock(books.file, (credentials,), known_after=1.0)
    assert isinstance(books, PostgresBooks)
    return PostgresCommandLock(books.url, lambda: None, (credentials,))


def asks(store: Store, credentials: str = "key") -> bool:
    if isinstance(store, SharedStore):
        store.renew([], 15.0)
    return store.command_asks(credentials)


def test_the_exporter_knows_of_a_command_until_it_ends(books: Books, store: Store) -> None:
    """Of its credentials, and of no others."""
    assert not asks(store)
    with closing(lock_of(books)) as lock:
        assert lock.take() is not None
        assert asks(store)
        assert not asks(store, "other")
    assert not asks(store)


def test_a_second_command_waits_for_the_first(books: Books, store: Store) -> None:
    """Each takes half of the rate: two would leave nothing. With other credentials it need not wait."""
    with closing(lock_of(books)) as first, closing(lock_of(books)) as second:
        assert first.take() is not None
        assert second.take() is None
        with closing(lock_of(books, "other")) as other:
            assert other.take() is not None
        first.close()
        assert second.take() is not None
        assert asks(store)


def test_books_are_used_as_before_while_a_command_asks(books: Books, store: Store) -> None:
    """Neither commits nor the lock against a second exporter notice it, nor does its end change anything."""
    for _ in range(2):
        with closing(lock_of(books)) as lock:
            lock.take()
            store.save_breakers({"key": "state"})
            assert store.load_breakers() == {"key": "state"}
    if isinstance(books, SqliteBooks):
        with pytest.raises(StoreError, match="another exporter is using this store"):
            SqliteStore(books.file)


def test_a_command_waits_until_every_exporter_knows(books: Books, store: Store) -> None:
    """A file's exporter looks every second; replicas look when they renew, and the longest lease counts."""
    with closing(lock_of(books)) as lock:
        if isinstance(store, SharedStore):
            assert lock.take() == 0.0
            store.renew([], 30.0)
            with closing(lock_of(books, "other")) as later:
                assert later.take() == pytest.approx(12.0)
            return
        assert lock.take() == 1.0
        store.close()
        with closing(lock_of(books, "other")) as later:
            assert later.take() == 0.0


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that holds the lock of a file."""
    SqliteStore(tmp_path / "books.db").close()
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path / "books.db")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.program
def test_a_killed_command_holds_nothing(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """A lock that outlives its command would halve the rate for ever."""
    assert holder.stdout is not None
    assert holder.stdout.readline() == "0.0\n"
    with closing(SqliteStore(tmp_path / "books.db")) as store:
        assert store.command_asks("key")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not store.command_asks("key")


@pytest.mark.program
def test_the_lock_is_gone_when_the_database_ends_the_connection(postgres_books: PostgresBooks) -> None:
    """And the command goes on: it is not the lock that it is there for."""
    store = postgres_books.open()
    with closing(lock_of(postgres_books)) as lock:
        lock.take()
        assert asks(store)
        postgres_books.query(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks"
            " WHERE locktype = 'advisory' AND objsubid = 2"
        )
        assert not asks(store)


def test_where_nothing_was_counted_there_is_nobody_to_tell(
    tmp_path: Path, postgres_books: PostgresBooks
) -> None:
    """No file, no tables: the lock is no reason to make some."""
    with closing(SqliteCommandLock(tmp_path / "none.db", ("key",), known_after=1.0)) as lock:
        assert lock.take() == 0.0
    assert not (tmp_path / "none.db").exists()
    with closing(lock_of(postgres_books)) as lock:
        assert lock.take() == 0.0
    assert not postgres_books.query("SELECT 1 FROM pg_namespace WHERE nspname = 'metastudio_tts_exporter'")


def test_a_store_that_this_user_may_not_write_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command warns then: the exporter cannot know."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("exporter.store.sqlite_command_lock.os.open", refuse)
    with pytest.raises(StoreError, match=r"books\.db: cannot be opened \(Permission denied\)"):
        SqliteCommandLock(tmp_path / "books.db", ("key",), known_after=1.0)


def test_a_database_that_is_not_there_is_one_line(postgres_books: PostgresBooks) -> None:
    """Without the password that was sent to it."""
    with (
        closing(PostgresCommandLock(f"{postgres_books.url}_missing", lambda: "pa55word", ("key",))) as lock,
        pytest.raises(StoreError) as error,
    ):
        lock.take()
    assert "pa55word" not in str(error.value)
    assert "\n" not in str(error.value)


def test_replicas_of_a_store_know_each_only_by_its_renewal(postgres_books: PostgresBooks) -> None:
    """Between two renewals the answer is the last one's: no request waits for the database."""
    stores: list[PostgresStore] = [postgres_books.open(), postgres_books.open()]
    with closing(lock_of(postgres_books)) as lock:
        lock.take()
        stores[0].renew([], 15.0)
        assert [store.command_asks("key") for store in stores] == [True, False]
