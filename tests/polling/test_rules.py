"""The rules of counting, R1 to R12: each test plays the schedule under which a plainer rule miscounts."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from exporter.errors import ApiError, ScopeChangedError, StoreLockedError
from exporter.ledger.record import JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from tests.fake_api import MINUTE, SECOND, START, FakeApi, FakeClock, PollerHarness, outage


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    books = SqliteStore(tmp_path / "books.db")
    yield books
    books.close()


@pytest.fixture
def harness(store: SqliteStore) -> PollerHarness:
    return PollerHarness(store)


def run(harness: PollerHarness, polls: int = 1) -> str:
    return asyncio.run(harness.poll(polls))


def started(harness: PollerHarness) -> PollerHarness:
    """The first start is over, a minute has passed."""
    run(harness, 4)
    return harness


# --- R1 Record ----------------------------------------------------------------------------------------


def test_r1_a_job_seen_in_every_poll_is_created_once_and_finished_once(harness: PollerHarness) -> None:
    """Recounting the window at every poll would count it forty times."""
    job = started(harness).api.create()
    run(harness, 20)
    harness.api.finish(job)
    run(harness, 20)
    assert (harness.created(), harness.finished("SUCCEED"), harness.open()) == (1, 1, 0)


def test_r1_a_finished_job_that_goes_back_to_processing_stays_finished(harness: PollerHarness) -> None:
    """Believing the last state seen would finish it twice."""
    job = started(harness).api.create(state="FAILED", fail_msg="boom")
    run(harness, 2)
    harness.api.change(job, job_state="PROCESSING")
    run(harness, 2)
    harness.api.change(job, job_state="SUCCEED")
    run(harness, 2)
    assert (harness.finished("FAILED"), harness.finished("SUCCEED")) == (1, 0)
    assert harness.view.anomalies["state_regression"] == 1
    assert harness.balanced()


def test_r1_a_changed_label_books_each_event_under_the_label_shown_then(harness: PollerHarness) -> None:
    """Rewriting history would make a counter go back."""
    job = started(harness).api.create(job_type="AUDITION")
    run(harness)
    harness.api.change(job, job_type="WEBSOCKET", job_state="SUCCEED")
    run(harness)
    assert harness.view.created["AUDITION", "TTS_LLM"] == 1
    assert harness.view.finished["WEBSOCKET", "TTS_LLM", "SUCCEED"] == 1
    assert harness.view.anomalies["label_changed"] == 1
    assert harness.balanced()


def test_r1_text_length_is_booked_at_the_first_sighting_that_has_it(harness: PollerHarness) -> None:
    """Booking it only at creation would lose the text of jobs whose length comes later."""
    job = started(harness).api.create(text_length=None)
    run(harness)
    harness.api.change(job, text_length=70)
    run(harness, 2)
    harness.api.finish(job, text_length=99)
    run(harness)
    histogram = harness.view.text_length["ASYNC_JOB", "TTS_LLM"]
    assert (histogram.counts, histogram.sum) == ((0, 1, 0, 0), 70)
    assert harness.view.synthesized_characters["ASYNC_JOB", "TTS_LLM"] == 70
    assert harness.view.anomalies["missing_text_length"] == 1


def test_r1_two_identical_records_without_an_id_are_two_jobs_and_stay_two(harness: PollerHarness) -> None:
    """Using their fields as a key would make them one; counting what a page shows would make them many."""
    started(harness)
    at = harness.clock.ms
    twins = [harness.api.create(at, job_id=name) for name in ("a", "b")]
    for twin in twins:
        harness.api.change(twin, job_id=None)
    run(harness, 3)
    assert (harness.created(), harness.open()) == (2, 2)
    harness.api.finish("a")
    run(harness, 2)
    assert (harness.finished(), harness.open()) == (1, 1)
    harness.api.finish("b", "FAILED")
    run(harness, 30)
    assert (harness.created(), harness.finished("SUCCEED"), harness.finished("FAILED")) == (2, 1, 1)
    assert harness.view.anomalies["missing_job_id"] == 2


# --- R2 New -------------------------------------------------------------------------------------------


def test_r2_a_record_listed_late_but_within_overlap_is_counted(harness: PollerHarness) -> None:
    """A plain high-water mark at the newest record seen would pass over it."""
    started(harness)
    late = harness.api.create()
    harness.api.appears[late] = harness.clock.ms + 4 * MINUTE
    harness.api.create(harness.clock.ms + 60 * SECOND)
    run(harness, 60)
    assert harness.created() == 2


def test_r2_a_record_listed_after_its_stretch_was_settled_is_counted_as_late(harness: PollerHarness) -> None:
    """Ignoring what is older than the settled time would lose it although it was read."""
    started(harness)
    run(harness, 40)
    assert harness.view.gauges is not None
    harness.api.create(harness.view.gauges.counted_until - 60 * SECOND)
    run(harness)
    assert harness.created() == 1
    assert harness.view.anomalies["late_record"] == 1


def test_r2_an_old_unknown_record_is_not_new(harness: PollerHarness) -> None:
    """Counting every unknown id would count a forgotten job again."""
    job = started(harness).api.create()
    run(harness)
    harness.api.finish(job)
    run(harness, 120)
    old = harness.api.create(harness.clock.ms - 25 * MINUTE, job_id="stuck-elsewhere")
    harness.api.create(harness.clock.ms - 20 * MINUTE)
    run(harness, 20)
    assert old not in (job,)
    assert (harness.created(), harness.finished()) == (1, 1)


def test_r2_a_record_without_a_creation_time_is_counted_once(harness: PollerHarness) -> None:
    """Dropping it would lose a job; dating it anew at every sighting would count it at every poll."""
    started(harness)
    job = harness.api.create()
    undated = harness.api.answer

    def hide_time(query: JobsQuery, page: Page) -> Page:
        page = undated(query, page)
        return Page(tuple(replace(record, create_time=None) for record in page.records), page.count)

    harness.api.answer = hide_time
    run(harness, 50)
    harness.api.finish(job)
    run(harness, 50)
    assert (harness.created(), harness.finished()) == (1, 1)
    assert harness.view.anomalies["bad_create_time"] == 1


# --- R3 Three times -----------------------------------------------------------------------------------


def test_r3_a_date_cached_by_a_gateway_holds_the_settled_time_back(harness: PollerHarness) -> None:
    """Settling by our own clock would pass a stretch that the API had not yet listed."""
    started(harness)
    harness.clock.frozen_at = harness.clock.ms
    before = harness.view.gauges
    harness.api.create()
    run(harness, 80)
    assert before is not None
    assert harness.view.gauges is not None
    assert harness.view.gauges.counted_until == before.counted_until
    assert harness.created() == 1
    harness.clock.frozen_at = None
    run(harness, 5)
    assert harness.view.gauges.counted_until > harness.clock.ms - 12 * MINUTE


def test_r3_a_wall_clock_that_steps_changes_nothing(harness: PollerHarness) -> None:
    """Windows cut by the wall clock would skip or repeat what it stepped over."""
    started(harness)
    wall = iter([10**9 * step for step in (3, 1, 2, 5, 4)] * 100)
    harness.poller._wall = lambda: float(next(wall))
    jobs = [harness.api.create(harness.clock.ms + step * 15 * SECOND) for step in range(60)]
    run(harness, 70)
    assert harness.created() == len(jobs)


def test_r3_a_wrong_wall_clock_at_a_start_without_the_api_drops_nothing(harness: PollerHarness) -> None:
    """Pruning by our own clock would empty the gauge, and the stored minutes behind it."""
    started(harness)
    for _ in range(50):
        harness.api.create(state="SUCCEED")
    run(harness, 3)
    harness.api.fail = outage
    harness.clock.known = 0
    harness.restart()
    harness.poller._wall = lambda: harness.clock.ms / SECOND + 40 * 86_400
    run(harness, 2)
    harness.api.fail = lambda query: None
    harness.restart()
    run(harness, 2)
    assert harness.view.gauges is not None
    assert harness.view.gauges.jobs is not None
    assert sum(harness.view.gauges.jobs.values()) == 50


# --- R4 First start -----------------------------------------------------------------------------------


def test_r4_only_jobs_open_at_the_first_start_are_counted_of_those_created_before(
    harness: PollerHarness,
) -> None:
    """Counting the listed past would show a burst; ignoring it would hide a stuck queue."""
    for age in range(1, 30):
        harness.api.create(harness.clock.ms - age * MINUTE, state="SUCCEED")
    stuck = harness.api.create(harness.clock.ms - 30 * MINUTE)
    run(harness, 3)
    assert (harness.created(), harness.finished(), harness.open()) == (1, 0, 1)
    assert harness.view.gauges is not None
    assert harness.view.gauges.jobs is not None
    assert sum(harness.view.gauges.jobs.values()) == 30
    harness.api.finish(stuck)
    run(harness, 30)
    assert (harness.created(), harness.finished(), harness.open()) == (1, 1, 0)


def test_r4_a_crash_right_after_the_first_start_does_not_move_the_baseline(harness: PollerHarness) -> None:
    """A baseline taken anew at every start would lose what was created in between."""
    harness.clock.known = 2

    def die(query: JobsQuery) -> None:
        raise KeyboardInterrupt

    harness.api.before_page = die
    with pytest.raises(KeyboardInterrupt):
        run(harness)
    harness.api.before_page = lambda query: None
    harness.clock.ms += 5 * SECOND
    harness.api.create(state="SUCCEED")
    harness.clock.ms += 5 * SECOND
    harness.restart()
    run(harness, 3)
    assert (harness.created(), harness.finished()) == (1, 1)


def failed_start(harness: PollerHarness, minutes: int, *, restart: bool, step: int = 0) -> tuple[int, int]:
    """A first start that fails for so long, with a job a minute, finished at once. Returns how many, counted.

    Before it: finished jobs, and one that is stuck; ``step`` sets our own clock half-way (milliseconds).
    """
    for age in range(1, 20):
        harness.api.create(harness.clock.ms - age * MINUTE, state="SUCCEED")
    harness.api.create(harness.clock.ms - 30 * MINUTE)
    harness.api.fail = outage
    harness.clock.known = 0
    for minute in range(minutes):
        run(harness)
        harness.api.create(state="SUCCEED")
        harness.clock.ms += 45 * SECOND
        if minute == minutes // 2:
            if restart:
                harness.restart()
            set_wall(harness, step)
    harness.api.fail = lambda query: None
    run(harness, 60)
    assert harness.balanced()
    return minutes, harness.created()


def set_wall(harness: PollerHarness, step: int) -> None:
    def wall() -> float:
        return (harness.clock.ms + step) / SECOND

    harness.poller._wall = harness.poller._witnesses._wall = wall


@pytest.mark.parametrize("restart", [False, True], ids=["one-process", "restarted"])
def test_r4_jobs_created_while_the_first_start_failed_are_counted(
    harness: PollerHarness, restart: bool
) -> None:
    """A baseline at the first good answer would leave out two hours of wrong credentials."""
    jobs, created = failed_start(harness, 120, restart=restart)
    assert created == jobs + 1  # and the stuck one of the window before
    assert (harness.finished(), harness.open()) == (jobs, 1)
    assert harness.view.skipped_ms == 0


def test_r4_what_a_failed_first_start_waits_for_is_shown(harness: PollerHarness) -> None:
    """Since when, until the first good answer; then only since when it counts."""
    harness.api.fail = outage
    harness.clock.known = 0
    run(harness, 3)
    assert harness.view.first_tried == START
    assert harness.view.counting_since is None
    harness.restart()
    run(harness, 3)
    assert harness.view.first_tried == START
    harness.api.fail = lambda query: None
    run(harness, 2)
    begun = harness.views[-1]
    assert begun.first_tried is None
    assert begun.counting_since == START


@pytest.mark.parametrize("years", [-20, 20], ids=["back", "ahead"])
@pytest.mark.parametrize("restart", [False, True], ids=["one-process", "restarted"])
def test_r4_our_clock_set_while_the_first_start_failed_counts_no_past(
    harness: PollerHarness, restart: bool, years: int
) -> None:
    """A machine that starts in 1970 must not count all there is; after a restart only its time is known."""
    jobs, created = failed_start(harness, 60, restart=restart, step=years * 365 * 24 * 60 * MINUTE)
    assert created == pytest.approx(jobs // 2, abs=1) if restart else created == jobs + 1


def test_r4_a_failed_first_start_goes_back_as_far_as_any_downtime(store: SqliteStore) -> None:
    """No further than ``max_catch_up``; the rest is said to be skipped."""
    harness = PollerHarness(store, max_catch_up=30 * MINUTE)
    _, created = failed_start(harness, 60, restart=False)
    assert created == pytest.approx(31, abs=1)
    assert harness.view.skipped_ms == pytest.approx(30 * MINUTE, abs=MINUTE)


# --- R5 Reading ---------------------------------------------------------------------------------------


def test_r5_news_arrives_with_the_next_poll_not_with_the_settled_time(harness: PollerHarness) -> None:
    """Reading only what is old enough to be settled would show every job five minutes late."""
    started(harness).api.create()
    run(harness)
    assert harness.created() == 1


def test_r5_facts_of_a_read_that_breaks_off_are_booked(harness: PollerHarness) -> None:
    """Throwing a broken read away would starve a list that breaks at every second page."""
    started(harness)
    for _ in range(150):
        harness.api.create()
    harness.api.fail = lambda query: outage(query) if query.offset else None
    assert run(harness, 2) == "failed"
    assert harness.created() >= 100
    harness.api.fail = lambda query: None
    run(harness, 30)
    assert harness.created() == 150


# --- R6 Complete --------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
@pytest.mark.parametrize("drift", ["deleted", "inserted"])
def test_r6_a_list_that_shifts_between_two_pages_loses_nothing(
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


def test_r6_a_list_capped_at_ten_thousand_is_read_in_windows(store: SqliteStore) -> None:
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


def test_r6_a_silently_clipped_limit_is_not_the_end(harness: PollerHarness) -> None:
    """A page shorter than the limit asked for would look like the last one."""
    started(harness)
    harness.api.clip = 30
    harness.api.count_respects_filters = False
    for _ in range(95):
        harness.api.create(state="SUCCEED")
    run(harness, 40)
    assert harness.created() == 95


def test_r6_a_count_that_ignores_the_filters_neither_ends_nor_stops_a_read(harness: PollerHarness) -> None:
    """Trusting it would end reads early, or never."""
    for age in range(300):
        harness.api.create(harness.clock.ms - age * SECOND - 2 * 60 * MINUTE, state="SUCCEED")
    harness.api.count_respects_filters = False
    started(harness)
    for _ in range(95):
        harness.api.create(state="SUCCEED")
    assert run(harness, 40) == "complete"
    assert harness.created() == 95


def test_r6_ten_minutes_of_empty_answers_are_a_fault_not_the_end_of_every_job(harness: PollerHarness) -> None:
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


def test_r6_ten_minutes_of_empty_answers_in_a_quiet_hour_lose_nothing(harness: PollerHarness) -> None:
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


def test_r6_a_burst_that_an_empty_list_hid_is_found_with_the_first_late_record(
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


def test_r6_an_empty_answer_in_a_backlog_is_asked_for_again(harness: PollerHarness) -> None:
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


def test_r6_one_deleted_record_does_not_hold_the_books_for_ever(harness: PollerHarness) -> None:
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


def test_r6_a_job_listed_twice_on_a_page_is_one_job_and_no_hindrance(harness: PollerHarness) -> None:
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
    assert harness.view.gauges.counted_until > harness.clock.ms - 2 * harness.rules.overlap


def test_r6_records_deleted_all_the_time_hold_nothing_up(harness: PollerHarness) -> None:
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
    assert harness.view.gauges.counted_until > harness.clock.ms - 3 * harness.rules.overlap
    assert not harness.expired()


def test_r6_more_jobs_in_one_second_than_a_page_holds_are_all_counted(store: SqliteStore) -> None:
    """The smallest window cannot be halved: it needs two equal passes, or one per type."""
    harness = started(PollerHarness(store, budget=400))
    for number in range(1100):
        harness.api.create(state="SUCCEED", job_type=("AUDITION", "WEBSOCKET")[number % 2])
    run(harness, 60)
    assert harness.created() == 1100


def test_r6_a_window_that_was_not_read_to_its_end_misses_nothing(harness: PollerHarness) -> None:
    """What a broken read did not show says nothing: three of those would be the end of every open job."""
    started(harness)
    jobs = [harness.api.create() for _ in range(3)]
    run(harness, 2)
    harness.api.clip = 2  # the third is on a page of its own
    harness.api.fail = lambda query: outage(query) if query.offset else None
    run(harness, 10)
    assert [job.misses for job_id in jobs if (job := harness.books.ledger.jobs.get(job_id))] == [0, 0, 0]


# --- R7 Outside ---------------------------------------------------------------------------------------


def test_r7_a_service_in_another_time_zone_is_refused_not_counted(harness: PollerHarness) -> None:
    """Booking whatever comes would count records that the next window shows again."""
    started(harness)

    def eight_hours_off(query: JobsQuery, page: Page) -> Page:
        records = (
            replace(record, create_time=(record.create_time or 0) + 8 * 60 * MINUTE)
            for record in page.records
        )
        return Page(tuple(records), page.count)

    harness.api.answer = eight_hours_off
    harness.api.create()
    assert run(harness) == "failed"
    assert harness.created() == 0
    assert harness.view.anomalies["outside_window"] == 1


def test_r7_ignored_time_filters_are_found_out_before_anything_is_counted(harness: PollerHarness) -> None:
    """The whole list in every window would count the past as new."""
    harness.api.time_filters_work = False
    for age in range(5):
        harness.api.create(harness.clock.ms - age * MINUTE)
    assert run(harness) == "failed"
    assert harness.created() == 0
    assert harness.view.gauges is None


def test_r7_without_time_filters_the_whole_list_is_one_window(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Refusing such an API would leave its operators with nothing; the log says what it costs."""
    harness = PollerHarness(store, time_filters=False)
    harness.api.time_filters_work = False
    past = [harness.api.create(harness.clock.ms - age * MINUTE, state="SUCCEED") for age in range(1, 40)]
    stuck = harness.api.create(harness.clock.ms - 10 * MINUTE)
    started(harness)
    new = [harness.api.create(harness.clock.ms - 1 * SECOND) for _ in range(150)]
    run(harness, 3)
    for job in (stuck, *new):
        harness.api.finish(job)
    run(harness, 60)
    assert len(past) == 39
    costs = [record for record in caplog.records if "lists everything" in record.getMessage()]
    assert next(record.__dict__["fields"]["requests"] for record in costs) == 2
    assert (harness.created(), harness.finished(), harness.open()) == (151, 151, 0)


# --- R8 Progress --------------------------------------------------------------------------------------


def test_r8_after_a_long_outage_every_job_is_caught_up(harness: PollerHarness) -> None:
    """A window that only reaches back a little would lose the outage."""
    started(harness)
    harness.api.fail = outage
    begin = harness.clock.ms
    for minute in range(6 * 60):
        harness.api.create(begin + minute * MINUTE, state="SUCCEED")
    harness.clock.ms += 6 * 60 * MINUTE
    run(harness, 3)
    harness.api.fail = lambda query: None
    run(harness, 40)
    assert harness.created() == harness.finished() == 360


def test_r8_a_catch_up_that_breaks_off_again_and_again_still_gets_on(harness: PollerHarness) -> None:
    """Committing only the whole catch-up would start over for ever."""
    started(harness)
    begin = harness.clock.ms
    for number in range(2000):
        harness.api.create(begin + number * 10 * SECOND, state="SUCCEED")
    harness.clock.ms += 2000 * 10 * SECOND
    answers = 0

    def flaky(query: JobsQuery) -> ApiError | None:
        nonlocal answers
        answers += 1
        return outage(query) if answers % 4 == 0 else None

    harness.api.fail = flaky
    run(harness, 150)
    harness.api.fail = lambda query: None
    run(harness, 10)
    assert harness.created() == 2000


def test_r8_what_is_beyond_max_catch_up_is_skipped_once_and_said(harness: PollerHarness) -> None:
    """Going back without an end would never arrive; skipping silently would look like no traffic."""
    started(harness)
    begin = harness.clock.ms
    for hour in range(48):
        harness.api.create(begin + hour * 60 * MINUTE + MINUTE, state="SUCCEED")
    harness.clock.ms += 48 * 60 * MINUTE
    harness.restart()
    run(harness, 60)
    assert harness.created() == 24
    skipped = harness.view.skipped_ms
    assert abs(skipped - 24 * 60 * MINUTE) < 10 * MINUTE
    run(harness, 20)
    assert harness.view.skipped_ms == skipped


def test_r8_a_jump_is_not_repeated_while_nothing_can_be_read(harness: PollerHarness) -> None:
    """Jumping at every failed poll would skip what a single jump had promised to read."""
    started(harness).api.create()
    run(harness)
    harness.clock.ms += 3 * 24 * 60 * MINUTE
    harness.restart()
    harness.api.fail = lambda query: outage(query) if (query.since or 0) > START - MINUTE else None
    run(harness, 5)
    skipped = harness.view.skipped_ms
    assert skipped > 0
    run(harness, 100)
    assert harness.view.skipped_ms == skipped


# --- R9 Open jobs -------------------------------------------------------------------------------------


def test_r9_a_job_that_finishes_after_hours_is_still_seen_to_finish(harness: PollerHarness) -> None:
    """Watching only a recent window would leave it open for ever."""
    job = started(harness).api.create()
    run(harness, 4 * 60 * 5)
    harness.api.finish(job, "FAILED", fail_msg="late")
    run(harness, 4 * 60)
    assert (harness.finished("FAILED"), harness.open()) == (1, 0)


def test_r9_an_unfinished_job_expires_only_after_a_look_past_its_deadline(store: SqliteStore) -> None:
    """Expiring by the clock alone would give up a job that finished while we did not look."""
    harness = started(PollerHarness(store, max_job_age=60 * MINUTE))
    finishes, hangs = harness.api.create(), harness.api.create()
    run(harness, 4)
    harness.api.fail = outage
    harness.api.finish(finishes)
    run(harness, 4 * 70)
    assert harness.expired() == 0
    harness.api.fail = lambda query: None
    run(harness, 10)
    assert (harness.finished(), harness.expired("max_age"), harness.open()) == (1, 1, 0)
    assert hangs in harness.api.jobs


def test_r9_a_vanished_open_job_is_given_up_after_three_looks_spread_over_overlap(
    harness: PollerHarness,
) -> None:
    """Giving it up at the first miss would lose a job to one bad answer; never would leak memory."""
    job = started(harness).api.create()
    others = [harness.api.create() for _ in range(3)]
    run(harness, 2)
    record = harness.api.jobs.pop(job)
    run(harness, 2)
    assert harness.expired() == 0
    harness.api.jobs[job] = record
    run(harness, 2)
    del harness.api.jobs[job]
    run(harness, 60)
    assert (harness.expired("vanished"), harness.open()) == (1, len(others))
    assert harness.balanced()


@pytest.mark.parametrize("empty", [0.5, 0.8, 0.95])
def test_r9_a_list_that_is_empty_now_and_then_gives_up_no_job_that_is_there(
    store: SqliteStore, empty: float
) -> None:
    """Three empty answers in five minutes say nothing about a job when many answers are empty."""
    harness = started(PollerHarness(store, overlap=2 * MINUTE))
    open_jobs = [harness.api.create() for _ in range(20)]
    for _ in range(60):
        harness.api.create(state="SUCCEED")
        run(harness, 2)
    open_jobs += [harness.api.create() for _ in range(20)]
    run(harness, 2)
    rng = random.Random(7)

    def now_and_then(query: JobsQuery) -> None:
        harness.api.empty = rng.random() < empty

    harness.api.before_page = now_and_then
    run(harness, 4 * 30)
    assert harness.expired() == 0
    harness.api.before_page, harness.api.empty = (lambda query: None), False
    for job in open_jobs:
        harness.api.finish(job)
    run(harness, 40)
    assert (harness.finished(), harness.expired(), harness.open()) == (60 + len(open_jobs), 0, 0)


@pytest.mark.parametrize(("neighbour", "minutes"), [(25, 7), (75, 62)])
def test_r9_a_lone_job_that_vanished_is_given_up_by_its_neighbours_or_after_an_hour(
    harness: PollerHarness, neighbour: int, minutes: int
) -> None:
    """An empty answer about one second proves nothing: so a page with what lies around it is asked for."""
    started(harness).api.create(state="SUCCEED")
    run(harness, neighbour * 4)
    job = harness.api.create()
    run(harness, 2)
    del harness.api.jobs[job]
    run(harness, (minutes - 2) * 4)
    assert harness.expired() == 0
    assert harness.view.gauges is not None
    run(harness, 3 * 4)
    assert (harness.expired("vanished"), harness.open()) == (1, 0)
    assert harness.view.gauges.counted_until > harness.clock.ms - 4 * harness.rules.overlap


def test_r9_a_missed_job_in_a_stretch_that_nobody_knows_costs_no_other_its_looks(store: SqliteStore) -> None:
    """What lies around it was skipped, and is far more than a page: listing it would take every request."""
    harness = started(PollerHarness(store, max_catch_up=2 * 60 * MINUTE))
    others = []
    for _ in range(10):
        run(harness, 4)
        others.append(harness.api.create())
    lost = harness.api.create()
    run(harness, 2)
    for number in range(12_000):
        harness.api.create(harness.clock.ms + 10 * SECOND + number * SECOND // 6, state="SUCCEED")
    harness.clock.ms += 5 * 60 * MINUTE
    del harness.api.jobs[lost]
    harness.restart()
    run(harness, 8)
    late = harness.api.create()
    others.append(harness.api.create())
    run(harness, 2)
    del harness.api.jobs[late]
    harness.api.queries.clear()
    run(harness, 60)
    assert len(harness.api.queries) < 60 * 6
    for job in others:
        harness.api.finish(job)
    run(harness, 4 * 30)
    assert harness.finished() == len(others)
    assert (harness.expired("vanished"), harness.open()) == (2, 0)


def test_r9_jobs_among_many_that_nobody_knew_of_are_asked_for_alone(harness: PollerHarness) -> None:
    """A stretch from one to the other was tried once, and was too large."""
    started(harness)
    jobs = [harness.api.create(), harness.api.create()]
    asyncio.run(harness.poll(60, every=MINUTE))

    def queries() -> list[str]:
        harness.clock.ms += 8 * MINUTE
        harness.api.queries.clear()
        run(harness)
        return sorted(query.job_id or "listing" for query in harness.api.queries)

    listings = queries()
    harness.books.ledger.missing_jobs.look_up_alone.update([*jobs, "ended"])
    assert [*queries(), "listing"] == [*jobs, *listings]
    assert harness.books.ledger.missing_jobs.look_up_alone == set(jobs)


def test_r9_an_old_job_that_only_empty_answers_miss_is_not_asked_for_in_every_poll(
    harness: PollerHarness,
) -> None:
    """It is nine minutes from one look at it to the next, also when it is missed."""
    job = started(harness).api.create()
    asyncio.run(harness.poll(180, every=MINUTE))
    del harness.api.jobs[job]
    asyncio.run(harness.poll(10, every=MINUTE))
    harness.api.queries.clear()
    run(harness, 80)
    assert harness.open() == 1
    old = harness.clock.ms - 60 * MINUTE
    around = [query for query in harness.api.queries if query.until is not None and query.until < old]
    assert 2 <= len(around) <= 4


def test_r9_a_full_second_that_nobody_knows_is_read_in_one_pass(store: SqliteStore) -> None:
    """A single second cannot be cut: it is read to its end, page by page."""
    harness = started(PollerHarness(store, max_catch_up=2 * 60 * MINUTE))
    lost = harness.api.create()
    run(harness, 2)
    second = harness.api.jobs.pop(lost).create_time or 0
    for _ in range(350):
        harness.api.create(second, state="SUCCEED")
    harness.clock.ms += 5 * 60 * MINUTE
    harness.restart()
    run(harness, 4 * 40)
    assert harness.expired("vanished") == 1
    edges = (second - SECOND, second + SECOND)
    alone = [query for query in harness.api.queries if (query.since, query.until) == edges]
    assert [query.offset for query in alone[:5]] == [0, 99, 198, 297, 0]


@pytest.mark.parametrize("asked", [True, False], ids=["errors", "stopped"])
def test_r9_an_hour_without_answers_makes_no_job_vanish(harness: PollerHarness, asked: bool) -> None:
    """Empty answers before and after it are no hour of empty answers."""
    started(harness)
    jobs = [harness.api.create() for _ in range(50)]
    run(harness, 8)
    harness.api.empty = True
    run(harness, 12)
    if asked:
        harness.api.fail = outage
        run(harness, 240)
        harness.api.fail = lambda query: None
    else:
        harness.clock.ms += 60 * MINUTE
        harness.restart()
    run(harness)
    harness.api.empty = False
    for job in jobs:
        harness.api.finish(job)
    run(harness, 40)
    assert (harness.finished(), harness.expired(), harness.open()) == (50, 0, 0)


def test_r9_a_deleted_job_vanishes_also_where_looks_are_rare(harness: PollerHarness) -> None:
    """Neither minutes without a question nor neighbours that are seldom listed are a silence of the list."""
    started(harness).api.create(state="SUCCEED")
    run(harness, 4)
    job = harness.api.create()
    run(harness, 8)
    harness.api.create(state="SUCCEED")
    asyncio.run(harness.poll(10 * 60, every=MINUTE))
    del harness.api.jobs[job]
    asyncio.run(harness.poll(3 * 60, every=MINUTE))
    assert (harness.expired("vanished"), harness.open()) == (1, 0)


@pytest.mark.parametrize("state", ["WAITING", "SUCCEED"])
def test_r6_a_deleted_job_holds_nothing_up_where_polls_are_rare(harness: PollerHarness, state: str) -> None:
    """Polls two minutes apart in a quiet hour: between two answers nobody knows what the list shows."""
    started(harness).api.create(state="SUCCEED")
    run(harness, 200)
    job = harness.api.create(state=state)
    run(harness, 2)
    del harness.api.jobs[job]
    asyncio.run(harness.poll(30, every=2 * MINUTE))
    assert harness.view.gauges is not None
    assert harness.view.gauges.counted_until > harness.clock.ms - 4 * harness.rules.overlap


def test_r7_a_record_from_the_far_future_is_not_counted_by_whatever_shows_it(harness: PollerHarness) -> None:
    """The newest of all records is what the list shows first, when any is asked for."""
    job = started(harness).api.create()
    run(harness, 4)
    harness.api.create(harness.clock.ms + 30 * 24 * 60 * MINUTE)
    del harness.api.jobs[job]
    run(harness, 40)
    assert any(query == JobsQuery(limit=1) for query in harness.api.queries)
    assert harness.created() == 1


def test_r9_a_lookup_answered_with_another_job_is_no_answer(harness: PollerHarness) -> None:
    """Taking whatever comes back would finish the wrong job, or vanish the right one."""
    job = started(harness).api.create()
    crowd = [harness.api.create(state="SUCCEED") for _ in range(250)]
    run(harness, 160)
    other = harness.api.create(harness.clock.ms - 40 * MINUTE, state="SUCCEED", job_id="other")
    normal = harness.api.answer

    def wrong_job(query: JobsQuery, page: Page) -> Page:
        return Page((harness.api.jobs[other],), 1) if query.job_id else normal(query, page)

    harness.api.answer = wrong_job
    run(harness, 40)
    assert any(query.job_id for query in harness.api.queries)
    assert (harness.finished(), harness.expired(), harness.open()) == (len(crowd), 0, 1)
    harness.api.finish(job)
    run(harness, 80)
    assert (harness.finished(), harness.expired(), harness.open()) == (len(crowd) + 1, 0, 0)


# --- R10 Commit, then publish -------------------------------------------------------------------------


def test_r10_what_was_not_committed_is_not_published_and_not_lost(
    harness: PollerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing memory would show counters that a restart takes back."""
    started(harness)
    harness.api.create()
    seen = harness.created()
    full = SqliteStore._write

    def disk_full(self: SqliteStore, *args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteStore, "_write", disk_full)
    run(harness, 3)
    assert harness.created() == seen
    monkeypatch.setattr(SqliteStore, "_write", full)
    run(harness, 2)
    assert harness.created() == seen + 1


def test_r10_a_second_exporter_cannot_open_the_same_store(store: SqliteStore, tmp_path: Path) -> None:
    """Two processes on one file would each add the same jobs."""
    with pytest.raises(StoreLockedError, match=r"another exporter is using this store"):
        SqliteStore(tmp_path / "books.db")


def test_r10_a_restart_in_the_middle_of_everything_repeats_nothing(harness: PollerHarness) -> None:
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


def test_r10_before_the_books_are_loaded_nothing_is_published_as_zero(store: SqliteStore) -> None:
    """Zeros from an unread store would look like a counter reset."""
    harness = PollerHarness(store)
    view = harness.books.view(now=None, up=False, skew_ms=None)
    assert (view.pairs, view.gauges, view.created) == ((), None, {})


# --- R11 Scope ----------------------------------------------------------------------------------------


def test_r11_a_target_name_reused_for_something_else_is_refused(store: SqliteStore) -> None:
    """Adding up two projects under one name would be a lie in every graph."""
    started(PollerHarness(store, scope="region=cn-north-4"))
    other = PollerHarness(store, scope="region=cn-east-3")
    with pytest.raises(ScopeChangedError, match="use a new target name"):
        asyncio.run(other.books.load(0))


def test_r11_another_project_behind_the_same_name_is_refused(store: SqliteStore) -> None:
    """A project id that is looked up may change without a word in the configuration."""
    api = FakeApi(FakeClock())
    started(PollerHarness(store, api))
    api.project_id = "p2"
    harness = PollerHarness(store, api)
    assert run(harness) == "failed"
    assert harness.created() == 0


def test_r11_overlap_and_window_may_change_without_losing_a_count(store: SqliteStore) -> None:
    """Books tied to their settings would start anew at every tuning."""
    harness = started(PollerHarness(store))
    jobs = [harness.api.create() for _ in range(5)]
    run(harness, 3)
    harness.rules = replace(harness.rules, overlap=10 * MINUTE, window=5 * MINUTE)
    harness.restart()
    for job in jobs:
        harness.api.finish(job)
    run(harness, 60)
    assert (harness.created(), harness.finished()) == (5, 5)


def test_r11_other_buckets_start_that_histogram_anew_and_nothing_else(store: SqliteStore) -> None:
    """Old counts under new bounds would be a wrong distribution."""
    harness = started(PollerHarness(store))
    harness.api.create(text_length=70)
    run(harness, 2)
    harness.rules = replace(harness.rules, text_length_buckets=(10, 20))
    harness.restart()
    harness.api.create(text_length=15)
    run(harness, 2)
    histogram = harness.view.text_length["ASYNC_JOB", "TTS_LLM"]
    assert (histogram.bounds, histogram.counts, histogram.sum) == ((10, 20), (0, 1, 0), 15)
    assert harness.created() == 2


# --- R12 Balance --------------------------------------------------------------------------------------


def test_r12_every_publication_balances_through_a_busy_faulty_hour(harness: PollerHarness) -> None:
    """Counters kept apart from the list of open jobs drift from it."""
    started(harness)
    for step in range(240):
        job = harness.api.create()
        if step % 3 == 0:
            harness.api.appears[job] = harness.clock.ms + (step % 17) * 15 * SECOND
        if step % 2 and step > 20:
            harness.api.finish(sorted(harness.api.jobs)[step // 2], "FAILED" if step % 5 else "SUCCEED")
        harness.api.fail = outage if step % 7 == 3 else lambda query: None
        harness.api.empty = step % 31 == 5
        run(harness)
    harness.api.fail, harness.api.empty = lambda query: None, False
    run(harness, 40)
    assert all(
        sum(view.created.values())
        == sum(view.finished.values())
        + sum(view.expired.values())
        + (sum(view.gauges.open_jobs.values()) if view.gauges else 0)
        for view in harness.views
    )
    assert harness.created() == 240


def test_r12_memory_is_bounded_by_what_is_open_and_recent(harness: PollerHarness) -> None:
    """Remembering every id ever seen would grow for ever."""
    started(harness)
    for _ in range(600):
        harness.api.create(state="SUCCEED")
        run(harness)
        if len(harness.api.jobs) > 200:
            del harness.api.jobs[min(harness.api.jobs)]
    assert harness.created() == 600
    assert len(harness.books.ledger.jobs) < 50
