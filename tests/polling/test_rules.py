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
from tests.fake_api import MINUTE, SECOND, START, FakeApi, FakeClock, House, outage


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    books = SqliteStore(tmp_path / "books.db")
    yield books
    books.close()


@pytest.fixture
def house(store: SqliteStore) -> House:
    return House(store)


def run(house: House, polls: int = 1) -> str:
    return asyncio.run(house.poll(polls))


def started(house: House) -> House:
    """The first start is over, a minute has passed."""
    run(house, 4)
    return house


# --- R1 Record ----------------------------------------------------------------------------------------


def test_r1_a_job_seen_in_every_poll_is_created_once_and_finished_once(house: House) -> None:
    """Recounting the window at every poll would count it forty times."""
    job = started(house).api.create()
    run(house, 20)
    house.api.finish(job)
    run(house, 20)
    assert (house.created(), house.finished("SUCCEED"), house.open()) == (1, 1, 0)


def test_r1_a_finished_job_that_goes_back_to_processing_stays_finished(house: House) -> None:
    """Believing the last state seen would finish it twice."""
    job = started(house).api.create(state="FAILED", fail_msg="boom")
    run(house, 2)
    house.api.change(job, job_state="PROCESSING")
    run(house, 2)
    house.api.change(job, job_state="SUCCEED")
    run(house, 2)
    assert (house.finished("FAILED"), house.finished("SUCCEED")) == (1, 0)
    assert house.view.anomalies["state_regression"] == 1
    assert house.balanced()


def test_r1_a_changed_label_books_each_event_under_the_label_shown_then(house: House) -> None:
    """Rewriting history would make a counter go back."""
    job = started(house).api.create(job_type="AUDITION")
    run(house)
    house.api.change(job, job_type="WEBSOCKET", job_state="SUCCEED")
    run(house)
    assert house.view.created["AUDITION", "TTS_LLM"] == 1
    assert house.view.finished["WEBSOCKET", "TTS_LLM", "SUCCEED"] == 1
    assert house.view.anomalies["label_changed"] == 1
    assert house.balanced()


def test_r1_text_length_is_booked_at_the_first_sighting_that_has_it(house: House) -> None:
    """Booking it only at creation would lose the text of jobs whose length comes later."""
    job = started(house).api.create(text_length=None)
    run(house)
    house.api.change(job, text_length=70)
    run(house, 2)
    house.api.finish(job, text_length=99)
    run(house)
    histogram = house.view.text_length["ASYNC_JOB", "TTS_LLM"]
    assert (histogram.counts, histogram.sum) == ((0, 1, 0, 0), 70)
    assert house.view.synthesized_characters["ASYNC_JOB", "TTS_LLM"] == 70
    assert house.view.anomalies["missing_text_length"] == 1


def test_r1_two_identical_records_without_an_id_are_two_jobs_and_stay_two(house: House) -> None:
    """Using their fields as a key would make them one; counting what a page shows would make them many."""
    started(house)
    at = house.clock.ms
    twins = [house.api.create(at, job_id=name) for name in ("a", "b")]
    for twin in twins:
        house.api.change(twin, job_id=None)
    run(house, 3)
    assert (house.created(), house.open()) == (2, 2)
    house.api.finish("a")
    run(house, 2)
    assert (house.finished(), house.open()) == (1, 1)
    house.api.finish("b", "FAILED")
    run(house, 30)
    assert (house.created(), house.finished("SUCCEED"), house.finished("FAILED")) == (2, 1, 1)
    assert house.view.anomalies["missing_job_id"] == 2


# --- R2 New -------------------------------------------------------------------------------------------


def test_r2_a_record_listed_late_but_within_overlap_is_counted(house: House) -> None:
    """A plain high-water mark at the newest record seen would pass over it."""
    started(house)
    late = house.api.create()
    house.api.appears[late] = house.clock.ms + 4 * MINUTE
    house.api.create(house.clock.ms + 60 * SECOND)
    run(house, 60)
    assert house.created() == 2


def test_r2_a_record_listed_after_its_stretch_was_settled_is_counted_as_late(house: House) -> None:
    """Ignoring what is older than the settled time would lose it although it was read."""
    started(house)
    run(house, 40)
    assert house.view.gauges is not None
    house.api.create(house.view.gauges.counted_until - 60 * SECOND)
    run(house)
    assert house.created() == 1
    assert house.view.anomalies["late_record"] == 1


def test_r2_an_old_unknown_record_is_not_new(house: House) -> None:
    """Counting every unknown id would count a forgotten job again."""
    job = started(house).api.create()
    run(house)
    house.api.finish(job)
    run(house, 120)
    old = house.api.create(house.clock.ms - 25 * MINUTE, job_id="stuck-elsewhere")
    house.api.create(house.clock.ms - 20 * MINUTE)
    run(house, 20)
    assert old not in (job,)
    assert (house.created(), house.finished()) == (1, 1)


def test_r2_a_record_without_a_creation_time_is_counted_once(house: House) -> None:
    """Dropping it would lose a job; dating it anew at every sighting would count it at every poll."""
    started(house)
    job = house.api.create()
    undated = house.api.answer

    def hide_time(query: JobsQuery, page: Page) -> Page:
        page = undated(query, page)
        return Page(tuple(replace(record, create_time=None) for record in page.records), page.count)

    house.api.answer = hide_time
    run(house, 50)
    house.api.finish(job)
    run(house, 50)
    assert (house.created(), house.finished()) == (1, 1)
    assert house.view.anomalies["bad_create_time"] == 1


# --- R3 Three times -----------------------------------------------------------------------------------


def test_r3_a_date_cached_by_a_gateway_holds_the_settled_time_back(house: House) -> None:
    """Settling by our own clock would pass a stretch that the API had not yet listed."""
    started(house)
    house.clock.frozen_at = house.clock.ms
    before = house.view.gauges
    house.api.create()
    run(house, 80)
    assert before is not None
    assert house.view.gauges is not None
    assert house.view.gauges.counted_until == before.counted_until
    assert house.created() == 1
    house.clock.frozen_at = None
    run(house, 5)
    assert house.view.gauges.counted_until > house.clock.ms - 12 * MINUTE


def test_r3_a_wall_clock_that_steps_changes_nothing(house: House) -> None:
    """Windows cut by the wall clock would skip or repeat what it stepped over."""
    started(house)
    wall = iter([10**9 * step for step in (3, 1, 2, 5, 4)] * 100)
    house.poller._wall = lambda: float(next(wall))
    jobs = [house.api.create(house.clock.ms + step * 15 * SECOND) for step in range(60)]
    run(house, 70)
    assert house.created() == len(jobs)


def test_r3_a_wrong_wall_clock_at_a_start_without_the_api_drops_nothing(house: House) -> None:
    """Pruning by our own clock would empty the gauge, and the stored minutes behind it."""
    started(house)
    for _ in range(50):
        house.api.create(state="SUCCEED")
    run(house, 3)
    house.api.fail = outage
    house.clock.known = 0
    house.restart()
    house.poller._wall = lambda: house.clock.ms / SECOND + 40 * 86_400
    run(house, 2)
    house.api.fail = lambda query: None
    house.restart()
    run(house, 2)
    assert house.view.gauges is not None
    assert house.view.gauges.jobs is not None
    assert sum(house.view.gauges.jobs.values()) == 50


# --- R4 First start -----------------------------------------------------------------------------------


def test_r4_only_jobs_open_at_the_first_start_are_counted_of_those_created_before(house: House) -> None:
    """Counting the listed past would show a burst; ignoring it would hide a stuck queue."""
    for age in range(1, 30):
        house.api.create(house.clock.ms - age * MINUTE, state="SUCCEED")
    stuck = house.api.create(house.clock.ms - 30 * MINUTE)
    run(house, 3)
    assert (house.created(), house.finished(), house.open()) == (1, 0, 1)
    assert house.view.gauges is not None
    assert house.view.gauges.jobs is not None
    assert sum(house.view.gauges.jobs.values()) == 30
    house.api.finish(stuck)
    run(house, 30)
    assert (house.created(), house.finished(), house.open()) == (1, 1, 0)


def test_r4_a_crash_right_after_the_first_start_does_not_move_the_baseline(house: House) -> None:
    """A baseline taken anew at every start would lose what was created in between."""
    house.clock.known = 2

    def die(query: JobsQuery) -> None:
        raise KeyboardInterrupt

    house.api.before_page = die
    with pytest.raises(KeyboardInterrupt):
        run(house)
    house.api.before_page = lambda query: None
    house.clock.ms += 5 * SECOND
    house.api.create(state="SUCCEED")
    house.clock.ms += 5 * SECOND
    house.restart()
    run(house, 3)
    assert (house.created(), house.finished()) == (1, 1)


def failed_start(house: House, minutes: int, *, restart: bool, step: int = 0) -> tuple[int, int]:
    """A first start that fails for so long, with a job a minute, finished at once. Returns how many, counted.

    Before it: finished jobs, and one that is stuck; ``step`` sets our own clock half-way (milliseconds).
    """
    for age in range(1, 20):
        house.api.create(house.clock.ms - age * MINUTE, state="SUCCEED")
    house.api.create(house.clock.ms - 30 * MINUTE)
    house.api.fail = outage
    house.clock.known = 0
    for minute in range(minutes):
        run(house)
        house.api.create(state="SUCCEED")
        house.clock.ms += 45 * SECOND
        if minute == minutes // 2:
            if restart:
                house.restart()
            set_wall(house, step)
    house.api.fail = lambda query: None
    run(house, 60)
    assert house.balanced()
    return minutes, house.created()


def set_wall(house: House, step: int) -> None:
    def wall() -> float:
        return (house.clock.ms + step) / SECOND

    house.poller._wall = house.poller._witnesses._wall = wall


@pytest.mark.parametrize("restart", [False, True], ids=["one-process", "restarted"])
def test_r4_jobs_created_while_the_first_start_failed_are_counted(house: House, restart: bool) -> None:
    """A baseline at the first good answer would leave out two hours of wrong credentials."""
    jobs, created = failed_start(house, 120, restart=restart)
    assert created == jobs + 1  # and the stuck one of the window before
    assert (house.finished(), house.open()) == (jobs, 1)
    assert house.view.skipped_ms == 0


def test_r4_what_a_failed_first_start_waits_for_is_shown(house: House) -> None:
    """Since when, until the first good answer; then only since when it counts."""
    house.api.fail = outage
    house.clock.known = 0
    run(house, 3)
    assert house.view.first_tried == START
    assert house.view.counting_since is None
    house.restart()
    run(house, 3)
    assert house.view.first_tried == START
    house.api.fail = lambda query: None
    run(house, 2)
    begun = house.views[-1]
    assert begun.first_tried is None
    assert begun.counting_since == START


@pytest.mark.parametrize("years", [-20, 20], ids=["back", "ahead"])
@pytest.mark.parametrize("restart", [False, True], ids=["one-process", "restarted"])
def test_r4_our_clock_set_while_the_first_start_failed_counts_no_past(
    house: House, restart: bool, years: int
) -> None:
    """A machine that starts in 1970 must not count all there is; after a restart only its time is known."""
    jobs, created = failed_start(house, 60, restart=restart, step=years * 365 * 24 * 60 * MINUTE)
    assert created == pytest.approx(jobs // 2, abs=1) if restart else created == jobs + 1


def test_r4_a_failed_first_start_goes_back_as_far_as_any_downtime(store: SqliteStore) -> None:
    """No further than ``max_catch_up``; the rest is said to be skipped."""
    house = House(store, max_catch_up=30 * MINUTE)
    _, created = failed_start(house, 60, restart=False)
    assert created == pytest.approx(31, abs=1)
    assert house.view.skipped_ms == pytest.approx(30 * MINUTE, abs=MINUTE)


# --- R5 Reading ---------------------------------------------------------------------------------------


def test_r5_news_arrives_with_the_next_poll_not_with_the_settled_time(house: House) -> None:
    """Reading only what is old enough to be settled would show every job five minutes late."""
    started(house).api.create()
    run(house)
    assert house.created() == 1


def test_r5_facts_of_a_read_that_breaks_off_are_booked(house: House) -> None:
    """Throwing a broken read away would starve a list that breaks at every second page."""
    started(house)
    for _ in range(150):
        house.api.create()
    house.api.fail = lambda query: outage(query) if query.offset else None
    assert run(house, 2) == "failed"
    assert house.created() >= 100
    house.api.fail = lambda query: None
    run(house, 30)
    assert house.created() == 150


# --- R6 Complete --------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
@pytest.mark.parametrize("drift", ["deleted", "inserted"])
def test_r6_a_list_that_shifts_between_two_pages_loses_nothing(
    house: House, newest_first: bool, drift: str
) -> None:
    """Paging by offset alone skips the record that moved over the edge of a page."""
    started(house)
    house.api.newest_first = newest_first
    doomed = [house.api.create(house.clock.ms - 20 * SECOND, state="SUCCEED") for _ in range(20)]
    kept = [
        house.api.create(house.clock.ms - second * SECOND, state="SUCCEED")
        for second in range(15)
        for _ in range(12)
    ]
    counted = len(kept)

    def shift(query: JobsQuery) -> None:
        nonlocal counted
        if query.offset and doomed and not query.job_id:
            if drift == "deleted":
                house.api.jobs.pop(doomed.pop() if not newest_first else kept.pop())
            else:
                doomed.pop()
                house.api.create(house.clock.ms - (0 if newest_first else 25 * SECOND), state="SUCCEED")
                counted += 1

    house.api.before_page = shift
    run(house, 3)
    house.api.before_page = lambda query: None
    run(house, 60)
    alive = set(house.api.jobs)
    assert house.created() >= len(alive)
    assert house.created() <= len(alive) + 20
    assert house.balanced()


def test_r6_a_list_capped_at_ten_thousand_is_read_in_windows(store: SqliteStore) -> None:
    """Paging through everything would meet the cap and call it the end."""
    house = House(store, budget=1000)
    started(house)
    house.api.cap = 200
    begin = house.clock.ms
    for number in range(1200):
        house.api.create(begin + number * 250 // SECOND * SECOND, state="SUCCEED")
    house.clock.ms += 5 * MINUTE
    run(house, 60)
    assert house.created() == 1200


def test_r6_a_silently_clipped_limit_is_not_the_end(house: House) -> None:
    """A page shorter than the limit asked for would look like the last one."""
    started(house)
    house.api.clip = 30
    house.api.count_respects_filters = False
    for _ in range(95):
        house.api.create(state="SUCCEED")
    run(house, 40)
    assert house.created() == 95


def test_r6_a_count_that_ignores_the_filters_neither_ends_nor_stops_a_read(house: House) -> None:
    """Trusting it would end reads early, or never."""
    for age in range(300):
        house.api.create(house.clock.ms - age * SECOND - 2 * 60 * MINUTE, state="SUCCEED")
    house.api.count_respects_filters = False
    started(house)
    for _ in range(95):
        house.api.create(state="SUCCEED")
    assert run(house, 40) == "complete"
    assert house.created() == 95


def test_r6_ten_minutes_of_empty_answers_are_a_fault_not_the_end_of_every_job(house: House) -> None:
    """Believing an empty list would settle over unseen jobs and give up the open ones."""
    started(house)
    early = [house.api.create() for _ in range(10)]
    run(house, 2)
    house.api.empty = True
    unseen = []
    for _ in range(40):
        unseen.append(house.api.create(state="SUCCEED"))
        run(house)
    house.api.empty = False
    for job in early:
        house.api.finish(job)
    run(house, 60)
    assert house.created() == len(early) + len(unseen)
    assert house.finished() == len(early) + len(unseen)
    assert house.expired() == 0


def test_r6_ten_minutes_of_empty_answers_in_a_quiet_hour_lose_nothing(house: House) -> None:
    """With nothing remembered in the window, an empty list contradicts nothing: reading back finds it."""
    started(house)
    run(house, 100)
    house.api.empty = True
    for _ in range(40):
        house.api.create(state="SUCCEED")
        run(house)
    house.api.empty = False
    run(house, 60)
    assert house.created() == 40


def test_r6_a_burst_that_an_empty_list_hid_is_found_with_the_first_late_record(house: House) -> None:
    """What one spare page shows of it would be all that is ever counted."""
    started(house)
    run(house, 100)
    house.api.empty = True
    for _ in range(1200):
        house.api.create(state="SUCCEED")
    run(house, 30)
    house.api.empty = False
    run(house, 60)
    assert house.created() == 1200
    assert house.view.anomalies["late_record"] > 100


def test_r6_an_empty_answer_in_a_backlog_is_asked_for_again(house: House) -> None:
    """A backlog is read once: believing a wrongly empty answer there would lose its whole stretch."""
    started(house)
    begin = house.clock.ms
    for number in range(1500):
        house.api.create(begin + number * 10 * SECOND, state="SUCCEED")
    house.clock.ms += 1500 * 10 * SECOND

    def sometimes_empty(query: JobsQuery) -> None:
        house.api.empty = len(house.api.queries) % 5 == 0

    house.api.before_page = sometimes_empty
    run(house, 40)
    house.api.before_page, house.api.empty = (lambda query: None), False
    run(house, 40)
    assert house.created() == 1500


def test_r6_one_deleted_record_does_not_hold_the_books_for_ever(house: House) -> None:
    """Insisting on every remembered id would stop counting at the first deletion."""
    job = started(house).api.create(state="SUCCEED")
    run(house, 2)
    del house.api.jobs[job]
    for _ in range(80):
        house.api.create(state="SUCCEED")
        run(house)
    assert house.view.gauges is not None
    assert house.view.gauges.counted_until > house.clock.ms - 12 * MINUTE
    assert house.created() == 81


def test_r6_a_job_listed_twice_on_a_page_is_one_job_and_no_hindrance(house: House) -> None:
    """Taking a repetition for a shift would halve windows for ever; counting it would count twice."""
    started(house)
    normal = house.api.answer

    def twice(query: JobsQuery, page: Page) -> Page:
        page = normal(query, page)
        return Page((*page.records, *page.records[:2]), (page.count or 0) + len(page.records[:2]))

    house.api.answer = twice
    for _ in range(30):
        house.api.create(state="SUCCEED")
        run(house)
    run(house, 40)
    assert (house.created(), house.finished()) == (30, 30)
    assert house.view.gauges is not None
    assert house.view.gauges.counted_until > house.clock.ms - 2 * house.rules.overlap


def test_r6_records_deleted_all_the_time_hold_nothing_up(house: House) -> None:
    """Waiting for each deleted record in its turn would fall behind for ever."""
    started(house)
    jobs = []
    for _ in range(200):
        jobs.append(house.api.create(state="SUCCEED"))
        run(house)
        if len(jobs) > 4:
            del house.api.jobs[jobs[-5]]
    assert house.created() == 200
    assert house.view.gauges is not None
    assert house.view.gauges.counted_until > house.clock.ms - 3 * house.rules.overlap
    assert not house.expired()


def test_r6_more_jobs_in_one_second_than_a_page_holds_are_all_counted(store: SqliteStore) -> None:
    """The smallest window cannot be halved: it needs two equal passes, or one per type."""
    house = started(House(store, budget=400))
    for number in range(1100):
        house.api.create(state="SUCCEED", job_type=("AUDITION", "WEBSOCKET")[number % 2])
    run(house, 60)
    assert house.created() == 1100


def test_r6_a_window_that_was_not_read_to_its_end_misses_nothing(house: House) -> None:
    """What a broken read did not show says nothing: three of those would be the end of every open job."""
    started(house)
    jobs = [house.api.create() for _ in range(3)]
    run(house, 2)
    house.api.clip = 2  # the third is on a page of its own
    house.api.fail = lambda query: outage(query) if query.offset else None
    run(house, 10)
    assert [job.misses for job_id in jobs if (job := house.books.ledger.jobs.get(job_id))] == [0, 0, 0]


# --- R7 Outside ---------------------------------------------------------------------------------------


def test_r7_a_service_in_another_time_zone_is_refused_not_counted(house: House) -> None:
    """Booking whatever comes would count records that the next window shows again."""
    started(house)

    def eight_hours_off(query: JobsQuery, page: Page) -> Page:
        records = (
            replace(record, create_time=(record.create_time or 0) + 8 * 60 * MINUTE)
            for record in page.records
        )
        return Page(tuple(records), page.count)

    house.api.answer = eight_hours_off
    house.api.create()
    assert run(house) == "failed"
    assert house.created() == 0
    assert house.view.anomalies["outside_window"] == 1


def test_r7_ignored_time_filters_are_found_out_before_anything_is_counted(house: House) -> None:
    """The whole list in every window would count the past as new."""
    house.api.time_filters_work = False
    for age in range(5):
        house.api.create(house.clock.ms - age * MINUTE)
    assert run(house) == "failed"
    assert house.created() == 0
    assert house.view.gauges is None


def test_r7_without_time_filters_the_whole_list_is_one_window(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Refusing such an API would leave its operators with nothing; the log says what it costs."""
    house = House(store, time_filters=False)
    house.api.time_filters_work = False
    past = [house.api.create(house.clock.ms - age * MINUTE, state="SUCCEED") for age in range(1, 40)]
    stuck = house.api.create(house.clock.ms - 10 * MINUTE)
    started(house)
    new = [house.api.create(house.clock.ms - 1 * SECOND) for _ in range(150)]
    run(house, 3)
    for job in (stuck, *new):
        house.api.finish(job)
    run(house, 60)
    assert len(past) == 39
    costs = [record for record in caplog.records if "lists everything" in record.getMessage()]
    assert next(record.__dict__["fields"]["requests"] for record in costs) == 2
    assert (house.created(), house.finished(), house.open()) == (151, 151, 0)


# --- R8 Progress --------------------------------------------------------------------------------------


def test_r8_after_a_long_outage_every_job_is_caught_up(house: House) -> None:
    """A window that only reaches back a little would lose the outage."""
    started(house)
    house.api.fail = outage
    begin = house.clock.ms
    for minute in range(6 * 60):
        house.api.create(begin + minute * MINUTE, state="SUCCEED")
    house.clock.ms += 6 * 60 * MINUTE
    run(house, 3)
    house.api.fail = lambda query: None
    run(house, 40)
    assert house.created() == house.finished() == 360


def test_r8_a_catch_up_that_breaks_off_again_and_again_still_gets_on(house: House) -> None:
    """Committing only the whole catch-up would start over for ever."""
    started(house)
    begin = house.clock.ms
    for number in range(2000):
        house.api.create(begin + number * 10 * SECOND, state="SUCCEED")
    house.clock.ms += 2000 * 10 * SECOND
    answers = 0

    def flaky(query: JobsQuery) -> ApiError | None:
        nonlocal answers
        answers += 1
        return outage(query) if answers % 4 == 0 else None

    house.api.fail = flaky
    run(house, 150)
    house.api.fail = lambda query: None
    run(house, 10)
    assert house.created() == 2000


def test_r8_what_is_beyond_max_catch_up_is_skipped_once_and_said(house: House) -> None:
    """Going back without an end would never arrive; skipping silently would look like no traffic."""
    started(house)
    begin = house.clock.ms
    for hour in range(48):
        house.api.create(begin + hour * 60 * MINUTE + MINUTE, state="SUCCEED")
    house.clock.ms += 48 * 60 * MINUTE
    house.restart()
    run(house, 60)
    assert house.created() == 24
    skipped = house.view.skipped_ms
    assert abs(skipped - 24 * 60 * MINUTE) < 10 * MINUTE
    run(house, 20)
    assert house.view.skipped_ms == skipped


def test_r8_a_jump_is_not_repeated_while_nothing_can_be_read(house: House) -> None:
    """Jumping at every failed poll would skip what a single jump had promised to read."""
    started(house).api.create()
    run(house)
    house.clock.ms += 3 * 24 * 60 * MINUTE
    house.restart()
    house.api.fail = lambda query: outage(query) if (query.since or 0) > START - MINUTE else None
    run(house, 5)
    skipped = house.view.skipped_ms
    assert skipped > 0
    run(house, 100)
    assert house.view.skipped_ms == skipped


# --- R9 Open jobs -------------------------------------------------------------------------------------


def test_r9_a_job_that_finishes_after_hours_is_still_seen_to_finish(house: House) -> None:
    """Watching only a recent window would leave it open for ever."""
    job = started(house).api.create()
    run(house, 4 * 60 * 5)
    house.api.finish(job, "FAILED", fail_msg="late")
    run(house, 4 * 60)
    assert (house.finished("FAILED"), house.open()) == (1, 0)


def test_r9_an_unfinished_job_expires_only_after_a_look_past_its_deadline(store: SqliteStore) -> None:
    """Expiring by the clock alone would give up a job that finished while we did not look."""
    house = started(House(store, max_job_age=60 * MINUTE))
    finishes, hangs = house.api.create(), house.api.create()
    run(house, 4)
    house.api.fail = outage
    house.api.finish(finishes)
    run(house, 4 * 70)
    assert house.expired() == 0
    house.api.fail = lambda query: None
    run(house, 10)
    assert (house.finished(), house.expired("max_age"), house.open()) == (1, 1, 0)
    assert hangs in house.api.jobs


def test_r9_a_vanished_open_job_is_given_up_after_three_looks_spread_over_overlap(house: House) -> None:
    """Giving it up at the first miss would lose a job to one bad answer; never would leak memory."""
    job = started(house).api.create()
    others = [house.api.create() for _ in range(3)]
    run(house, 2)
    record = house.api.jobs.pop(job)
    run(house, 2)
    assert house.expired() == 0
    house.api.jobs[job] = record
    run(house, 2)
    del house.api.jobs[job]
    run(house, 60)
    assert (house.expired("vanished"), house.open()) == (1, len(others))
    assert house.balanced()


@pytest.mark.parametrize("empty", [0.5, 0.8, 0.95])
def test_r9_a_list_that_is_empty_now_and_then_gives_up_no_job_that_is_there(
    store: SqliteStore, empty: float
) -> None:
    """Three empty answers in five minutes say nothing about a job when many answers are empty."""
    house = started(House(store, overlap=2 * MINUTE))
    open_jobs = [house.api.create() for _ in range(20)]
    for _ in range(60):
        house.api.create(state="SUCCEED")
        run(house, 2)
    open_jobs += [house.api.create() for _ in range(20)]
    run(house, 2)
    rng = random.Random(7)

    def now_and_then(query: JobsQuery) -> None:
        house.api.empty = rng.random() < empty

    house.api.before_page = now_and_then
    run(house, 4 * 30)
    assert house.expired() == 0
    house.api.before_page, house.api.empty = (lambda query: None), False
    for job in open_jobs:
        house.api.finish(job)
    run(house, 40)
    assert (house.finished(), house.expired(), house.open()) == (60 + len(open_jobs), 0, 0)


@pytest.mark.parametrize(("neighbour", "minutes"), [(25, 7), (75, 62)])
def test_r9_a_lone_job_that_vanished_is_given_up_by_its_neighbours_or_after_an_hour(
    house: House, neighbour: int, minutes: int
) -> None:
    """An empty answer about one second proves nothing: so a page with what lies around it is asked for."""
    started(house).api.create(state="SUCCEED")
    run(house, neighbour * 4)
    job = house.api.create()
    run(house, 2)
    del house.api.jobs[job]
    run(house, (minutes - 2) * 4)
    assert house.expired() == 0
    assert house.view.gauges is not None
    run(house, 3 * 4)
    assert (house.expired("vanished"), house.open()) == (1, 0)
    assert house.view.gauges.counted_until > house.clock.ms - 4 * house.rules.overlap


def test_r9_a_missed_job_in_a_stretch_that_nobody_knows_costs_no_other_its_looks(store: SqliteStore) -> None:
    """What lies around it was skipped, and is far more than a page: listing it would take every request."""
    house = started(House(store, max_catch_up=2 * 60 * MINUTE))
    others = []
    for _ in range(10):
        run(house, 4)
        others.append(house.api.create())
    lost = house.api.create()
    run(house, 2)
    for number in range(12_000):
        house.api.create(house.clock.ms + 10 * SECOND + number * SECOND // 6, state="SUCCEED")
    house.clock.ms += 5 * 60 * MINUTE
    del house.api.jobs[lost]
    house.restart()
    run(house, 8)
    late = house.api.create()
    others.append(house.api.create())
    run(house, 2)
    del house.api.jobs[late]
    house.api.queries.clear()
    run(house, 60)
    assert len(house.api.queries) < 60 * 6
    for job in others:
        house.api.finish(job)
    run(house, 4 * 30)
    assert house.finished() == len(others)
    assert (house.expired("vanished"), house.open()) == (2, 0)


def test_r9_jobs_among_many_that_nobody_knew_of_are_asked_for_alone(house: House) -> None:
    """A stretch from one to the other was tried once, and was too large."""
    started(house)
    jobs = [house.api.create(), house.api.create()]
    asyncio.run(house.poll(60, every=MINUTE))

    def queries() -> list[str]:
        house.clock.ms += 8 * MINUTE
        house.api.queries.clear()
        run(house)
        return sorted(query.job_id or "listing" for query in house.api.queries)

    listings = queries()
    house.books.ledger.absences.crowded.update([*jobs, "ended"])
    assert [*queries(), "listing"] == [*jobs, *listings]
    assert house.books.ledger.absences.crowded == set(jobs)


def test_r9_an_old_job_that_only_empty_answers_miss_is_not_asked_for_in_every_poll(house: House) -> None:
    """It is nine minutes from one look at it to the next, also when it is missed."""
    job = started(house).api.create()
    asyncio.run(house.poll(180, every=MINUTE))
    del house.api.jobs[job]
    asyncio.run(house.poll(10, every=MINUTE))
    house.api.queries.clear()
    run(house, 80)
    assert house.open() == 1
    old = house.clock.ms - 60 * MINUTE
    around = [query for query in house.api.queries if query.until is not None and query.until < old]
    assert 2 <= len(around) <= 4


def test_r9_a_full_second_that_nobody_knows_is_read_in_one_pass(store: SqliteStore) -> None:
    """A single second cannot be cut: it is read to its end, page by page."""
    house = started(House(store, max_catch_up=2 * 60 * MINUTE))
    lost = house.api.create()
    run(house, 2)
    second = house.api.jobs.pop(lost).create_time or 0
    for _ in range(350):
        house.api.create(second, state="SUCCEED")
    house.clock.ms += 5 * 60 * MINUTE
    house.restart()
    run(house, 4 * 40)
    assert house.expired("vanished") == 1
    edges = (second - SECOND, second + SECOND)
    alone = [query for query in house.api.queries if (query.since, query.until) == edges]
    assert [query.offset for query in alone[:5]] == [0, 99, 198, 297, 0]


@pytest.mark.parametrize("asked", [True, False], ids=["errors", "stopped"])
def test_r9_an_hour_without_answers_makes_no_job_vanish(house: House, asked: bool) -> None:
    """Empty answers before and after it are no hour of empty answers."""
    started(house)
    jobs = [house.api.create() for _ in range(50)]
    run(house, 8)
    house.api.empty = True
    run(house, 12)
    if asked:
        house.api.fail = outage
        run(house, 240)
        house.api.fail = lambda query: None
    else:
        house.clock.ms += 60 * MINUTE
        house.restart()
    run(house)
    house.api.empty = False
    for job in jobs:
        house.api.finish(job)
    run(house, 40)
    assert (house.finished(), house.expired(), house.open()) == (50, 0, 0)


def test_r9_a_deleted_job_vanishes_also_where_looks_are_rare(house: House) -> None:
    """Neither minutes without a question nor neighbours that are seldom listed are a silence of the list."""
    started(house).api.create(state="SUCCEED")
    run(house, 4)
    job = house.api.create()
    run(house, 8)
    house.api.create(state="SUCCEED")
    asyncio.run(house.poll(10 * 60, every=MINUTE))
    del house.api.jobs[job]
    asyncio.run(house.poll(3 * 60, every=MINUTE))
    assert (house.expired("vanished"), house.open()) == (1, 0)


@pytest.mark.parametrize("state", ["WAITING", "SUCCEED"])
def test_r6_a_deleted_job_holds_nothing_up_where_polls_are_rare(house: House, state: str) -> None:
    """Polls two minutes apart in a quiet hour: between two answers nobody knows what the list shows."""
    started(house).api.create(state="SUCCEED")
    run(house, 200)
    job = house.api.create(state=state)
    run(house, 2)
    del house.api.jobs[job]
    asyncio.run(house.poll(30, every=2 * MINUTE))
    assert house.view.gauges is not None
    assert house.view.gauges.counted_until > house.clock.ms - 4 * house.rules.overlap


def test_r7_a_record_from_the_far_future_is_not_counted_by_whatever_shows_it(house: House) -> None:
    """The newest of all records is what the list shows first, when any is asked for."""
    job = started(house).api.create()
    run(house, 4)
    house.api.create(house.clock.ms + 30 * 24 * 60 * MINUTE)
    del house.api.jobs[job]
    run(house, 40)
    assert any(query == JobsQuery(limit=1) for query in house.api.queries)
    assert house.created() == 1


def test_r9_a_lookup_answered_with_another_job_is_no_answer(house: House) -> None:
    """Taking whatever comes back would finish the wrong job, or vanish the right one."""
    job = started(house).api.create()
    crowd = [house.api.create(state="SUCCEED") for _ in range(250)]
    run(house, 160)
    other = house.api.create(house.clock.ms - 40 * MINUTE, state="SUCCEED", job_id="other")
    normal = house.api.answer

    def wrong_job(query: JobsQuery, page: Page) -> Page:
        return Page((house.api.jobs[other],), 1) if query.job_id else normal(query, page)

    house.api.answer = wrong_job
    run(house, 40)
    assert any(query.job_id for query in house.api.queries)
    assert (house.finished(), house.expired(), house.open()) == (len(crowd), 0, 1)
    house.api.finish(job)
    run(house, 80)
    assert (house.finished(), house.expired(), house.open()) == (len(crowd) + 1, 0, 0)


# --- R10 Commit, then publish -------------------------------------------------------------------------


def test_r10_what_was_not_committed_is_not_published_and_not_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing memory would show counters that a restart takes back."""
    started(house)
    house.api.create()
    seen = house.created()
    full = SqliteStore._write

    def disk_full(self: SqliteStore, *args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteStore, "_write", disk_full)
    run(house, 3)
    assert house.created() == seen
    monkeypatch.setattr(SqliteStore, "_write", full)
    run(house, 2)
    assert house.created() == seen + 1


def test_r10_a_second_exporter_cannot_open_the_same_store(store: SqliteStore, tmp_path: Path) -> None:
    """Two processes on one file would each add the same jobs."""
    with pytest.raises(StoreLockedError, match=r"another exporter is using this store"):
        SqliteStore(tmp_path / "books.db")


def test_r10_a_restart_in_the_middle_of_everything_repeats_nothing(house: House) -> None:
    """Forgetting identities at a restart would count the overlap again."""
    started(house)
    jobs = []
    for number in range(100):
        jobs.append(house.api.create())
        if number >= 10:
            house.api.finish(jobs[number - 10])
        run(house)
        house.restart()
    run(house, 40)
    assert (house.created(), house.finished(), house.open()) == (100, 90, 10)


def test_r10_before_the_books_are_loaded_nothing_is_published_as_zero(store: SqliteStore) -> None:
    """Zeros from an unread store would look like a counter reset."""
    house = House(store)
    view = house.books.view(now=None, up=False, skew_ms=None)
    assert (view.pairs, view.gauges, view.created) == ((), None, {})


# --- R11 Scope ----------------------------------------------------------------------------------------


def test_r11_a_target_name_reused_for_something_else_is_refused(store: SqliteStore) -> None:
    """Adding up two projects under one name would be a lie in every graph."""
    started(House(store, scope="region=cn-north-4"))
    other = House(store, scope="region=cn-east-3")
    with pytest.raises(ScopeChangedError, match="use a new target name"):
        asyncio.run(other.books.load(0))


def test_r11_another_project_behind_the_same_name_is_refused(store: SqliteStore) -> None:
    """A project id that is looked up may change without a word in the configuration."""
    api = FakeApi(FakeClock())
    started(House(store, api))
    api.project_id = "p2"
    house = House(store, api)
    assert run(house) == "failed"
    assert house.created() == 0


def test_r11_overlap_and_window_may_change_without_losing_a_count(store: SqliteStore) -> None:
    """Books tied to their settings would start anew at every tuning."""
    house = started(House(store))
    jobs = [house.api.create() for _ in range(5)]
    run(house, 3)
    house.rules = replace(house.rules, overlap=10 * MINUTE, window=5 * MINUTE)
    house.restart()
    for job in jobs:
        house.api.finish(job)
    run(house, 60)
    assert (house.created(), house.finished()) == (5, 5)


def test_r11_other_buckets_start_that_histogram_anew_and_nothing_else(store: SqliteStore) -> None:
    """Old counts under new bounds would be a wrong distribution."""
    house = started(House(store))
    house.api.create(text_length=70)
    run(house, 2)
    house.rules = replace(house.rules, text_length_buckets=(10, 20))
    house.restart()
    house.api.create(text_length=15)
    run(house, 2)
    histogram = house.view.text_length["ASYNC_JOB", "TTS_LLM"]
    assert (histogram.bounds, histogram.counts, histogram.sum) == ((10, 20), (0, 1, 0), 15)
    assert house.created() == 2


# --- R12 Balance --------------------------------------------------------------------------------------


def test_r12_every_publication_balances_through_a_busy_faulty_hour(house: House) -> None:
    """Counters kept apart from the list of open jobs drift from it."""
    started(house)
    for step in range(240):
        job = house.api.create()
        if step % 3 == 0:
            house.api.appears[job] = house.clock.ms + (step % 17) * 15 * SECOND
        if step % 2 and step > 20:
            house.api.finish(sorted(house.api.jobs)[step // 2], "FAILED" if step % 5 else "SUCCEED")
        house.api.fail = outage if step % 7 == 3 else lambda query: None
        house.api.empty = step % 31 == 5
        run(house)
    house.api.fail, house.api.empty = lambda query: None, False
    run(house, 40)
    assert all(
        sum(view.created.values())
        == sum(view.finished.values())
        + sum(view.expired.values())
        + (sum(view.gauges.open_jobs.values()) if view.gauges else 0)
        for view in house.views
    )
    assert house.created() == 240


def test_r12_memory_is_bounded_by_what_is_open_and_recent(house: House) -> None:
    """Remembering every id ever seen would grow for ever."""
    started(house)
    for _ in range(600):
        house.api.create(state="SUCCEED")
        run(house)
        if len(house.api.jobs) > 200:
            del house.api.jobs[min(house.api.jobs)]
    assert house.created() == 600
    assert len(house.books.ledger.jobs) < 50
