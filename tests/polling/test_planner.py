"""The planner against brute force, and the index of due jobs against its definition.

Rule R9 stands in docs/counting.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import product
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.ledger.job_index import MISSED_IN_LISTING, Job, JobIndex
from exporter.ledger.ledger import Ledger
from exporter.ledger.minutes import MinuteTable
from exporter.ledger.sighting import WINDOW_MARGIN
from exporter.ledger.totals import LabelSets, Totals
from exporter.ledger.watermarks import Watermarks
from exporter.polling import planner
from exporter.polling.due import Recheck, RecordCounts, due_rechecks
from testkit.world import MINUTE, SECOND, START
from tests.fake_api import ledger_settings


def recheck(second: int, *, listing_only: bool = False, seen: int = 0, job_id: str = "") -> Recheck:
    return Recheck(second * SECOND, (second + 1) * SECOND, job_id or f"j{second}", listing_only, seen)


def counter(created: list[int]) -> Callable[[int], float]:
    """Exact counts of records created at these seconds."""
    stamps = sorted(second * SECOND for second in created)
    return lambda time: float(bisect_left(stamps, time))


def cost(rechecks: planner.RecheckPlan, before: Callable[[int], float]) -> float:
    """Requests that a plan takes when the counts are true."""
    windows = (
        before(window.until + SECOND) - before(window.since - WINDOW_MARGIN) for window in rechecks.windows
    )
    return sum(planner.pages(records) for records in windows) + len(rechecks.lookups)


def brute_force(due: list[Recheck], before: Callable[[int], float]) -> float:
    """Every way to cut the jobs into lookups and listed stretches; stretches may not be cut in a second."""
    best = inf
    for cuts in product((False, True), repeat=len(due) - 1):
        groups = [[due[0]]]
        for cut, job in zip(cuts, due[1:], strict=True):
            if cut:
                groups.append([job])
            else:
                groups[-1].append(job)
        total = 0.0
        for group in groups:
            until = max(recheck.until for recheck in group)
            listed = planner.pages(before(until + SECOND) - before(group[0].since - WINDOW_MARGIN))
            single = inf if len(group) > 1 or group[0].listing_only else 1
            total += min(listed, single)
        best = min(best, total)
    return best


SECONDS = st.integers(0, 60)
RECORDS = st.lists(st.tuples(SECONDS, st.integers(1, 60)), max_size=12)
DUE = st.lists(st.tuples(SECONDS, st.booleans()), min_size=1, max_size=9)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(RECORDS, DUE, st.floats(0.1, 1.0))
def test_no_mix_of_stretches_and_lookups_is_cheaper(
    records: list[tuple[int, int]], jobs: list[tuple[int, bool]], few_unlistable: float
) -> None:
    """On small cases the plan costs exactly what the best of all possible plans costs."""
    created = [second for second, count in records for _ in range(count)] + [second for second, _ in jobs]
    due = [
        recheck(second, listing_only=only and few_unlistable < 0.5, job_id=f"j{number}")
        for number, (second, only) in enumerate(sorted(jobs))
    ]
    before = counter(created)
    rechecks = planner.plan_rechecks(due, before, slack=0.0)
    assert cost(rechecks, before) == brute_force(due, before)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(RECORDS, DUE)
def test_everything_due_is_rechecked_once(
    records: list[tuple[int, int]], jobs: list[tuple[int, bool]]
) -> None:
    """Every job is in a stretch or looked up, never both; none that needs a listing is."""
    created = [second for second, count in records for _ in range(count)] + [second for second, _ in jobs]
    due = [
        recheck(second, listing_only=only, job_id=f"j{number}")
        for number, (second, only) in enumerate(sorted(jobs))
    ]
    rechecks = planner.plan_rechecks(due, counter(created))
    looked_up = {job.job_id for job in rechecks.lookups}
    for job in due:
        listed = any(window.since <= job.since < window.until for window in rechecks.windows)
        assert listed != (job.job_id in looked_up)
        assert listed or not job.listing_only


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(RECORDS, DUE, st.lists(st.tuples(SECONDS, st.integers(2, 30)), min_size=1, max_size=3))
def test_stretches_that_overlap_are_planned_at_least_cost(
    records: list[tuple[int, int]], jobs: list[tuple[int, bool]], stretches: list[tuple[int, int]]
) -> None:
    """A stretch is listed whole, and what lies within it is listed with it for nothing."""
    created = [second for second, count in records for _ in range(count)] + [second for second, _ in jobs]
    due = [recheck(second, listing_only=only) for second, only in jobs[:6]]
    due += [Recheck(second * SECOND, (second + long) * SECOND, "", True) for second, long in stretches]
    due.sort()
    before = counter(created)
    rechecks = planner.plan_rechecks(due, before, slack=0.0)
    assert cost(rechecks, before) == brute_force(due, before)
    for stretch in (one for one in due if not one.job_id):
        assert any(w.since <= stretch.since and stretch.until <= w.until for w in rechecks.windows)


def test_the_worked_example_of_the_plan_is_true() -> None:
    """From A to B there are 60 records: they are listed together. C, 5,000 records later, is looked up."""
    a, b, c = (recheck(second, job_id=name) for name, second in (("A", 10), ("B", 20), ("C", 2000)))
    from_a_to_b, later = [10 + n % 11 for n in range(60)], [100 + n // 4 for n in range(5000)]
    before = counter(from_a_to_b + later)
    rechecks = planner.plan_rechecks([a, b, c], before)
    assert rechecks.windows == (planner.Window(a.since, b.until),)
    assert rechecks.lookups == (c,)


def test_a_listed_stretch_takes_the_due_jobs_beside_it_along() -> None:
    """The head is listed anyway: a job next to it costs nothing more."""
    head = Recheck(100 * SECOND, 110 * SECOND, "", listing_only=True)
    rechecks = planner.plan_rechecks([recheck(95), head], counter([95, 100, 105]))
    assert rechecks.steps == (planner.Window(95 * SECOND, 110 * SECOND),)


@given(RECORDS, SECONDS, st.integers(1, 30), SECONDS)
def test_a_listed_stretch_is_widened_to_fill_its_pages(
    records: list[tuple[int, int]], since: int, long: int, reach: int
) -> None:
    """Never another request, never beyond what is known; and no more than a second short of either."""
    before = counter([second for second, count in records for _ in range(count)])
    window = planner.Window(since * SECOND, (since + long) * SECOND)
    wide = planner.widened(window, before, reach * SECOND)
    assert wide.until == window.until
    assert min(reach * SECOND, window.since) <= wide.since <= window.since

    def held(since: int) -> float:
        return before(window.until + SECOND) - before(since - WINDOW_MARGIN)

    size = planner.pages(held(window.since) + planner.SLACK)
    assert wide == window or planner.pages(held(wide.since) + planner.SLACK) == size
    room = size * 99 - planner.SLACK - 9
    assert wide.since <= reach * SECOND or wide == window or held(wide.since - SECOND) > room


def test_what_waited_longest_comes_first() -> None:
    """When the budget ends, the others have waited less."""
    dense = [second for second in range(60) for _ in range(90)]
    due = [recheck(10, seen=5), recheck(20, seen=3), recheck(30, seen=4)]
    rechecks = planner.plan_rechecks(due, counter([*dense, *dense]))
    assert [job.seen for job in rechecks.lookups] == [3, 4, 5]
    due = [recheck(second, seen=-second, listing_only=True) for second in (10, 20, 30)]
    rechecks = planner.plan_rechecks(due, counter(dense * 9))
    assert [window.since // SECOND for window in rechecks.windows] == [30, 20, 10]


def test_thousands_of_due_jobs_are_planned_in_bounded_windows() -> None:
    """No window is cut larger than the reader takes."""
    created = [second for second in range(3000) for _ in range(7)]
    due = [recheck(second, job_id=f"j{second}") for second in range(3000)]
    rechecks = planner.plan_rechecks(due, counter(created))
    sizes = [7 * (window.until - window.since) // SECOND for window in rechecks.windows]
    assert max(sizes) <= planner.MOST_PAGES * 100
    assert cost(rechecks, counter(created)) <= 21_000 / 99 * 1.1


def ledger_of(jobs: dict[str, Job]) -> Ledger:
    return Ledger(
        ledger_settings(),
        watermarks=Watermarks.start(START),
        jobs=JobIndex(jobs),
        totals=Totals(),
        label_sets=LabelSets((), (), 100),
        minutes=MinuteTable(),
    )


def job(created: int, last_checked: int) -> Job:
    return Job(created, "WAITING", "ASYNC_JOB", "TTS_LLM", last_checked=last_checked)


@pytest.mark.parametrize(
    ("records", "before", "after"),
    [
        pytest.param({}, 30, 30, id="nobody-else-for-an-hour"),
        pytest.param({-3: 40}, 30, 30, id="some-within-half-an-hour"),
        pytest.param({-3: 40, 7: 30}, 6, 6, id="as-many-as-half-a-page-holds"),
        pytest.param({-40: 40}, 30, 30, id="others-too-far"),
    ],
)
def test_a_missing_job_is_listed_with_a_page_around_it(
    records: dict[int, int], before: int, after: int
) -> None:
    """An answer that shows others, but not this job, proves something; an empty one does not."""
    missed = job(START + 90 * MINUTE + 30 * SECOND, START + 91 * MINUTE)
    missed.misses, missed.flags = 1, MISSED_IN_LISTING
    ledger = ledger_of({"missed": missed})
    for minute, number in records.items():
        ledger.minutes.load([(START // MINUTE + 90 + minute, ("ASYNC_JOB", "TTS_LLM", "SUCCEED"), number)])
    (due,) = due_rechecks(ledger, START + 200 * MINUTE)
    assert due.listing_only
    assert due.since == START + (90 - before) * MINUTE
    assert due.until == START + (91 + after) * MINUTE


def test_in_a_busy_minute_a_missing_job_is_listed_in_seconds() -> None:
    """A whole minute would take many pages; and nothing later than now, or before the known, is asked for."""
    missed = job(START + 90 * MINUTE + 30 * SECOND, START + 91 * MINUTE)
    missed.misses = 1
    ledger = ledger_of({"missed": missed})
    ledger.minutes.load([(START // MINUTE + 90, ("ASYNC_JOB", "TTS_LLM", "SUCCEED"), 599)])
    (due,) = due_rechecks(ledger, START + 200 * MINUTE)
    assert (due.since - missed.created, due.until - missed.created) == (-3 * SECOND, 2 * SECOND)
    fresh = job(START + 30 * SECOND, START + 30 * SECOND)
    fresh.misses = 1
    (due,) = due_rechecks(ledger_of({"missed": fresh}), START + 50 * SECOND)
    assert (due.since, due.until) == (START, START + 50 * SECOND)


@given(st.integers(0, 26 * 60 * MINUTE), st.integers(0, 26 * 60 * MINUTE), st.integers(1, 120))
def test_jobs_are_due_near_their_spacing_or_past_a_deadline(age: int, unseen: int, interval: int) -> None:
    """The time computed ahead is the first at which the definition of R9 holds."""
    some, step, limit = job(START, START + age - min(age, unseen)), interval * SECOND, 24 * 60 * MINUTE

    def is_due(now: int) -> bool:
        waited = now - max(some.last_checked, some.created)
        passed = some.last_checked < some.created + limit <= now
        return waited >= some.spacing(now, step) - step // 2 or passed

    at = some.due_at(step, limit)
    assert is_due(at)
    assert not is_due(at - 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), min_size=1, max_size=30),
    st.lists(st.integers(1, 400), min_size=1, max_size=12),
)
def test_the_index_finds_what_a_walk_over_all_jobs_would(
    stamps: list[tuple[int, int]], steps: list[int]
) -> None:
    """At every poll exactly the open jobs that are due, whatever rechecks came between."""
    jobs = {
        f"j{number}": job(START + created * SECOND, START + (created + last_checked) * SECOND)
        for number, (created, last_checked) in enumerate(stamps)
    }
    ledger, now = ledger_of(jobs), START
    step, limit = ledger.settings.interval, ledger.settings.max_job_age
    for turn, seconds in enumerate(steps):
        now += seconds * SECOND
        expected = {job_id for job_id, job in jobs.items() if job.open and job.due_at(step, limit) <= now}
        found = due_rechecks(ledger, now)
        assert {due.job_id for due in found} == expected
        for due in found[turn % 2 :: 2]:
            jobs[due.job_id].last_checked = now
        for due in found[turn % 3 :: 7]:
            if jobs[due.job_id].open:
                ledger.jobs.close(due.job_id, jobs[due.job_id], "SUCCEED")


def test_of_too_many_due_jobs_the_longest_unseen_are_taken() -> None:
    """Carried to the next poll, not lost."""
    jobs = {f"j{number}": job(START, START + number * SECOND) for number in range(50)}
    ledger, now = ledger_of(jobs), START + 60 * MINUTE
    first = due_rechecks(ledger, now, most=20)
    assert {due.job_id for due in first} == {f"j{number}" for number in range(20)}
    for due in first:
        jobs[due.job_id].last_checked = now
    assert {due.job_id for due in due_rechecks(ledger, now, most=20)} == {f"j{n}" for n in range(20, 40)}


@pytest.mark.parametrize(
    ("since", "until", "records"),
    [(0, 60, 60), (0, 30, 30), (60, 90, 60), (90, 100, 20), (30, 100, 110)],
    ids=["minute", "half", "newest-minute", "beyond", "across"],
)
def test_records_are_counted_to_the_head_then_estimated(since: int, until: int, records: int) -> None:
    """The newest minute is read in part: its jobs lie before the head."""
    begin = START // MINUTE * MINUTE
    jobs = {
        f"j{number}": job(begin + (number if number < 60 else 60 + (number - 60) // 2) * SECOND, begin)
        for number in range(120)
    }
    counts = RecordCounts(ledger_of(jobs), begin, begin + 90 * SECOND, 2 / SECOND)
    assert counts(begin + since * SECOND, begin + until * SECOND) == pytest.approx(records)


def test_remembered_records_are_counted_to_the_second() -> None:
    """A burst in one second of a minute is where it is; of older ones only the minute is known."""
    begin = START // MINUTE * MINUTE
    burst = {f"j{number}": job(begin + number % 2 * MINUTE + 10 * SECOND, begin) for number in range(120)}
    ledger = ledger_of(burst)
    ledger.watermarks.evicted_until = begin + MINUTE
    counts = RecordCounts(ledger, begin, begin + 2 * MINUTE, 0.0)
    seconds = (30, 60, 70, 71, 120)
    assert [counts(begin, begin + second * SECOND) for second in seconds] == [30, 60, 60, 120, 120]


@pytest.mark.parametrize(("records", "span"), [(None, 50), (900, 50), (2_000, 42), (85_000, 1)])
def test_a_window_that_failed_is_followed_by_a_smaller_one(records: int | None, span: int) -> None:
    """Half as long; or, where it is known to hold too many records, as long as holds what fits."""
    density = planner.Density(overlap=300_000)
    density.shrink(planner.Window(0, 100_000), records)
    assert density.span(planner.MANY) == span * 1000


def test_a_settle_window_ends_before_it_overflows() -> None:
    """One page holds what is known of it, and the reading moves on even where one second is too much."""
    late = START + 10 * MINUTE
    sparse = {f"j{number}": job(START + number * SECOND, START) for number in range(120)}
    density = planner.Density(overlap=5 * MINUTE)
    window = planner.settle_window(ledger_of(sparse), density, START, late, late, 1_000, lagging=False)
    assert window == planner.Window(START, START + 95 * SECOND)
    dense = {f"j{number}": job(START, START) for number in range(1_100)}
    window = planner.settle_window(ledger_of(dense), density, START, late, late, 1_000, lagging=False)
    assert window == planner.Window(START, START + SECOND)


def test_a_dense_settle_window_fills_its_pages() -> None:
    """Nine pages hold 892 records: what is known to the second is cut for all of them but a few."""
    late = START + 10 * MINUTE
    busy = {f"j{number}": job(START + number * SECOND // 12, START) for number in range(2_000)}
    window = planner.settle_window(
        ledger_of(busy), planner.Density(5 * MINUTE), START, late, late, 1_000, lagging=False
    )
    assert window is not None
    listed = (window.until + SECOND - START) * 12 // SECOND
    assert planner.pages(listed) == planner.MOST_PAGES
    assert planner.FULL - listed < 3 * 12


def test_a_head_read_of_several_pages_ends_a_second_before_now() -> None:
    """What appears between two pages would shift them; a single page cannot shift and reaches beyond now."""
    jobs = {f"j{number}": job(START + number % 60 * SECOND, START) for number in range(300)}
    ledger, density = ledger_of(jobs), planner.Density(overlap=5 * MINUTE)
    head, now = START + 60 * SECOND, START + 75 * SECOND + 1
    due = [recheck(START // SECOND + second, listing_only=True) for second in range(0, 60, 10)]
    assert planner.head_window(ledger, density, head, now, due, 0).until == START + 74 * SECOND
    assert planner.head_window(ledger, density, head, now, [], 0).until == START + 75 * SECOND + 5 * MINUTE
