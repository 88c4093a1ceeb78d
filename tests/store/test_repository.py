"""A target's ledger and its store: what is committed, what is published, what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from exporter.errors import StoreCorruptError, StoreError
from exporter.ledger.changes import Changes
from exporter.ledger.totals import CREATED, POLLS
from exporter.store.base import Commit, Store
from exporter.store.sqlite import SqliteStore
from exporter.units import MINUTE
from tests.fake_api import PollerHarness, outage


def test_totals_that_do_not_balance_are_never_written(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A defect that counts one side only is dropped with the memory that holds it, and said."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    harness.api.create()
    asyncio.run(harness.poll())
    harness.repository.ledger.totals.add(CREATED, ("AUDITION", "TTS_LLM"))
    with pytest.raises(RuntimeError, match="is 1: wrong books are not kept"):
        asyncio.run(harness.repository.commit(harness.clock.ms))
    asyncio.run(harness.poll(2))
    assert (harness.created(), harness.open()) == (1, 1)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE totals SET value = value + 5 WHERE name = 'created'",
        "UPDATE totals SET value = 'abc'",
        "UPDATE targets SET buckets = 'x'",
        "DROP TABLE totals",
        "UPDATE jobs SET created = 'abc'",
        "UPDATE jobs SET flags = 1.5",
        "UPDATE jobs SET state = x'ff'",
        "UPDATE jobs SET state = CAST(x'ff' AS TEXT)",
        "UPDATE jobs SET job_id = x'61'",
        "UPDATE jobs SET job_id = CAST(x'ff' AS TEXT)",
    ],
    ids=[
        "another-number",
        "text-for-number",
        "not-json",
        "no-table",
        "job-text-for-number",
        "job-fraction",
        "job-bytes-for-text",
        "job-not-utf8",
        "job-id-bytes",
        "job-id-not-utf8",
    ],
)
def test_a_store_changed_from_outside_is_refused_in_one_line(tmp_path: Path, sql: str) -> None:
    """Neither published, nor a traceback."""
    store = SqliteStore(tmp_path / "books.db")
    harness = PollerHarness(store)
    asyncio.run(harness.poll(2))
    harness.api.create()
    asyncio.run(harness.poll(2))
    store.db.execute(sql)
    harness.restart()
    with pytest.raises(StoreCorruptError, match="the store is damaged") as caught:
        asyncio.run(harness.repository.load(harness.clock.ms))
    assert "\n" not in str(caught.value)
    store.close()


def test_stored_totals_that_do_not_balance_are_refused(store: Store) -> None:
    """Whoever wrote them wrote them well: no checksum shows it."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    changes = Changes(None, {}, (), {(CREATED, "ASYNC_JOB", "TTS_LLM", ""): 5}, {}, ())
    commit = Commit(
        version=store.load("t", "region=cn-north-4", 0, 0).version,
        changes=changes,
        project_id="p1",
        last_complete_poll=None,
        buckets={},
        keep_minutes_since=0,
    )
    store.commit("t", "region=cn-north-4", commit)
    harness.restart()
    with pytest.raises(StoreCorruptError, match=r"do not balance \(by 5\)"):
        asyncio.run(harness.repository.load(harness.clock.ms))


def test_a_poll_committed_after_its_time_limit_is_counted_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled in the middle of its last commit, which the store finishes: the next repository knows."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    before = harness.repository
    commit = store.commit

    def interrupted(target: str, scope: str, step: Commit) -> None:
        """The poll is cancelled while the store makes its last commit, the one that counts it."""
        commit(target, scope, step)
        if any(key[0] == POLLS for key in step.changes.totals):
            raise asyncio.CancelledError

    monkeypatch.setattr(store, "commit", interrupted)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(harness.poller.poll())
    monkeypatch.setattr(store, "commit", commit)
    harness.restart()
    harness.repository.take_over(before)
    asyncio.run(harness.poll())
    assert harness.views[-1].polls == {"complete": 5}


def test_a_poll_that_no_commit_holds_is_handed_on(store: Store) -> None:
    """The store was out of order for a while: the successor of the repository counts it."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    harness.repository.poll_ended("failed", 10, harness.clock.ms)
    before = harness.repository
    harness.restart()
    harness.repository.take_over(before)
    asyncio.run(harness.poll())
    assert harness.views[-1].polls == {"complete": 4, "failed": 1}


@pytest.mark.parametrize("made", [True, False], ids=["made", "not-made"])
def test_polls_count_once_whether_a_failed_commit_was_made(store: Store, made: bool) -> None:
    """One poll was in the commit whose answer was lost, the next ended before the ledger was loaded again."""
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
    assert not harness.repository.loaded
    store.commit = answer  # type: ignore[method-assign]
    harness.repository.poll_ended("failed", 20, harness.clock.ms)
    asyncio.run(harness.repository.load(harness.clock.ms))
    asyncio.run(harness.repository.commit(harness.clock.ms))
    assert harness.repository.snapshot(harness.clock.ms).polls == {
        "complete": 3,
        "failed": 2,
    }


def test_only_a_complete_poll_is_the_last_complete_one(store: Store) -> None:
    """Polls that fail must not move it, a restart must not lose it: the alert on stale numbers needs it."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    complete = harness.view.last_complete_poll
    harness.api.fail = outage
    asyncio.run(harness.poll(2))
    harness.restart()
    assert asyncio.run(harness.poll()) == "failed"
    assert harness.view.last_complete_poll == complete


@pytest.mark.slow
def test_minutes_stay_in_memory_back_to_the_oldest_job(store: Store) -> None:
    """Of the hours since a job hangs it is known how many records each minute has; no longer after it."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    stuck = harness.api.create()
    harness.api.create(state="SUCCEED")
    begun = harness.clock.ms // MINUTE
    asyncio.run(harness.poll(80, every=6 * MINUTE))
    assert harness.repository.ledger.minutes.density(begun) == 1
    harness.api.finish(stuck)
    asyncio.run(harness.poll(20, every=6 * MINUTE))
    assert harness.repository.ledger.minutes.density(begun) == 0
