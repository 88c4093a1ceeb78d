"""The parts of a ledger: watermarks, totals, label sets, minutes, the index of jobs."""

from __future__ import annotations

import itertools
from operator import is_

from hypothesis import given
from hypothesis import strategies as st

from exporter.ledger.job_index import SLOT, Job, JobIndex
from exporter.ledger.minutes import IDS_MASK, MinuteTable, id_number
from exporter.ledger.stored import StoredLedger, open_ledger
from exporter.ledger.totals import LabelSets, Totals, histograms
from exporter.ledger.watermarks import Watermarks
from exporter.units import MINUTE, SECOND
from testkit.world import ledger_settings

SETTINGS = ledger_settings()
OVERLAP = 300 * SECOND
MOMENTS = st.integers(0, 10**9)
NAMES = st.sampled_from([f"name{number}" for number in range(8)])


@given(MOMENTS, st.lists(st.tuples(MOMENTS, MOMENTS)))
def test_the_three_times_never_go_back_and_keep_their_order(start: int, steps: list[tuple[int, int]]) -> None:
    """Whatever is claimed to be read, and whenever: nothing is settled before it is old enough."""
    watermarks = Watermarks.start(start)
    for until, now in steps:
        before = (watermarks.settled_until, watermarks.evicted_until)
        watermarks.settle(until - until % SECOND, now, OVERLAP)
        assert (watermarks.settled_until, watermarks.evicted_until) >= before
        assert watermarks.settled_until == before[0] or watermarks.settled_until <= now - OVERLAP
        assert watermarks.evicted_until <= watermarks.settled_until
        assert watermarks.settled_until % SECOND == watermarks.evicted_until % SECOND == 0


@given(st.lists(st.tuples(NAMES, NAMES), max_size=60), st.integers(1, 6))
def test_label_sets_never_exceed_their_limit(label_sets: list[tuple[str, str]], limit: int) -> None:
    """First come, first served; a label set keeps what it got, also over a restart."""
    labels = LabelSets((), (), limit)
    fitted = {label_set: labels.fit(label_set) for label_set in label_sets}
    assert len([label_set for label_set in labels.known if label_set != ("other", "other")]) <= limit
    assert all(labels.fit(label_set) == got for label_set, got in fitted.items())
    assert all(got in (label_set, ("other", "other")) for label_set, got in fitted.items())
    again = LabelSets((), labels.known, limit)
    assert {label_set: again.fit(label_set) for label_set in label_sets} == fitted


def test_a_label_set_that_was_seen_stays_so_over_a_restart() -> None:
    """Documented ones, too, and those of stores that only have totals of them."""
    documented = (("a", "b"), ("c", "d"), ("e", "f"))
    labels = LabelSets(documented, (), 10)
    assert labels.seen == ()
    for label_set in (("c", "d"), ("x", "y"), ("c", "d")):
        assert labels.fit(label_set) == label_set
    assert labels.seen == tuple(labels.added) == (("c", "d"), ("x", "y"))
    stored = StoredLedger(label_sets=tuple(labels.added), totals={("created", "e", "f", ""): 1})
    again = open_ledger(stored, SETTINGS, documented).label_sets
    assert again.known == (*documented, ("x", "y"))
    assert again.seen == (("c", "d"), ("e", "f"), ("x", "y"))


@given(st.lists(st.integers(0, 200)), st.lists(st.integers(1, 150), min_size=1, unique=True).map(sorted))
def test_a_histogram_counts_every_value_once_in_its_bucket(values: list[int], edges: list[int]) -> None:
    """Upper bounds are inclusive, as in Prometheus."""
    totals, bounds = Totals(), tuple(edges)
    for value in values:
        totals.observe("h", ("a", "b"), bounds, value)
    shown = histograms(totals.grouped()["h"], bounds)
    if values:
        counts = shown["a", "b"].counts
        below = [0, *(sum(value <= bound for value in values) for bound in bounds), len(values)]
        assert counts == tuple(after - before for before, after in itertools.pairwise(below))
        assert shown["a", "b"].sum == sum(values)


def test_targets_share_the_keys_of_their_totals() -> None:
    """Hundreds of targets have the same thousand keys: each is one object, whoever counts first."""
    one, other = Totals(), Totals()
    for totals in (one, other):
        totals.add("created", ("a", "b"))
        totals.observe("h", ("a", "b"), (1, 2), 5)
    assert one.values == {("created", "a", "b", ""): 1, ("h", "a", "b", "+Inf"): 1, ("h", "a", "b", "sum"): 5}
    assert all(map(is_, one.values, other.values))


def test_minutes_are_kept_as_long_as_they_are_asked_for() -> None:
    """And what is pending is added up for one commit."""
    minutes = MinuteTable()
    for minute in (1, 1, 2, 3):
        minutes.add(minute * MINUTE + 5, ("a", "b"), "SUCCEED", "", 7)
    assert minutes.pending[1, "a", "b", "SUCCEED", ""] == (2, 14)
    assert minutes.since(2 * MINUTE) == {("a", "b", "SUCCEED"): 2}
    minutes.prune(3 * MINUTE, 2 * MINUTE)
    assert minutes.since(0) == {("a", "b", "SUCCEED"): 1}
    assert [minutes.density(minute) for minute in range(5)] == [0, 0, 1, 1, 0]


def test_sums_of_ids_name_the_job_that_is_missing() -> None:
    """Those of one commit, in any order; a job without an id has no part in them."""
    minutes, key = MinuteTable(), (0, "a", "b", "SUCCEED", "")
    for job_id in ("x", None, "y", "z"):
        minutes.add(5, ("a", "b"), "SUCCEED", "", 7, job_id)
    assert (minutes.pending_ids[key] - id_number("x") - id_number("z")) & IDS_MASK == id_number("y")
    minutes.committed()
    assert (minutes.pending, minutes.pending_ids) == ({}, {})


@given(st.lists(st.tuples(st.integers(0, 5 * MINUTE), st.booleans())), MOMENTS, MOMENTS)
def test_the_index_finds_what_a_walk_over_all_jobs_would_find(
    jobs: list[tuple[int, bool]], one: int, other: int
) -> None:
    """By minute of creation, for any stretch of time."""
    since, until = sorted((one % (6 * MINUTE), other % (6 * MINUTE)))
    index = JobIndex()
    for number, (created, is_open) in enumerate(jobs):
        index.add(f"{number}", Job(created, "WAITING" if is_open else "SUCCEED", "a", "b"))
    found = {name for name, _ in index.created_in(since, until)}
    assert found == {f"{n}" for n, (created, _) in enumerate(jobs) if since <= created < until}
    assert index.open_count == sum(is_open for _, is_open in jobs)
    oldest = min((created for created, _ in jobs), default=7 * MINUTE)
    assert oldest - SLOT < index.since(7 * MINUTE) <= oldest
    index.evict_finals(since, until)
    assert {name for name, _ in index.created_in(since, until)} == {n for n in found if jobs[int(n)][1]}
