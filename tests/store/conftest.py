"""Books that can be opened again and again, once in a SQLite file and once in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from exporter.store.base import Store
from exporter.store.postgres import PostgresStore
from exporter.store.postgres.schema import SCHEMA
from exporter.store.sqlite import SqliteStore
from testkit.postgres import PostgresServer


class Books(Protocol):
    """Where ledgers are kept, whatever kind of store it is."""

    def open(self) -> Store:
        """The store, as one more process opens it; the fixture closes it."""

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run by somebody else; tables need no prefix."""


class SqliteBooks:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "books.db"
        self._opened: list[SqliteStore] = []

    def open(self) -> SqliteStore:
        self.close()  # one process at a time
        self._opened.append(SqliteStore(self.file))
        return self._opened[-1]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self._opened[-1].db.execute(sql))

    def close(self) -> None:
        for store in self._opened:
            store.close()


class PostgresBooks:
    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.database = server.empty_database()
        self.url = server.url(self.database)
        self._opened: list[PostgresStore] = []

    def open(self) -> PostgresStore:
        self._opened.append(PostgresStore(self.url))
        return self._opened[-1]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.database) as connection:
            connection.execute(f"SET search_path = {SCHEMA}")
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def postgres_books(postgres: PostgresServer) -> Iterator[PostgresBooks]:
    with closing(PostgresBooks(postgres)) as books:
        yield books


@pytest.fixture(params=["sqlite", "postgresql"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Both kinds of stores, one after the other: what holds for one must hold for the other."""
    made: SqliteBooks | PostgresBooks = (
        SqliteBooks(tmp_path)
        if request.param == "sqlite"
        else PostgresBooks(request.getfixturevalue("postgres"))
    )
    with closing(made):
        yield made


@pytest.fixture
def store(books: Books) -> Store:
    return books.open()
