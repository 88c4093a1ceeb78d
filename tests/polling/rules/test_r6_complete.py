"""R6 Complete (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

import asyncio

import pytest

from exporter.ledger.record import JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness, outage
from tests.polling.rules.support import run, started


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
@pytest.mark.parametrize("drift", ["deleted", "inserted"])
def test_a_list_that_shifts_between_two_pages_loses_nothing(
    harness: PollerHarness, newest_first: bool, drift: str
) -> None:
    """Paging by offset alone skips the record that moved over the edge of a page."""
    started(harness)
    harness.api.newest_first = newest_first
    doomed = [harness.api.create(harness.clock.ms - 20 * SECOND, state="SUCCEED") for _ in range(20)]
    kept = [
        harness.api.create(harness.clock.ms - second * SECOND, state="SUCCEED")
        for second in range(15)
        for _ in range(12)
    ]
    counted = len(kept)

    def shift(query: JobsQuery) -> None:
        nonlocal counted
        if query.offset and doomed and not query.job_id:
            if drift == "deleted":
                harness.api.jobs.pop(doomed.pop() if not newest_first else kept.pop())
            else:
                doomed.pop()
                harness.api.create(harness.clock.ms - (0 if newest_first else 25 * SECOND), state="SUCCEED")
                counted += 1

    harness.api.before_page = shift
    run(harness, 3)
    harness.api.before_page = lambda query: None
    run(harness, 60)
    alive = set(harness.api.jobs)
    assert harness.created() >= len(alive)
    assert harness.created() <= len(alive) + 20
    assert harness.balanced()


def test_a_list_capped_at_ten_thousand_is_read_in_windows(store: SqliteStore) -> None:
    """Paging through everything would meet the cap and call it the end."""
    harness = PollerHarness(store, budget=1000)
    started(harness)
    harness.api.cap = 200
    begin = harness.clock.ms
    for number in range(1200):
        harness.api.create(begin + number * 250 // SECOND * SECOND, state="SUCCEED")
    harness.clock.ms += 5 * MINUTE
    run(harness, 60)
    assert harness.created() == 1200


def test_a_silently_clipped_limit_is_not_the_end(harness: PollerHarness) -> None:
    """A page shorter than the limit asked for would look like the last one."""
    started(harness)
    harness.api.clip = 30
    harness.api.count_respects_filters = False
    for _ in range(95):
        harness.api.create(state="SUCCEED")
    run(harness, 40)
    assert harness.created() == 95


def test_a_count_that_ignores_the_filters_ends_no_read(harness: PollerHarness) -> None:
    """Trusting it would end reads early, or never."""
    for age in range(300):
        harness.api.create(harness.clock.ms - age * SECOND - 2 * 60 * MINUTE, state="SUCCEED")
    harness.api.count_respects_filters = False
    started(harness)
    for _ in range(95):
        harness.api.create(state="SUCCEED")
    assert run(harness, 40) == "complete"
    assert harness.created() == 95


def test_ten_minutes_of_empty_answers_end_no_job(harness: PollerHarness) -> None:
    """Believing an empty list would settle over unseen jobs and give up the open ones."""
    started(harness)
    early = [harness.api.create() for _ in range(10)]
    run(harness, 2)
    harness.api.empty = True
    unseen = []
    for _ in range(40):
        unseen.append(harness.api.create(state="SUCCEED"))
        run(harness)
    harness.api.empty = False
    for job in early:
        harness.api.finish(job)
    run(harness, 60)
    assert harness.created() == len(early) + len(unseen)
    assert harness.finished() == len(early) + len(unseen)
    assert harness.expired() == 0


def test_empty_answers_in_a_quiet_hour_lose_nothing(harness: PollerHarness) -> None:
    """With nothing remembered in the window, an empty list contradicts nothing: reading back finds it."""
    started(harness)
    run(harness, 100)
    harness.api.empty = True
    for _ in range(40):
        harness.api.create(state="SUCCEED")
        run(harness)
    harness.api.empty = False
    run(harness, 60)
    assert harness.created() == 40


def test_a_hidden_burst_is_found_with_its_first_late_record(
    harness: PollerHarness,
) -> None:
    """What one spare page shows of it would be all that is ever counted."""
    started(harness)
    run(harness, 100)
    harness.api.empty = True
    for _ in range(1200):
        harness.api.create(state="SUCCEED")
    run(harness, 30)
    harness.api.empty = False
    run(harness, 60)
    assert harness.created() == 1200
    assert harness.view.anomalies["late_record"] > 100


def test_an_empty_answer_in_a_backlog_is_asked_for_again(harness: PollerHarness) -> None:
    """A backlog is read once: believing a wrongly empty answer there would lose its whole stretch."""
    started(harness)
    begin = harness.clock.ms
    for number in range(1500):
        harness.api.create(begin + number * 10 * SECOND, state="SUCCEED")
    harness.clock.ms += 1500 * 10 * SECOND

    def sometimes_empty(query: JobsQuery) -> None:
        harness.api.empty = len(harness.api.queries) % 5 == 0

    harness.api.before_page = sometimes_empty
    run(harness, 40)
    harness.api.before_page, harness.api.empty = (lambda query: None), False
    run(harness, 40)
    assert harness.created() == 1500


def test_one_deleted_record_does_not_stop_the_settled_time(harness: PollerHarness) -> None:
    """Insisting on every remembered id would stop counting at the first deletion."""
    job = started(harness).api.create(state="SUCCEED")
    run(harness, 2)
    del harness.api.jobs[job]
    for _ in range(80):
        harness.api.create(state="SUCCEED")
        run(harness)
    assert harness.view.gauges is not None
    assert harness.view.gauges.counted_until > harness.clock.ms - 12 * MINUTE
    assert harness.created() == 81


def test_a_job_listed_twice_on_a_page_is_one_job(harness: PollerHarness) -> None:
    """Taking a repetition for a shift would halve windows for ever; counting it would count twice."""
    started(harness)
    normal = harness.api.answer

    def twice(query: JobsQuery, page: Page) -> Page:
        page = normal(query, page)
        return Page((*page.records, *page.records[:2]), (page.count or 0) + len(page.records[:2]))

    harness.api.answer = twice
    for _ in range(30):
        harness.api.create(state="SUCCEED")
        run(harness)
    run(harness, 40)
    assert (harness.created(), harness.finished()) == (30, 30)
    assert harness.view.gauges is not None
    assert harness.view.gauges.counted_until > harness.clock.ms - 2 * harness.ledger_settings.overlap


def test_records_deleted_all_the_time_do_not_stop_settling(harness: PollerHarness) -> None:
    """Waiting for each deleted record in its turn would fall behind for ever."""
    started(harness)
    jobs = []
    for _ in range(200):
        jobs.append(harness.api.create(state="SUCCEED"))
        run(harness)
        if len(jobs) > 4:
            del harness.api.jobs[jobs[-5]]
    assert harness.created() == 200
    assert harness.view.gauges is not None
    assert harness.view.gauges.counted_until > harness.clock.ms - 3 * harness.ledger_settings.overlap
    assert not harness.expired()


def test_more_jobs_in_a_second_than_a_page_holds_are_counted(store: SqliteStore) -> None:
    """The smallest window cannot be halved: it needs two equal passes, or one per type."""
    harness = started(PollerHarness(store, budget=400))
    for number in range(1100):
        harness.api.create(state="SUCCEED", job_type=("AUDITION", "WEBSOCKET")[number % 2])
    run(harness, 60)
    assert harness.created() == 1100


def test_a_window_that_was_not_read_to_its_end_misses_nothing(harness: PollerHarness) -> None:
    """What a broken read did not show says nothing: three of those would be the end of every open job."""
    started(harness)
    jobs = [harness.api.create() for _ in range(3)]
    run(harness, 2)
    harness.api.clip = 2  # the third is on a page of its own
    harness.api.fail = lambda query: outage(query) if query.offset else None
    run(harness, 10)
    assert [job.misses for job_id in jobs if (job := harness.repository.ledger.jobs.get(job_id))] == [0, 0, 0]


@pytest.mark.parametrize("state", ["WAITING", "SUCCEED"])
def test_a_deleted_job_does_not_stop_settling_at_rare_polls(harness: PollerHarness, state: str) -> None:
    """Polls two minutes apart in a quiet hour: between two answers nobody knows what the list shows."""
    started(harness).api.create(state="SUCCEED")
    run(harness, 200)
    job = harness.api.create(state=state)
    run(harness, 2)
    del harness.api.jobs[job]
    asyncio.run(harness.poll(30, every=2 * MINUTE))
    assert harness.view.gauges is not None
    assert harness.view.gauges.counted_until > harness.clock.ms - 4 * harness.ledger_settings.overlap
