"""R10 Commit, then publish (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.errors import StoreError, StoreLockedError
from exporter.store.sqlite import SqliteStore
from tests.fake_api import PollerHarness
from tests.polling.rules.support import run, started


def test_what_was_not_committed_is_not_published_and_not_lost(
    harness: PollerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing memory would show counters that a restart takes back."""
    started(harness)
    harness.api.create()
    seen = harness.created()

    def disk_full(*_: object) -> None:
        raise StoreError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "commit", disk_full)
        run(harness, 3)
    assert harness.created() == seen
    run(harness, 2)
    assert harness.created() == seen + 1


def test_a_second_exporter_cannot_open_the_same_store(store: SqliteStore, tmp_path: Path) -> None:
    """Two processes on one file would each add the same jobs."""
    with pytest.raises(StoreLockedError, match=r"another exporter is using this store"):
        SqliteStore(tmp_path / "books.db")


def test_a_restart_in_the_middle_of_everything_repeats_nothing(harness: PollerHarness) -> None:
    """Forgetting identities at a restart would count the overlap again."""
    started(harness)
    jobs = []
    for number in range(100):
        jobs.append(harness.api.create())
        if number >= 10:
            harness.api.finish(jobs[number - 10])
        run(harness)
        harness.restart()
    run(harness, 40)
    assert (harness.created(), harness.finished(), harness.open()) == (100, 90, 10)


def test_before_the_store_is_read_nothing_is_published_as_zero(store: SqliteStore) -> None:
    """Zeros from an unread store would look like a counter reset."""
    harness = PollerHarness(store)
    view = harness.repository.snapshot(None)
    assert (view.label_sets, view.gauges, view.created) == ((), None, {})
