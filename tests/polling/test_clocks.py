"""Clocks that are wrong (R3, docs/counting.md): a false ``Date``, our own clock or both, at a first start,
running, restarted.

The poller on the real ``ApiClock``; a job a poll, each finished at the next, and every one must be counted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from email.utils import formatdate

import pytest
from msgspec.structs import replace

from exporter.cloud.client import latest_created
from exporter.cloud.clock import ApiClock
from exporter.ledger.record import JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, FakeClock
from tests.fake_api import FakeApi, PollerHarness, outage

HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY


class Clocks(FakeClock):
    """The true time (``ms``), and what the API and this machine make of it. Offsets in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = 0
        """Our wall clock minus the truth."""
        self.date: Callable[[int], int | None] = lambda answer: 0
        """``Date`` minus the truth, for the n-th answer from when this was set; ``None``: it has none."""
        self.answers = 0
        self.slept = 0
        """How long the machine was suspended: the monotonic clock stood still."""
        self.restart()

    def restart(self) -> None:
        self.api = ApiClock(self.monotonic, self.wall)

    def wall(self) -> float:
        return (self.ms + self.ours) / SECOND

    def monotonic(self) -> float:
        return (self.ms - self.slept) / SECOND

    def answered(self, newest: int | None) -> None:
        off = self.date(self.answers)
        date = None if off is None else formatdate((self.ms + off) // SECOND, usegmt=True)
        self.answers += 1
        now = self.monotonic()
        self.api.observe(date, None, now, now, newest)

    def tell(self, date: Callable[[int], int | None]) -> None:
        """From the next answer on."""
        self.date, self.answers = date, 0

    def now_ms(self) -> int | None:
        return self.api.now_ms()

    def latest_ms(self) -> int | None:
        return self.api.latest_ms()

    def furthest_ms(self) -> int | None:
        return self.api.furthest_ms()

    def note_passed(self, ms: int) -> None:
        self.api.note_passed(ms)

    @property
    def on_our_clock(self) -> bool:  # type: ignore[override]
        return self.api.on_our_clock

    def use_our_clock(self) -> None:
        self.api.use_our_clock()

    def undecided(self, tolerance: float) -> bool:
        return self.api.undecided(tolerance)

    def skew(self, wall: float) -> float | None:
        return self.api.skew(wall)


class DatedApi(FakeApi):
    """Answers carry a ``Date``."""

    clock: Clocks

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        page = await super().list_jobs(query, deadline=deadline)
        self.clock.answered(latest_created(page, query))
        return page


class ClockedHarness(PollerHarness):
    """The poller with clocks of its own; jobs come all the time."""

    api: DatedApi
    clock: Clocks

    def __init__(self, store: SqliteStore, **options: object) -> None:
        super().__init__(store, DatedApi(Clocks()), **options)

    def restart(self) -> None:
        super().restart()
        self.clock.restart()
        self.wall, self.monotonic = self.clock.wall, self.clock.monotonic

    def history(self, jobs: int = 30, apart: int = MINUTE) -> None:
        """Jobs that ended before the first start."""
        for number in range(1, jobs + 1):
            self.api.create(self.clock.ms - number * apart, state="SUCCEED")

    def work(self, polls: int, every: int = 15 * SECOND) -> int:
        """A job before each poll, finished before the next. Returns how many."""
        for _ in range(polls):
            job = self.api.create()
            self.clock.ms += 2 * SECOND
            asyncio.run(self.poll(1, every - 2 * SECOND))
            self.api.finish(job)
        return polls

    def idle(self, polls: int) -> None:
        asyncio.run(self.poll(polls))

    def later(self) -> None:
        """Hours pass, in which nothing happens."""
        self.idle(10)
        asyncio.run(self.poll(40, 8 * MINUTE))

    def counted(self) -> tuple[int, int, int]:
        assert self.balanced()
        return self.created(), self.finished(), self.expired()


@pytest.fixture
def harness(store: SqliteStore) -> ClockedHarness:
    return ClockedHarness(store)


def ahead(by: int, answers: int) -> Callable[[int], int]:
    return lambda answer: by if answer < answers else 0


EVER = 1 << 30
RIGHT, AHEAD, BEHIND = 0, 3 * HOUR, -3 * HOUR
"""Our own clock, minus the truth."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "by", "answers"),
    [
        pytest.param(RIGHT, 2 * HOUR, 2, id="two-dates-ahead"),
        pytest.param(RIGHT, 2 * DAY, 30, id="thirty-dates-two-days-ahead"),
        pytest.param(RIGHT, 2 * HOUR, EVER, id="all-dates-ahead"),
        pytest.param(RIGHT, -2 * HOUR, 2, id="two-dates-behind"),
        pytest.param(RIGHT, -2 * HOUR, EVER, id="all-dates-behind"),
        pytest.param(AHEAD, 0, 0, id="ours-ahead"),
        pytest.param(AHEAD, 2 * HOUR, 8, id="ours-and-eight-dates-ahead"),
        pytest.param(BEHIND, 0, 0, id="ours-behind"),
        pytest.param(BEHIND, 2 * HOUR, 2, id="ours-behind-two-dates-ahead"),
        pytest.param(-20 * YEAR, 0, 0, id="ours-20-years-behind"),
        pytest.param(-20 * YEAR, -2 * HOUR, 3, id="ours-20-years-behind-three-dates-behind"),
        pytest.param(100 * YEAR, 0, 0, id="ours-100-years-ahead"),
    ],
)
def test_a_first_start_with_wrong_clocks_is_exact(
    harness: ClockedHarness, ours: int, by: int, answers: int
) -> None:
    """A baseline in the future ignores every job until then; one in the past counts those that had ended."""
    harness.history()
    harness.clock.ours = ours
    harness.clock.tell(ahead(by, answers))
    harness.idle(1)
    jobs = harness.work(30)
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "ours", "by", "answers"),
    [
        pytest.param("running", RIGHT, 2 * HOUR, 10, id="ten-dates-ahead"),
        pytest.param("running", RIGHT, 2 * DAY, EVER, id="all-dates-two-days-ahead"),
        pytest.param("running", RIGHT, -2 * HOUR, 30, id="thirty-dates-behind"),
        pytest.param("running", AHEAD, 2 * HOUR, 10, id="ours-ahead-ten-dates-ahead"),
        pytest.param("running", BEHIND, 2 * HOUR, 10, id="ours-behind-ten-dates-ahead"),
        pytest.param("running", -20 * YEAR, 2 * DAY, 10, id="ours-20-years-behind-ten-dates-ahead"),
        pytest.param("running", 100 * YEAR, 2 * DAY, 10, id="ours-100-years-ahead-ten-dates-ahead"),
        pytest.param("restarted", RIGHT, 2 * HOUR, 3, id="three-dates-ahead-after-a-restart"),
        pytest.param("restarted", RIGHT, 2 * DAY, EVER, id="all-dates-ahead-after-a-restart"),
        pytest.param("restarted", RIGHT, -2 * DAY, 30, id="thirty-dates-behind-after-a-restart"),
        pytest.param("restarted", AHEAD, 2 * HOUR, 8, id="ours-and-eight-dates-ahead-after-a-restart"),
        pytest.param("restarted", BEHIND, 2 * HOUR, 3, id="ours-behind-three-dates-ahead-after-a-restart"),
        pytest.param("restarted", -20 * YEAR, 0, 0, id="ours-20-years-behind-at-a-restart"),
        pytest.param("restarted", 100 * YEAR, 0, 0, id="ours-100-years-ahead-at-a-restart"),
    ],
)
def test_wrong_clocks_later_on_are_exact(
    harness: ClockedHarness, phase: str, ours: int, by: int, answers: int
) -> None:
    """A settled time in the future passes over every job until then, for ever."""
    harness.history()
    harness.clock.ours = ours
    harness.idle(1)
    jobs = harness.work(20)
    harness.clock.tell(ahead(by, answers))
    if phase == "restarted":
        harness.restart()
    jobs += harness.work(30)
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)


@pytest.mark.slow
@pytest.mark.parametrize("step", [-20 * YEAR, -2 * HOUR, 2 * HOUR, 100 * YEAR], ids=str)
def test_our_clock_may_be_set_while_it_runs(harness: ClockedHarness, step: int) -> None:
    """To whatever, and back: what counts are the API's answers."""
    harness.idle(1)
    jobs = harness.work(20)
    harness.clock.ours = step
    jobs += harness.work(20)
    assert settled_behind(harness) < 15 * MINUTE
    harness.clock.ours = 0
    jobs += harness.work(20)
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)


@pytest.mark.slow
@pytest.mark.parametrize("ours", [RIGHT, AHEAD, BEHIND], ids=["right", "ahead", "behind"])
def test_a_suspended_machine_recovers_by_itself(harness: ClockedHarness, ours: int) -> None:
    """The monotonic clock stood still: the time that earlier answers tell is early until others come."""
    harness.clock.ours = ours
    harness.idle(1)
    jobs = harness.work(20)
    for _ in range(3):
        for minute in range(60):
            harness.api.create(harness.clock.ms + minute * MINUTE, state="SUCCEED")
        harness.clock.ms += HOUR
        harness.clock.slept += HOUR
        jobs += harness.work(20) + 60
    harness.idle(20)
    assert settled_behind(harness) < 15 * MINUTE
    assert harness.counted() == (jobs, jobs, 0)


@pytest.mark.slow
@pytest.mark.parametrize("ours", [BEHIND, -20 * YEAR], ids=["3h", "20-years"])
def test_a_quiet_target_with_a_slow_clock_counts_the_first_job(harness: ClockedHarness, ours: int) -> None:
    """No record shows that the API's clock is right: settling waits for one, and so does no job."""
    harness.clock.ours = ours
    harness.idle(100)
    harness.restart()
    harness.idle(50)
    jobs = harness.work(10)
    assert harness.created() == jobs
    assert harness.view.last_poll.clocks_disagree
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)
    assert harness.view.skipped_ms == 0


def settled_behind(harness: ClockedHarness) -> int:
    return harness.clock.ms - harness.repository.ledger.watermarks.settled_until


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "by"),
    [(RIGHT, 2 * HOUR), (RIGHT, -2 * HOUR), (AHEAD, 0), (BEHIND, 0)],
    ids=["date-ahead", "date-behind", "ours-ahead", "ours-behind"],
)
def test_an_api_without_time_filters_is_exact(store: SqliteStore, ours: int, by: int) -> None:
    """The whole list, with the same baseline and settled time."""
    harness = ClockedHarness(store, time_filters=False)
    harness.api.time_filters_work = False
    harness.history()
    harness.clock.ours = ours
    harness.clock.tell(ahead(by, 25))
    harness.idle(1)
    jobs = harness.work(30)
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)


def test_counting_does_not_begin_by_a_part_of_the_list(store: SqliteStore) -> None:
    """Where clocks differ, an error on the second page leaves the newest job unknown: the next begins."""
    harness = ClockedHarness(store, time_filters=False)
    harness.api.time_filters_work = False
    for age in range(150):
        harness.api.create(harness.clock.ms - age * SECOND, "SUCCEED")
    harness.clock.tell(ahead(2 * HOUR, 40))
    harness.api.fail = lambda query: outage(query) if query.offset else None
    harness.idle(1)
    assert not harness.repository.ledger.started
    harness.api.fail = lambda query: None
    harness.idle(1)
    assert harness.repository.ledger.started


@pytest.mark.slow
def test_a_disagreement_is_said_once_and_taken_back_once(
    harness: ClockedHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """A line per change, not per poll; the view carries it meanwhile."""
    caplog.set_level("INFO")
    harness.idle(20)
    assert not harness.view.last_poll.clocks_disagree
    harness.clock.tell(ahead(2 * HOUR, 40))
    harness.idle(10)
    assert harness.view.last_poll.clocks_disagree
    assert harness.view.last_poll.believed_skew_ms == 0
    harness.idle(60)
    assert not harness.view.last_poll.clocks_disagree
    said = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert [text.split()[-1] for text in said] == ["refute", "again"]


def test_clocks_within_the_overlap_agree(harness: ClockedHarness) -> None:
    """Four minutes are no reason to say anything: overlap is five."""
    harness.clock.ours = 4 * MINUTE
    harness.idle(20)
    assert not harness.view.last_poll.clocks_disagree


def test_books_ahead_of_every_answer_are_said(harness: ClockedHarness) -> None:
    """The API's clock and ours are set back together: jobs until then are taken for counted."""
    harness.idle(60)
    harness.clock.ms -= 2 * HOUR
    harness.clock.slept -= 2 * HOUR
    harness.idle(12)
    assert harness.view.last_poll.clocks_disagree


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_clocks_that_go_mad_one_at_a_time_lose_nothing(harness: ClockedHarness, seed: int) -> None:
    """Any of them, by any amount, for a while, with restarts: the other two outvote it."""
    rng = random.Random(seed)
    harness.history()
    harness.idle(1)
    jobs = 0
    for _ in range(12):
        by = rng.choice([1, -1]) * rng.choice([6 * MINUTE, HOUR, 5 * HOUR, 3 * DAY])
        harness.clock.ours, answers = 0, 0
        if rng.random() < 0.5:
            answers = rng.randrange(1, 40)
        else:
            harness.clock.ours = by
        harness.clock.tell(ahead(by, answers))
        if rng.random() < 0.3:
            harness.restart()
        jobs += harness.work(rng.randrange(1, 12))
        harness.clock.ours, answers = 0, 0
        harness.clock.tell(ahead(0, 0))
        jobs += harness.work(rng.randrange(10, 20))
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)


def undated(answer: int) -> None:
    """No answer has a Date."""
    return


@pytest.mark.slow
@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("step", [0, 2 * HOUR, -2 * HOUR, 100 * YEAR, -20 * YEAR], ids=str)
def test_an_api_that_tells_no_time_is_counted_by_our_clock(
    harness: ClockedHarness, step: int, restart: bool
) -> None:
    """From the very first answer on; where ours is set meanwhile, what passed and records outvote it."""
    harness.history()
    harness.clock.tell(undated)
    harness.idle(1)
    jobs = harness.work(30)
    if restart:
        harness.restart()
        harness.idle(1)
    harness.clock.ours = step
    jobs += harness.work(30)
    assert harness.created() == jobs
    harness.clock.ours = 0
    jobs += harness.work(20)
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)
    assert harness.view.skipped_ms == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frozen", "ours"),
    [(0, RIGHT), (0, AHEAD), (0, BEHIND), (2 * HOUR, RIGHT), (2 * HOUR, AHEAD)],
    ids=["right", "ours-ahead", "ours-behind", "earlier", "earlier-ours-ahead"],
)
def test_a_date_that_never_changes_does_not_end_the_counting(
    harness: ClockedHarness, frozen: int, ours: int
) -> None:
    """Reads reach a few minutes beyond it, until a record there shows that it is not now."""
    harness.history()
    since = harness.clock.ms - frozen
    harness.clock.tell(lambda answer: since - harness.clock.ms)
    harness.clock.ours = ours
    harness.idle(1)
    jobs = harness.work(60)
    harness.restart()
    jobs += harness.work(30)
    harness.idle(60)
    assert harness.counted() == (jobs, jobs, 0)


@pytest.mark.parametrize("ours", [-2 * HOUR, -5 * MINUTE], ids=str)
def test_a_slow_clock_alone_counts_no_job_that_had_ended(harness: ClockedHarness, ours: int) -> None:
    """A baseline two hours early would count the jobs of two hours before."""
    harness.history()
    harness.clock.tell(undated)
    harness.clock.ours = ours
    harness.idle(1)
    jobs = harness.work(30)
    harness.clock.ours = 0
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)


@pytest.mark.parametrize("without", [4, 6, 8])
def test_a_few_answers_without_a_date_do_not_count(harness: ClockedHarness, without: int) -> None:
    """Ours is ahead: by it, open jobs would be checked, and new ones looked for, hours from now."""
    harness.history()
    harness.clock.ours = AHEAD
    harness.idle(1)
    jobs = harness.work(20)
    harness.api.create()
    harness.idle(2)
    harness.restart()
    harness.clock.tell(lambda answer: None if answer < without else 0)
    jobs += harness.work(10) + 1
    harness.api.finish("job-000050")
    jobs += harness.work(30)
    harness.idle(2)
    assert harness.counted() == (jobs, jobs, 0)


@pytest.mark.slow
@pytest.mark.parametrize("jump", [2 * MINUTE, 10 * MINUTE, HOUR], ids=str)
@pytest.mark.parametrize("share", [1, 3], ids=["none-has-a-time", "one-of-three-has-none"])
def test_undated_records_are_counted_once_when_the_clock_jumps(
    harness: ClockedHarness, jump: int, share: int
) -> None:
    """Dated by a time that is believed too early, one would be forgotten while it may be listed again."""
    dated = harness.api.answer

    def hide_times(query: JobsQuery, page: Page) -> Page:
        page = dated(query, page)
        records = (
            replace(record, create_time=None) if int(record.job_id[4:]) % share == 0 else record
            for record in page.records
            if record.job_id is not None
        )
        return Page(tuple(records), page.count)

    harness.history()
    harness.idle(1)
    jobs = harness.work(20)
    harness.api.answer = hide_times
    for _ in range(3):
        harness.clock.ms += jump
        harness.clock.slept += jump
        harness.clock.ours -= jump
        jobs += harness.work(30)
    harness.later()
    assert harness.counted() == (jobs, jobs, 0)


def test_a_suspended_machine_recovers_without_a_date(harness: ClockedHarness) -> None:
    """The monotonic clock stood still, and ours did not: the records that it leads to confirm it."""
    harness.clock.tell(undated)
    harness.idle(1)
    jobs = harness.work(20)
    harness.clock.ms += HOUR
    harness.clock.slept += HOUR
    jobs += harness.work(20)
    harness.idle(20)
    assert settled_behind(harness) < 15 * MINUTE
    assert harness.counted() == (jobs, jobs, 0)


def test_a_missing_date_is_said_once_and_taken_back_once(
    harness: ClockedHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """A line per change, not per poll."""
    caplog.set_level("INFO")
    harness.clock.tell(undated)
    harness.idle(20)
    harness.clock.tell(ahead(0, 0))
    harness.idle(20)
    said = [record.getMessage() for record in caplog.records if "Date header" in record.getMessage()]
    assert [text.split()[4] for text in said] == ["no", "a"]
