"""The books: what is committed, what is published, what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from exporter.ledger.totals import CREATED
from exporter.store.sqlite import SqliteStore
from tests.fake_api import House


def test_books_that_do_not_balance_are_never_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect that counts one side only is dropped with the memory that holds it, and said."""
    store = SqliteStore(tmp_path / "books.db")
    house = House(store)
    asyncio.run(house.poll(3))
    house.api.create()
    asyncio.run(house.poll())
    house.books.ledger.totals.add(CREATED, ("AUDITION", "TTS_LLM"))
    with pytest.raises(RuntimeError, match="is 1: wrong books are not kept"):
        asyncio.run(house.books.commit(house.clock.ms))
    asyncio.run(house.poll(2))
    assert (house.created(), house.open()) == (1, 1)
    store.close()
