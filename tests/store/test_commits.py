"""What one commit changes, and what the next process finds of it: in both kinds of stores."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from exporter.ledger.changes import Changes
from exporter.ledger.job_index import Job
from exporter.ledger.minutes import IDS_MASK
from exporter.ledger.watermarks import Watermarks
from exporter.store.base import Commit, Store
from exporter.units import MINUTE
from tests.store.conftest import Books
from tests.store.support import SCOPE

NOTHING = Changes(watermarks=None, jobs={}, evicted=(), totals={}, minutes={}, label_sets=())
LABEL_SET = ("ASYNC_JOB", "TTS_LLM")
MINUTES = {(minute, *LABEL_SET, "SUCCEED", ""): (2, 30) for minute in (9, 10, 11)}
JOB = Job(1, "WAITING", *LABEL_SET)


def commit(store: Store, version: int, target: str = "t", keep: int = 0, **changes: Any) -> None:
    step = Commit(
        version=version,
        changes=replace(NOTHING, **changes),
        project_id="",
        last_complete_poll=None,
        buckets={},
        keep_minutes_since=keep,
    )
    store.commit(target, SCOPE, step)


def minutes(store: Store, target: str = "t", now: int = 0) -> dict[int, int]:
    """Jobs by minute."""
    return {row[0]: row[2] for row in store.load(target, SCOPE, now, 0).minutes}


def test_sums_of_ids_wrap_around(store: Store, books: Books) -> None:
    """SQLite's integers are too small for the plain sum of many ids, and its floats not exact."""
    largest = dict.fromkeys(MINUTES, IDS_MASK)
    for version in range(5):
        commit(store, version, minutes=MINUTES, minute_ids=largest)
    ((ids,),) = books.query("SELECT DISTINCT ids FROM minutes")
    assert (ids, type(ids)) == (5 * IDS_MASK & IDS_MASK, int)
    assert store.load("t", SCOPE, 0, 0).version == 5


def test_minute_counts_of_two_commits_add_up(store: Store, books: Books) -> None:
    """A commit holds what came since the last one, also for a minute that was written before."""
    commit(store, 0, minutes=MINUTES)
    commit(store, 1, minutes=MINUTES)
    assert minutes(store) == {9: 4, 10: 4, 11: 4}
    characters = books.query("SELECT DISTINCT characters FROM minutes")
    assert characters == [(60,)]


def test_old_minutes_are_dropped_from_one_target_only(store: Store) -> None:
    """The minute in which the time to keep begins stays, and so does all that other targets have."""
    commit(store, 0, target="other", minutes=MINUTES)
    commit(store, 0, minutes=MINUTES)
    commit(store, 1, keep=10 * MINUTE + 1)
    assert minutes(store) == {10: 2, 11: 2}
    assert minutes(store, "other") == {9: 2, 10: 2, 11: 2}


def test_minutes_are_loaded_by_the_time_of_the_store(store: Store) -> None:
    """After downtime the minutes around the settled time are needed, however long ago they were."""
    commit(store, 0, minutes=MINUTES, watermarks=Watermarks.start(10 * MINUTE))
    assert minutes(store, now=1_000 * MINUTE) == {10: 2, 11: 2}


def test_minutes_are_loaded_back_to_the_oldest_job(store: Store) -> None:
    """What it costs to list the time around a job that hangs is planned with them."""
    jobs = {"new": Job(11 * MINUTE, "WAITING", *LABEL_SET), "stuck": Job(10 * MINUTE, "WAITING", *LABEL_SET)}
    commit(store, 0, minutes=MINUTES, watermarks=Watermarks.start(1_000 * MINUTE), jobs=jobs)
    assert minutes(store, now=1_000 * MINUTE) == {10: 2, 11: 2}


def test_the_times_come_back_with_the_catch_up_under_way(store: Store) -> None:
    """If it were lost, the catch-up would be cut short by a second jump (R8, docs/counting.md)."""
    watermarks = Watermarks(1_000, 4_000, 3_000, 2_000, catching_up=5_000)
    commit(store, 0, watermarks=watermarks)
    assert store.load("t", SCOPE, 0, 0).watermarks == watermarks


def test_a_total_that_is_gone_does_not_come_back(store: Store) -> None:
    """A histogram with other buckets starts anew; its neighbours stay."""
    gone, kept = ("text_length", *LABEL_SET, "100"), ("created", *LABEL_SET, "")
    commit(store, 0, totals={gone: 3, kept: 5})
    commit(store, 1, totals={gone: None})
    assert store.load("t", SCOPE, 0, 0).totals == {kept: 5}


def test_label_sets_keep_the_order_in_which_they_were_met(store: Store) -> None:
    """Who came first has a place within ``max_label_sets``: not by the alphabet."""
    label_sets = (("Z", "Z"), ("A", "A"), ("M", "M"))
    commit(store, 0, label_sets=label_sets[:2])
    commit(store, 1, label_sets=label_sets[1:])
    assert store.load("t", SCOPE, 0, 0).label_sets == label_sets


def test_a_job_evicted_and_seen_again_in_one_commit_stays(store: Store) -> None:
    """What is remembered at the end of a step is what the store holds."""
    commit(store, 0, jobs={"j": JOB, "k": JOB})
    commit(store, 1, evicted=(("j", 1), ("k", 1)), jobs={"j": JOB})
    assert store.load("t", SCOPE, 0, 0).jobs == {"j": JOB}
