"""One job, second or answer that is wrong again and again: nothing else waits for it, or is counted less."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

import pytest

from exporter.errors import ApiError, ErrorKind, StoreError
from exporter.ledger.record import JobsQuery, Page, Record
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness


@pytest.fixture
def harness(store: SqliteStore) -> PollerHarness:
    """Started a minute ago."""
    harness = PollerHarness(store)
    run(harness, 4)
    return harness


def run(harness: PollerHarness, polls: int = 1, every: int = 15 * SECOND) -> str:
    return asyncio.run(harness.poll(polls, every))


def stuck_in_the_dense(harness: PollerHarness, jobs: int) -> list[str]:
    """Open jobs, each among so many finished ones that it is looked up by its id; an hour ago."""
    stuck = []
    for _ in range(jobs):
        stuck.append(harness.api.create())
        for number in range(250):
            harness.api.create(harness.clock.ms + number % 50 * SECOND, state="SUCCEED")
        run(harness, 8)
    run(harness, 60, MINUTE)
    return stuck


def broken(hit: Callable[[JobsQuery], object], status: int = 500) -> Callable[[JobsQuery], ApiError | None]:
    kind = ErrorKind.SERVER if status >= 500 else ErrorKind.CLIENT
    return lambda query: ApiError(kind, "it is broken", status=status) if hit(query) else None


def lists(query: JobsQuery, at: int) -> bool:
    return query.job_id is None and query.since is not None and query.since <= at <= (query.until or 0)


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, 404])
@pytest.mark.parametrize("way", ["lookup", "listing"])
def test_a_recheck_that_always_fails_delays_no_other_job(
    harness: PollerHarness, way: str, status: int
) -> None:
    """It is the one that waited longest: if it ended the rechecks, no other job's end would be seen."""
    stuck = stuck_in_the_dense(harness, 6)
    at = harness.api.jobs[stuck[0]].create_time or 0
    harness.api.fail = broken(
        lambda query: query.job_id == stuck[0] if way == "lookup" else lists(query, at), status
    )
    for job in stuck[1:]:
        harness.api.finish(job, "FAILED")
    assert run(harness, 20, MINUTE)
    assert harness.finished("FAILED") == len(stuck) - 1


@pytest.mark.slow
def test_many_rechecks_that_always_fail_delay_no_other_job(harness: PollerHarness) -> None:
    """More of them than one poll tries: whoever waited longest must not always be one of these."""
    stuck = stuck_in_the_dense(harness, 8)
    bad = {job: harness.api.jobs[job].create_time or 0 for job in stuck[:5]}
    harness.api.fail = broken(
        lambda query: query.job_id in bad or any(lists(query, at) for at in bad.values())
    )
    run(harness, 20, MINUTE)
    for job in stuck[5:]:
        harness.api.finish(job, "FAILED")
    run(harness, 20, MINUTE)
    assert harness.finished("FAILED") == 3


def test_an_unlistable_second_delays_nothing_listed_with_it(
    harness: PollerHarness,
) -> None:
    """Few records, one window for all: that fails as a whole until its jobs are asked for alone."""
    jobs = []
    for _ in range(6):
        jobs.append(harness.api.create())
        run(harness, 2)
    run(harness, 60, MINUTE)
    at = harness.api.jobs[jobs[2]].create_time or 0
    harness.api.fail = broken(lambda query: lists(query, at))
    for job in jobs[:2] + jobs[3:]:
        harness.api.finish(job, "FAILED")
    run(harness, 30, MINUTE)
    assert harness.finished("FAILED") == 5


@pytest.mark.slow
def test_a_deleted_job_vanishes_although_its_lookup_fails(harness: PollerHarness) -> None:
    """An API may answer an id that it does not know with 404: so it is asked for by listing, too."""
    stuck = stuck_in_the_dense(harness, 4)
    del harness.api.jobs[stuck[0]]
    harness.api.fail = broken(
        lambda query: query.job_id is not None and query.job_id not in harness.api.jobs, 404
    )
    run(harness, 120, MINUTE)
    assert (harness.expired("vanished"), harness.open()) == (1, 3)
    assert run(harness, 10, MINUTE) == "complete"


def test_after_a_short_outage_jobs_are_still_rechecked_together(harness: PollerHarness) -> None:
    """What fails for all is no reason to ask for each alone."""
    jobs = [harness.api.create(harness.clock.ms - number * SECOND) for number in range(40)]
    run(harness, 60, MINUTE)
    harness.api.fail = broken(lambda query: True)
    run(harness, 20, MINUTE)
    harness.api.fail = lambda query: None
    harness.api.queries.clear()
    run(harness, 10, MINUTE)
    single = {(at, at + SECOND) for job in jobs if (at := harness.api.jobs[job].create_time) is not None}
    assert not [
        query for query in harness.api.queries if query.job_id or (query.since, query.until) in single
    ]


def test_a_deleted_job_vanishes_beside_an_unlistable_stretch(harness: PollerHarness) -> None:
    """The page that would prove it fails: then rechecks of the job alone must do."""
    near = harness.api.create(state="SUCCEED")
    run(harness, 40)
    job = harness.api.create()
    run(harness, 80)
    at = harness.api.jobs[near].create_time or 0
    del harness.api.jobs[job]
    harness.api.fail = broken(lambda query: lists(query, at))
    run(harness, 180, MINUTE)
    assert (harness.expired("vanished"), harness.open()) == (1, 0)


@pytest.mark.parametrize("back", [3, 60], ids=["finished a moment ago", "open for an hour"])
def test_new_jobs_are_counted_beside_an_unlistable_stretch(harness: PollerHarness, back: int) -> None:
    """Older records are listed together with the news where that costs no request: it must not cost the
    news.
    """
    job = harness.api.create()
    at = harness.api.jobs[job].create_time or 0
    if back == 3:
        harness.api.finish(job)
    run(harness, 4 * back)
    harness.api.fail = broken(lambda query: lists(query, at))
    for _ in range(24):
        harness.api.create(state="SUCCEED")
        run(harness)
    assert harness.created() == 25


def test_an_unlistable_second_delays_no_open_job(harness: PollerHarness) -> None:
    """The settled time stops there; open jobs are rechecked all the same."""
    job = harness.api.create()
    run(harness, 60)
    at = harness.clock.ms // SECOND * SECOND
    harness.api.create(at, state="SUCCEED")
    harness.api.fail = broken(lambda query: lists(query, at))
    run(harness, 60)
    harness.api.finish(job)
    run(harness, 8)
    assert harness.finished() == 1


@pytest.mark.slow
def test_an_unlistable_second_is_skipped_after_max_catch_up(store: SqliteStore) -> None:
    """Nothing behind it is settled: without an end to that, no job would ever be counted again."""
    harness = PollerHarness(store, max_catch_up=2 * 60 * MINUTE)
    run(harness, 4)
    at = harness.clock.ms // SECOND * SECOND
    harness.api.create(at, state="SUCCEED")
    harness.api.fail = broken(lambda query: lists(query, at))
    run(harness, 180, MINUTE)
    skipped = harness.view.skipped_ms
    assert 0 < skipped < 30 * MINUTE
    news = [harness.api.create(state="SUCCEED") for _ in range(10)]
    run(harness, 4)
    assert harness.created() == len(news)
    run(harness, 180, MINUTE)
    assert harness.view.skipped_ms == skipped


@pytest.mark.slow
def test_an_unsteady_list_around_a_missing_job_delays_no_other(store: SqliteStore) -> None:
    """What lies around it cannot be read to its end: reading half after half of it takes the whole budget."""
    harness = PollerHarness(store, max_catch_up=2 * 60 * MINUTE, trust_count=False)
    api, rng = harness.api, random.Random(3)
    api.count_respects_filters = False
    matching = api.matching

    def shuffled(query: JobsQuery) -> Iterator[Record]:
        """In no order within a minute."""
        return iter(
            sorted(matching(query), key=lambda one: (-((one.create_time or 0) // MINUTE), rng.random()))
        )

    api.matching = shuffled  # type: ignore[method-assign]  # a list as bad as that
    run(harness, 4)
    others = []
    for _ in range(10):
        run(harness, 4)
        others.append(api.create())
    lost = api.create()
    run(harness, 2)
    for number in range(12_000):
        api.create(harness.clock.ms + 10 * SECOND + number * SECOND // 6, state="SUCCEED")
    harness.clock.ms += 5 * 60 * MINUTE
    del api.jobs[lost]
    harness.clock.known = 0
    harness.restart()
    run(harness, 8)
    api.queries.clear()
    for job in others:
        api.finish(job, "FAILED")
    run(harness, 120)
    assert harness.finished("FAILED") == len(others)
    assert len(api.queries) < 5 * 120


def test_a_finished_job_only_lookups_show_blocks_nothing(harness: PollerHarness) -> None:
    """Shown by id it would refute the windows that missed it, and be missed by those that are read again."""
    hidden = harness.api.create(state="SUCCEED")
    run(harness, 3)
    matching = harness.api.matching
    harness.api.matching = lambda query: (  # type: ignore[method-assign]  # lists leave it out
        record for record in matching(query) if query.job_id is not None or record.job_id != hidden
    )
    for _ in range(120):
        for number in range(20):
            harness.api.create(harness.clock.ms - number % 15 * SECOND, state="SUCCEED")
        run(harness)
    assert harness.view.gauges is not None
    assert harness.clock.ms - harness.view.gauges.counted_until < 3 * harness.ledger_settings.overlap
    assert harness.created() == len(harness.api.jobs)


@pytest.mark.parametrize("what", ["restart", "refused commit"])
def test_what_a_late_record_has_read_again_outlives_a_restart(
    harness: PollerHarness, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag of the record is in the store; where the reading had come to is not."""
    harness.api.empty = True
    run(harness, 100)
    for _ in range(1200):
        harness.api.create(state="SUCCEED")
    run(harness, 30)
    harness.api.empty = False
    run(harness)
    assert 0 < harness.created() < 1200
    if what == "restart":
        harness.restart()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "commit", refuse)
            run(harness)
    run(harness, 60)
    assert harness.created() == 1200


def refuse(*_: object) -> None:
    raise StoreError("disk full")


@pytest.mark.slow
def test_a_job_shown_after_all_ends_no_reading_of_a_late_record(store: SqliteStore) -> None:
    """Both make a stretch be read again: the one that begins earlier counts."""
    harness = PollerHarness(store, budget=12)
    harness.api.newest_first = False
    run(harness, 104)
    begin = harness.clock.ms // SECOND * SECOND
    for number in range(3000):
        job = harness.api.create(begin + number % 60 * SECOND, state="SUCCEED")
        harness.api.appears[job] = begin + 90 * SECOND
    held = harness.api.create(begin + 62 * SECOND)
    harness.clock.ms += 63 * SECOND
    run(harness)
    harness.api.empty = True
    run(harness, 32)
    harness.api.empty = False
    harness.api.appears[held] = harness.clock.ms + 10 * SECOND
    run(harness, 60)
    assert harness.created() == 3001


def test_a_probe_between_empty_answers_adds_no_missing_time(store: SqliteStore) -> None:
    """What it shows is recorded; when it was asked, and so how long anything is missing, nobody knows."""
    harness = PollerHarness(store, time_filters=False)
    harness.api.time_filters_work = False
    run(harness, 4)
    jobs = [harness.api.create() for _ in range(20)]
    run(harness, 4)
    harness.api.before_page = lambda query: setattr(harness.api, "empty", query.limit == 100)
    run(harness)
    harness.clock.known = 0
    harness.restart()
    run(harness, 14)
    harness.api.before_page, harness.api.empty = (lambda query: None), False
    for job in jobs:
        harness.api.finish(job)
    run(harness, 10)
    assert (harness.finished(), harness.expired()) == (20, 0)


def test_pages_cut_to_their_first_record_do_not_end_a_list(harness: PollerHarness) -> None:
    """``count`` says that there is more, and was found to mean what it says."""
    begin = harness.clock.ms
    cut: list[JobsQuery] = []

    def answer(query: JobsQuery, page: Page) -> Page:
        if query.offset == 99 and len(page.records) > 1 and len(cut) < 3:
            cut.append(query)
            return Page(page.records[:1], page.count)
        return page

    for number in range(3000):
        harness.api.create(begin + number * 2 * SECOND, state="SUCCEED")
    harness.clock.ms += 6000 * SECOND
    harness.api.answer = answer
    run(harness, 60)
    assert len(cut) == 3
    assert harness.created() == 3000


def test_a_count_of_another_meaning_ends_no_reading_for_ever(harness: PollerHarness) -> None:
    """It seemed to respect the filters, but counts what is never listed: soon nobody believes it."""
    harness.api.answer = lambda query, page: Page(page.records, (page.count or 0) + 3 if page.count else 0)
    for number in range(3000):
        harness.api.create(harness.clock.ms + number * 2 * SECOND, state="SUCCEED")
    harness.clock.ms += 6000 * SECOND
    run(harness, 60)
    assert harness.created() == 3000
    assert run(harness, 10) == "complete"


def test_a_poll_reports_the_first_of_its_errors(harness: PollerHarness) -> None:
    """Reads that go further back fail, those of the newest stretch do not: what failed first is the cause."""
    harness.api.create()
    run(harness, 61, MINUTE)
    faults: list[str] = []

    def fail(query: JobsQuery) -> ApiError | None:
        if query.since is not None and query.since > harness.clock.ms - 6 * MINUTE:
            return None
        faults.append(f"fault {len(faults) + 1}")
        return ApiError(ErrorKind.SERVER, faults[-1], operation="list_jobs")

    harness.api.fail = fail
    assert run(harness) == "partial"
    assert len(faults) > 1
    assert "fault 1 " in harness.view.last_poll.problem
