"""What both kinds of stores say of the past is the same; a database is read beside its replicas."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from exporter.errors import NoStoreError, ScopeChangedError, StoreError, StoreVersionError
from exporter.store.postgres import PostgresPast
from exporter.store.postgres.schema import SCHEMA
from exporter.store.sqlite import SqliteStore
from exporter.store.sqlite_past import SqlitePast
from exporter.units import MINUTE
from tests.fake_api import PollerHarness
from tests.store.conftest import PostgresBooks
from tests.store.support import SCOPE, polls


def past_of(
    books: PostgresBooks, user: str = "postgres", target: str = "t", scope: str = SCOPE
) -> PostgresPast:
    return PostgresPast(books.server.url(books.database, user), lambda: None, target, scope, None)


def test_both_stores_say_the_same_of_the_past(postgres_books: PostgresBooks, tmp_path: Path) -> None:
    """For every stretch; of open jobs too, while a replica holds the target."""
    holder, file = postgres_books.open(), SqliteStore(tmp_path / "books.db")
    holder.renew(["t"], 3600)
    for store in (holder, file):
        harness = PollerHarness(store)
        polls(harness, rounds=5)
        polls(harness, rounds=5, service="TTS_LAB")
    now = harness.clock.ms // MINUTE * MINUTE
    before = postgres_books.query("SELECT * FROM targets")
    one, other = past_of(postgres_books), SqlitePast(tmp_path / "books.db", "t", SCOPE, None)
    assert replace(one.ledger, jobs={}, minutes=()) == replace(other.ledger, jobs={}, minutes=())
    assert sorted(one.ledger.minutes) == sorted(other.ledger.minutes)
    found = [one.read(since, since + MINUTE) for since in range(now - 60 * MINUTE, now + MINUTE, MINUTE)]
    assert found == [
        other.read(since, since + MINUTE) for since in range(now - 60 * MINUTE, now + MINUTE, MINUTE)
    ]
    assert one.read(0, now + MINUTE) == other.read(0, now + MINUTE)
    assert [part for part in found if part.minutes]
    assert [part for part in found if part.open_jobs]
    assert postgres_books.query("SELECT * FROM targets") == before
    file.close()


def test_to_be_allowed_to_read_is_enough(postgres_books: PostgresBooks) -> None:
    """For ``verify`` and ``backfill``, by somebody who must not change anything."""
    polls(PollerHarness(postgres_books.open()), rounds=2)
    postgres_books.query(
        f"DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA {SCHEMA} TO reader;"
        f" GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO reader"
    )
    try:
        assert past_of(postgres_books, "reader").read(0, 2**60).minutes
    finally:
        postgres_books.query("DROP OWNED BY reader; DROP ROLE reader")


def test_a_past_that_is_not_there_is_one_line(postgres_books: PostgresBooks) -> None:
    """No tables, no counts of this target, or of something else under its name, or of a newer version."""
    with pytest.raises(NoStoreError, match=r"books: there is no store: nothing was counted there$"):
        past_of(postgres_books)
    assert SCHEMA not in [name for (name,) in postgres_books.query("SELECT nspname FROM pg_namespace")]
    polls(PollerHarness(postgres_books.open()), rounds=1)
    with pytest.raises(StoreError, match=r"nothing was counted for target 'other' yet$"):
        past_of(postgres_books, target="other")
    with pytest.raises(ScopeChangedError, match="use a new target name"):
        past_of(postgres_books, scope="region=elsewhere")
    postgres_books.query("UPDATE format SET version = 9")
    with pytest.raises(StoreVersionError, match="written by a newer version"):
        past_of(postgres_books)
