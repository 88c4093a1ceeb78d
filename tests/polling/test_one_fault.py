"""One job, second or answer that is wrong again and again: nothing else waits for it, or is counted less."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.errors import ApiError, ErrorKind
from exporter.ledger.record import JobsQuery, Page, Record
from exporter.store.sqlite import SqliteStore
from tests.fake_api import MINUTE, SECOND, House


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    books = SqliteStore(tmp_path / "books.db")
    yield books
    books.close()


@pytest.fixture
def house(store: SqliteStore) -> House:
    """Started a minute ago."""
    house = House(store)
    run(house, 4)
    return house


def run(house: House, polls: int = 1, every: int = 15 * SECOND) -> str:
    return asyncio.run(house.poll(polls, every))


def stuck_in_the_dense(house: House, jobs: int) -> list[str]:
    """Open jobs, each among so many finished ones that it is looked up by its id; an hour ago."""
    stuck = []
    for _ in range(jobs):
        stuck.append(house.api.create())
        for number in range(250):
            house.api.create(house.clock.ms + number % 50 * SECOND, state="SUCCEED")
        run(house, 8)
    run(house, 60, MINUTE)
    return stuck


def broken(hit: Callable[[JobsQuery], object], status: int = 500) -> Callable[[JobsQuery], ApiError | None]:
    kind = ErrorKind.SERVER if status >= 500 else ErrorKind.CLIENT
    return lambda query: ApiError(kind, "it is broken", status=status) if hit(query) else None


def lists(query: JobsQuery, at: int) -> bool:
    return query.job_id is None and query.since is not None and query.since <= at <= (query.until or 0)


@pytest.mark.parametrize("status", [500, 404])
@pytest.mark.parametrize("way", ["lookup", "listing"])
def test_a_look_that_always_fails_keeps_no_other_job_waiting(house: House, way: str, status: int) -> None:
    """It is the one that waited longest: ending the looks with it would show the end of no other."""
    stuck = stuck_in_the_dense(house, 6)
    at = house.api.jobs[stuck[0]].create_time or 0
    house.api.fail = broken(
        lambda query: query.job_id == stuck[0] if way == "lookup" else lists(query, at), status
    )
    for job in stuck[1:]:
        house.api.finish(job, "FAILED")
    assert run(house, 20, MINUTE)
    assert house.finished("FAILED") == len(stuck) - 1


def test_many_looks_that_always_fail_keep_no_other_job_waiting(house: House) -> None:
    """More of them than one poll tries: whoever waited longest must not always be one of these."""
    stuck = stuck_in_the_dense(house, 8)
    bad = {job: house.api.jobs[job].create_time or 0 for job in stuck[:5]}
    house.api.fail = broken(lambda query: query.job_id in bad or any(lists(query, at) for at in bad.values()))
    run(house, 20, MINUTE)
    for job in stuck[5:]:
        house.api.finish(job, "FAILED")
    run(house, 20, MINUTE)
    assert house.finished("FAILED") == 3


def test_a_second_that_cannot_be_listed_keeps_none_waiting_that_is_listed_with_it(house: House) -> None:
    """Few records, one window for all: that fails as a whole until its jobs are asked for alone."""
    jobs = []
    for _ in range(6):
        jobs.append(house.api.create())
        run(house, 2)
    run(house, 60, MINUTE)
    at = house.api.jobs[jobs[2]].create_time or 0
    house.api.fail = broken(lambda query: lists(query, at))
    for job in jobs[:2] + jobs[3:]:
        house.api.finish(job, "FAILED")
    run(house, 30, MINUTE)
    assert house.finished("FAILED") == 5


def test_a_deleted_job_vanishes_although_a_lookup_of_it_is_an_error(house: House) -> None:
    """An API may answer an id that it does not know with 404: so it is asked for by listing, too."""
    stuck = stuck_in_the_dense(house, 4)
    del house.api.jobs[stuck[0]]
    house.api.fail = broken(
        lambda query: query.job_id is not None and query.job_id not in house.api.jobs, 404
    )
    run(house, 120, MINUTE)
    assert (house.expired("vanished"), house.open()) == (1, 3)
    assert run(house, 10, MINUTE) == "complete"


def test_a_short_outage_does_not_make_every_look_one_of_its_own(house: House) -> None:
    """What fails for all is no reason to ask for each alone."""
    jobs = [house.api.create(house.clock.ms - number * SECOND) for number in range(40)]
    run(house, 60, MINUTE)
    house.api.fail = broken(lambda query: True)
    run(house, 20, MINUTE)
    house.api.fail = lambda query: None
    house.api.queries.clear()
    run(house, 10, MINUTE)
    single = {(at, at + SECOND) for job in jobs if (at := house.api.jobs[job].create_time) is not None}
    assert not [query for query in house.api.queries if query.job_id or (query.since, query.until) in single]


def test_a_deleted_job_vanishes_although_what_lies_around_it_cannot_be_listed(house: House) -> None:
    """The page that would prove it fails: then looks for the job alone must do."""
    near = house.api.create(state="SUCCEED")
    run(house, 40)
    job = house.api.create()
    run(house, 80)
    at = house.api.jobs[near].create_time or 0
    del house.api.jobs[job]
    house.api.fail = broken(lambda query: lists(query, at))
    run(house, 180, MINUTE)
    assert (house.expired("vanished"), house.open()) == (1, 0)


@pytest.mark.parametrize("back", [3, 60], ids=["finished a moment ago", "open for an hour"])
def test_news_comes_although_what_is_read_along_with_it_cannot_be_listed(house: House, back: int) -> None:
    """What lies further back is taken along where that costs nothing: it must not cost the news."""
    job = house.api.create()
    at = house.api.jobs[job].create_time or 0
    if back == 3:
        house.api.finish(job)
    run(house, 4 * back)
    house.api.fail = broken(lambda query: lists(query, at))
    for _ in range(24):
        house.api.create(state="SUCCEED")
        run(house)
    assert house.created() == 25


def test_a_second_that_cannot_be_listed_keeps_no_open_job_waiting(house: House) -> None:
    """The settled time stops there; what is known to be open can be looked at all the same."""
    job = house.api.create()
    run(house, 60)
    at = house.clock.ms // SECOND * SECOND
    house.api.create(at, state="SUCCEED")
    house.api.fail = broken(lambda query: lists(query, at))
    run(house, 60)
    house.api.finish(job)
    run(house, 8)
    assert house.finished() == 1


def test_a_second_that_cannot_be_listed_is_skipped_after_max_catch_up(store: SqliteStore) -> None:
    """Nothing behind it is settled: without an end to that, no job would ever be counted again."""
    house = House(store, max_catch_up=2 * 60 * MINUTE)
    run(house, 4)
    at = house.clock.ms // SECOND * SECOND
    house.api.create(at, state="SUCCEED")
    house.api.fail = broken(lambda query: lists(query, at))
    run(house, 180, MINUTE)
    skipped = house.view.skipped_ms
    assert 0 < skipped < 30 * MINUTE
    news = [house.api.create(state="SUCCEED") for _ in range(10)]
    run(house, 4)
    assert house.created() == len(news)
    run(house, 180, MINUTE)
    assert house.view.skipped_ms == skipped


def test_an_unsteady_list_around_a_missed_job_costs_no_other_its_looks(store: SqliteStore) -> None:
    """What lies around it cannot be read to its end: reading half after half of it takes the whole budget."""
    house = House(store, max_catch_up=2 * 60 * MINUTE, trust_count=False)
    api, rng = house.api, random.Random(3)
    api.count_respects_filters = False
    matching = api._matching

    def shuffled(query: JobsQuery) -> Iterator[Record]:
        """In no order within a minute."""
        return iter(
            sorted(matching(query), key=lambda one: (-((one.create_time or 0) // MINUTE), rng.random()))
        )

    api._matching = shuffled  # type: ignore[method-assign]  # a list as bad as that
    run(house, 4)
    others = []
    for _ in range(10):
        run(house, 4)
        others.append(api.create())
    lost = api.create()
    run(house, 2)
    for number in range(12_000):
        api.create(house.clock.ms + 10 * SECOND + number * SECOND // 6, state="SUCCEED")
    house.clock.ms += 5 * 60 * MINUTE
    del api.jobs[lost]
    house.clock.known = 0
    house.restart()
    run(house, 8)
    api.queries.clear()
    for job in others:
        api.finish(job, "FAILED")
    run(house, 120)
    assert house.finished("FAILED") == len(others)
    assert len(api.queries) < 5 * 120


def test_a_finished_job_that_only_lookups_show_holds_nothing_up_for_ever(house: House) -> None:
    """Shown by id it would refute the windows that missed it, and be missed by those that are read again."""
    hidden = house.api.create(state="SUCCEED")
    run(house, 3)
    matching = house.api._matching
    house.api._matching = lambda query: (  # type: ignore[method-assign]  # lists leave it out
        record for record in matching(query) if query.job_id is not None or record.job_id != hidden
    )
    for _ in range(120):
        for number in range(20):
            house.api.create(house.clock.ms - number % 15 * SECOND, state="SUCCEED")
        run(house)
    assert house.view.gauges is not None
    assert house.clock.ms - house.view.gauges.counted_until < 3 * house.rules.overlap
    assert house.created() == len(house.api.jobs)


@pytest.mark.parametrize("what", ["restart", "refused commit"])
def test_what_a_late_record_made_to_be_read_again_outlives_a_restart(
    house: House, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag of the record is in the store; where the reading had come to is not."""
    house.api.empty = True
    run(house, 100)
    for _ in range(1200):
        house.api.create(state="SUCCEED")
    run(house, 30)
    house.api.empty = False
    run(house)
    assert 0 < house.created() < 1200
    if what == "restart":
        house.restart()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "_write", refuse)
            run(house)
    run(house, 60)
    assert house.created() == 1200


def refuse(*_: object) -> None:
    raise sqlite3.OperationalError("disk full")


def test_a_job_that_is_shown_after_all_does_not_end_what_a_late_record_began(store: SqliteStore) -> None:
    """Both make a stretch be read again: the one that begins earlier counts."""
    house = House(store, budget=12)
    house.api.newest_first = False
    run(house, 104)
    begin = house.clock.ms // SECOND * SECOND
    for number in range(3000):
        job = house.api.create(begin + number % 60 * SECOND, state="SUCCEED")
        house.api.appears[job] = begin + 90 * SECOND
    held = house.api.create(begin + 62 * SECOND)
    house.clock.ms += 63 * SECOND
    run(house)
    house.api.empty = True
    run(house, 32)
    house.api.empty = False
    house.api.appears[held] = house.clock.ms + 10 * SECOND
    run(house, 60)
    assert house.created() == 3001


def test_a_probe_between_empty_answers_makes_no_absence_longer(store: SqliteStore) -> None:
    """What it shows is booked; when it was asked, and so how long anything is missing, nobody knows."""
    house = House(store, time_filters=False)
    house.api.time_filters_work = False
    run(house, 4)
    jobs = [house.api.create() for _ in range(20)]
    run(house, 4)
    house.api.before_page = lambda query: setattr(house.api, "empty", query.limit == 100)
    run(house)
    house.clock.known = 0
    house.restart()
    run(house, 14)
    house.api.before_page, house.api.empty = (lambda query: None), False
    for job in jobs:
        house.api.finish(job)
    run(house, 10)
    assert (house.finished(), house.expired()) == (20, 0)


def test_pages_that_are_cut_to_their_first_record_do_not_end_a_list(house: House) -> None:
    """``count`` says that there is more, and was found to mean what it says."""
    begin = house.clock.ms
    cut: list[JobsQuery] = []

    def answer(query: JobsQuery, page: Page) -> Page:
        if query.offset == 99 and len(page.records) > 1 and len(cut) < 3:
            cut.append(query)
            return Page(page.records[:1], page.count)
        return page

    for number in range(3000):
        house.api.create(begin + number * 2 * SECOND, state="SUCCEED")
    house.clock.ms += 6000 * SECOND
    house.api.answer = answer
    run(house, 60)
    assert len(cut) == 3
    assert house.created() == 3000


def test_a_count_that_means_something_else_ends_no_reading_for_ever(house: House) -> None:
    """It seemed to respect the filters, but counts what is never listed: soon nobody believes it."""
    house.api.answer = lambda query, page: Page(page.records, (page.count or 0) + 3 if page.count else 0)
    for number in range(3000):
        house.api.create(house.clock.ms + number * 2 * SECOND, state="SUCCEED")
    house.clock.ms += 6000 * SECOND
    run(house, 60)
    assert house.created() == 3000
    assert run(house, 10) == "complete"
