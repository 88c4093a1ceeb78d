"""R9 Open jobs (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

import asyncio
import random

import pytest

from exporter.ledger.record import JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness, outage
from tests.polling.rules.support import run, started


@pytest.mark.slow
def test_a_job_that_finishes_after_hours_is_counted(harness: PollerHarness) -> None:
    """Watching only a recent window would leave it open for ever."""
    job = started(harness).api.create()
    run(harness, 4 * 60 * 5)
    harness.api.finish(job, "FAILED", fail_msg="late")
    run(harness, 4 * 60)
    assert (harness.finished("FAILED"), harness.open()) == (1, 0)


@pytest.mark.slow
def test_a_job_expires_only_after_a_recheck_past_its_deadline(store: SqliteStore) -> None:
    """Expiring by the clock alone would give up a job that finished while the exporter was down."""
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


def test_an_open_job_vanishes_after_three_rechecks_over_overlap(
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


@pytest.mark.slow
@pytest.mark.parametrize("empty", [0.5, 0.8, 0.95])
def test_a_list_that_is_often_empty_makes_no_job_vanish(store: SqliteStore, empty: float) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize(("neighbour", "minutes"), [(25, 7), (75, 62)])
def test_a_lone_job_vanishes_by_its_neighbours_or_after_an_hour(
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
    assert harness.view.gauges.counted_until > harness.clock.ms - 4 * harness.ledger_settings.overlap


@pytest.mark.slow
def test_a_missing_job_in_a_skipped_stretch_delays_no_other(store: SqliteStore) -> None:
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


def test_jobs_among_many_unknown_ones_are_looked_up_alone(harness: PollerHarness) -> None:
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
    harness.repository.ledger.missing_jobs.look_up_alone.update([*jobs, "ended"])
    assert [*queries(), "listing"] == [*jobs, *listings]
    assert harness.repository.ledger.missing_jobs.look_up_alone == set(jobs)


@pytest.mark.slow
def test_a_missing_old_job_is_not_asked_for_in_every_poll(
    harness: PollerHarness,
) -> None:
    """It is nine minutes from one recheck of it to the next, also when it is missing."""
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


def test_a_full_second_of_unknown_jobs_is_read_in_one_pass(store: SqliteStore) -> None:
    """A single second cannot be cut: it is read to its end, page by page."""
    harness = started(PollerHarness(store, max_catch_up=2 * 60 * MINUTE))
    lost = harness.api.create()
    run(harness, 2)
    second = harness.api.jobs.pop(lost).create_time or 0
    for _ in range(350):
        harness.api.create(second, state="SUCCEED")
    harness.clock.ms += 5 * 60 * MINUTE
    harness.restart()
    run(harness, 4 * 60)
    assert harness.expired("vanished") == 1
    edges = (second - SECOND, second + SECOND)
    alone = [query for query in harness.api.queries if (query.since, query.until) == edges]
    assert [query.offset for query in alone[:5]] == [0, 99, 198, 297, 0]


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False], ids=["errors", "stopped"])
def test_an_hour_without_answers_makes_no_job_vanish(harness: PollerHarness, asked: bool) -> None:
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


@pytest.mark.slow
def test_a_deleted_job_vanishes_also_where_rechecks_are_rare(harness: PollerHarness) -> None:
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


@pytest.mark.slow
def test_a_lookup_answered_with_another_job_is_no_answer(harness: PollerHarness) -> None:
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
