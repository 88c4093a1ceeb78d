"""What the tests of polling begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.store.sqlite import SqliteStore
from testkit.world import quick_store
from tests.fake_api import PollerHarness


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = quick_store(tmp_path / "books.db")
    yield store
    store.close()


@pytest.fixture
def harness(store: SqliteStore) -> PollerHarness:
    return PollerHarness(store)
