"""The ledger: what a sighting counts, what a miss does, what is evicted."""

from __future__ import annotations

import pytest

from exporter.ledger.anonymous import identify_anonymous
from exporter.ledger.gauges import job_gauges
from exporter.ledger.missing import MissedBy
from exporter.ledger.record import Anomaly
from exporter.ledger.totals import (
    ANOMALIES,
    CREATED,
    DURATION_LOWER,
    DURATION_UPPER,
    EXPIRATIONS,
    FAILURES,
    FINISHED,
    FOLDED,
    SKIPPED_MS,
    TEXT_LENGTH,
)
from testkit.world import MINUTE, SECOND, START
from tests.fake_api import ledger_settings
from tests.ledger.support import LABEL_SET, new_ledger, record, reopened, sighting

NOW = START + MINUTE


def test_a_job_seen_finished_at_first_is_created_and_finished() -> None:
    """Most jobs are: they end between two polls."""
    ledger = new_ledger()
    ledger.see(record(state="FAILED", fail_msg="boom"), sighting(NOW))
    assert ledger.totals.sum(CREATED) == ledger.totals.sum(FINISHED) == 1
    assert ledger.totals.by_detail(FAILURES) == {"boom": 1}
    assert ledger.imbalance() == 0


@pytest.mark.parametrize(
    ("shown", "anomaly"),
    [
        pytest.param(record(state="unknown"), Anomaly.UNKNOWN_STATE, id="state"),
        pytest.param(record(text_length=None), Anomaly.MISSING_TEXT_LENGTH, id="length"),
        pytest.param(record(created=START - 2 * 3_600_000), Anomaly.OUTSIDE_WINDOW, id="outside"),
        pytest.param(record(malformed="abc"), Anomaly.MALFORMED_RECORD, id="malformed"),
    ],
)
def test_an_anomaly_is_counted_once_however_often_it_is_seen(shown: object, anomaly: Anomaly) -> None:
    """A record listed in every poll is one odd record, not hundreds."""
    ledger = new_ledger()
    for number in range(5):
        ledger.see(shown, sighting(NOW + number * SECOND))  # type: ignore[arg-type]  # a Record
    assert ledger.totals.plain(ANOMALIES, anomaly) == 1


def test_a_duration_lies_between_the_last_two_checks() -> None:
    """The API has no finish time."""
    ledger = new_ledger()
    ledger.see(record(), sighting(START + 8 * SECOND))
    ledger.see(record(state="SUCCEED"), sighting(START + 20 * SECOND))
    assert ledger.totals.values[DURATION_LOWER, *LABEL_SET, "sum"] == 8 * SECOND
    assert ledger.totals.values[DURATION_UPPER, *LABEL_SET, "sum"] == 20 * SECOND + 100


def test_a_job_that_was_checked_too_late_has_no_duration() -> None:
    """Our own outage would look like slowness of theirs."""
    ledger = new_ledger()
    ledger.see(record(), sighting(START + 8 * SECOND))
    ledger.see(record(state="SUCCEED"), sighting(START + 10 * MINUTE))
    assert ledger.totals.sum(FINISHED) == 1
    assert ledger.totals.sum(DURATION_UPPER) == 0


@pytest.mark.parametrize("state", ["WAITING", "SUCCEED"])
def test_a_job_given_up_as_not_listed_stays_so_over_a_restart(state: str) -> None:
    """Waiting for it anew would stop "settled until" for ever, and with it the memory."""
    ledger = new_ledger()
    ledger.see(record(state=state), sighting(NOW))
    ledger.see(record("b"), sighting(NOW))
    for check in range(12):
        ledger.missing_jobs.showed_something(NOW + check * 30 * SECOND)
        gone = ledger.miss("a", NOW + check * 30 * SECOND, MissedBy.LISTING)
    assert gone
    assert ledger.missing_jobs.blocking == {}
    again = reopened(ledger)
    assert again.missing_jobs.blocking == {}
    assert again.missing(START, NOW, ["b"]) == []
    assert again.miss("a", NOW + 60 * MINUTE, MissedBy.LOOKUP)
    again.settle(NOW + 2 * MINUTE, NOW + 60 * MINUTE)
    assert again.watermarks.settled_until == NOW + 2 * MINUTE


def test_an_undated_job_that_is_gone_does_not_stop_settling() -> None:
    """No listing can miss it, as nobody knows its window: lookups alone must do, for an hour."""
    ledger = new_ledger()
    ledger.see(record(created=None), sighting(NOW, since=START))
    for check in range(11):
        at = NOW + (check + 1) * 5 * MINUTE
        ledger.missing_jobs.showed_something(at)
        assert ledger.missing(START, at, []) == []
        gone = ledger.miss("a", at, MissedBy.LOOKUP)
    assert gone
    ledger.settle(NOW + 2 * MINUTE, at + 5 * MINUTE)
    assert ledger.watermarks.settled_until == NOW + 2 * MINUTE
    assert ledger.totals.sum(EXPIRATIONS) == 0
    assert ledger.miss("a", NOW + 66 * MINUTE, MissedBy.LOOKUP)
    assert ledger.totals.by_detail(EXPIRATIONS) == {"vanished": 1}


def test_an_open_job_vanishes_only_by_answers_that_show_others() -> None:
    """A list that is empty now and then missed this one three times, and it succeeded later."""
    ledger = new_ledger()
    ledger.see(record(), sighting(NOW))
    for check in range(1, 100):
        at = NOW + check * 30 * SECOND
        ledger.missing_jobs.showed_something(at - 1)
        ledger.miss("a", at, MissedBy.EMPTY_LISTING)
    assert ledger.totals.sum(EXPIRATIONS) == 0
    # The first corroborated miss begins the count anew.
    for check in range(10):
        assert ledger.totals.sum(EXPIRATIONS) == 0
        ledger.miss("a", at + (check + 1) * 30 * SECOND, MissedBy.LOOKUP if check % 2 else MissedBy.LISTING)
    ledger.miss("a", at + 30 * SECOND + 5 * MINUTE, MissedBy.LISTING)
    assert ledger.totals.by_detail(EXPIRATIONS) == {"vanished": 1}


def test_an_open_job_vanishes_after_three_checks_not_after_two() -> None:
    """However far apart: the API may be wrong twice."""
    ledger = new_ledger()
    ledger.see(record(), sighting(NOW))
    for check in range(2):
        assert not ledger.miss("a", NOW + check * 60 * MINUTE, MissedBy.LISTING)
    assert ledger.totals.sum(EXPIRATIONS) == 0
    assert ledger.miss("a", NOW + 61 * MINUTE, MissedBy.LISTING)
    assert ledger.totals.by_detail(EXPIRATIONS) == {"vanished": 1}


def test_what_empty_answers_miss_vanishes_after_an_hour() -> None:
    """A lone job that was deleted has no neighbours: only time can show it."""
    ledger = new_ledger()
    ledger.see(record(), sighting(NOW))
    for check in range(4 * 60 + 1):
        assert ledger.totals.sum(EXPIRATIONS) == 0
        ledger.miss("a", NOW + check * 15 * SECOND, MissedBy.EMPTY_LISTING)
    assert ledger.totals.by_detail(EXPIRATIONS) == {"vanished": 1}


def test_an_hour_in_which_nobody_asked_makes_no_job_vanish() -> None:
    """Minutes of empty answers, an hour's downtime, some more empty answers: that is no hour without it."""
    ledger = new_ledger()
    ledger.see(record(), sighting(NOW))
    for check in range(40):
        ledger.miss("a", NOW + check * 15 * SECOND, MissedBy.LOOKUP if check % 2 else MissedBy.EMPTY_LISTING)
    for check in range(8):
        ledger.miss("a", NOW + 70 * MINUTE + check * 15 * SECOND, MissedBy.EMPTY_LISTING)
    assert ledger.totals.sum(EXPIRATIONS) == 0


def test_answers_far_apart_do_not_mean_an_empty_list() -> None:
    """Where polls are rare an empty answer and the next that is not lie far apart: such misses count."""
    ledger = new_ledger()
    for name in ("a", "b"):
        ledger.see(record(name, state="SUCCEED"), sighting(NOW))
    for check in range(3):
        at = NOW + (check + 1) * 4 * MINUTE
        gone = ledger.miss("a", at, MissedBy.LISTING if check else MissedBy.EMPTY_LISTING)
        ledger.missing_jobs.showed_something(at)
    assert gone
    ledger.settle(NOW + MINUTE, NOW + 20 * MINUTE)
    assert ledger.watermarks.settled_until == NOW + MINUTE


def test_a_missing_open_job_ends_to_block_before_it_vanishes() -> None:
    """What is settled may be read again when it is shown after all; a held time would stop all alerts."""
    ledger = new_ledger()
    ledger.see(record(), sighting(NOW))
    for check in range(11):
        at = NOW + check * 30 * SECOND
        ledger.missing_jobs.showed_something(at)
        gone = ledger.miss("a", at, MissedBy.EMPTY_LISTING)
    assert (gone, ledger.missing_jobs.take_exempt(), ledger.totals.sum(EXPIRATIONS)) == (True, ["a"], 0)
    ledger.settle(NOW + MINUTE, NOW + 20 * MINUTE)
    assert ledger.watermarks.settled_until == NOW + MINUTE
    assert ledger.missing(START, NOW + MINUTE, []) == ["a"]
    ledger.see(record(state="SUCCEED"), sighting(NOW + 20 * MINUTE))
    assert ledger.take_late()
    assert (ledger.totals.sum(FINISHED), ledger.totals.sum(EXPIRATIONS)) == (1, 0)


def test_a_check_that_missed_a_job_is_no_bound_of_its_duration() -> None:
    """It may have ended before that check: nobody saw it open then."""
    ledger = new_ledger()
    ledger.see(record(), sighting(START + 8 * SECOND))
    ledger.miss("a", START + 16 * SECOND, MissedBy.LOOKUP)
    ledger.see(record(state="SUCCEED"), sighting(START + 24 * SECOND))
    assert ledger.totals.values[DURATION_LOWER, *LABEL_SET, "sum"] == 0
    assert ledger.totals.values[DURATION_UPPER, *LABEL_SET, "sum"] == 24 * SECOND + 100


def test_one_bad_answer_after_an_empty_list_makes_no_job_vanish() -> None:
    """All the misses of ten minutes of empty answers are one; with one more spurious miss there are two, not
    three.
    """
    ledger = new_ledger()
    ledger.see(record(state="SUCCEED"), sighting(NOW))
    assert not ledger.miss("a", NOW + SECOND, MissedBy.EMPTY_LISTING)
    ledger.missing_jobs.showed_something(NOW + 2 * SECOND)
    for check in range(1, 40):
        assert not ledger.miss("a", NOW + check * 15 * SECOND, MissedBy.EMPTY_LISTING)
    ledger.see(record("b"), sighting(NOW + 11 * MINUTE))
    assert not ledger.miss("a", NOW + 11 * MINUTE + SECOND, MissedBy.EMPTY_LISTING)
    ledger.settle(NOW + 5 * MINUTE, NOW + 20 * MINUTE)
    assert ledger.watermarks.settled_until == START


def test_a_list_empty_since_the_first_miss_makes_no_job_vanish() -> None:
    """Also where polls are rare, and the list is empty for longer than the overlap."""
    ledger = new_ledger(ledger_settings(interval=30 * SECOND, overlap=MINUTE))
    ledger.see(record(), sighting(NOW))
    for check in range(3):
        assert not ledger.miss("a", NOW + check * 30 * SECOND, MissedBy.EMPTY_LISTING)
    ledger.missing_jobs.showed_something(NOW + 61 * SECOND)
    assert ledger.miss("a", NOW + 62 * SECOND, MissedBy.EMPTY_LISTING)


def test_a_counted_job_found_before_the_baseline_counts_once() -> None:
    """Its first record had no date."""
    ledger = new_ledger()
    ledger.see(record(created=None), sighting(NOW, since=START))
    ledger.see_history([record(created=START - SECOND)], START - MINUTE, sighting(NOW))
    assert (ledger.totals.sum(CREATED), ledger.imbalance()) == (1, 0)


def test_counting_begins_once() -> None:
    """A second baseline would leave out what lies between."""
    with pytest.raises(ValueError, match="baseline already"):
        new_ledger().start(NOW)


def test_what_was_reported_once_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rubbish under ever new names must not fill the memory."""
    monkeypatch.setattr("exporter.ledger.anomalies.LIMIT", 3)
    ledger = new_ledger()
    for digest in ("a", "b", "c", "d", "d", "a"):
        ledger.see(record(None, malformed=digest), sighting(NOW))
    assert ledger.totals.plain(ANOMALIES, Anomaly.MALFORMED_RECORD) == 5


def test_totals_that_do_not_balance_are_not_kept() -> None:
    """A defect must stop the counting, not spoil the store."""
    ledger = new_ledger()
    ledger.totals.add(CREATED, LABEL_SET)
    with pytest.raises(RuntimeError, match="is 1: wrong books"):
        ledger.changes()


def test_a_missing_job_blocks_settling_until_it_is_shown_again() -> None:
    """A window without a job that should be there was not complete."""
    ledger = new_ledger()
    ledger.see(record(state="SUCCEED"), sighting(NOW))
    assert not ledger.miss("a", NOW, MissedBy.LISTING)
    ledger.settle(NOW, NOW + 20 * MINUTE)
    assert ledger.watermarks.settled_until == START
    ledger.see(record(state="SUCCEED"), sighting(NOW + MINUTE))
    assert ledger.missing_jobs.take_shown_after_all()
    assert not ledger.missing_jobs.take_shown_after_all()
    ledger.settle(NOW, NOW + 20 * MINUTE)
    assert ledger.watermarks.settled_until == NOW


def test_an_expired_job_that_ends_after_all_is_a_regression() -> None:
    """It was counted as expired: counting it again would unbalance the totals."""
    ledger = new_ledger(ledger_settings(max_job_age=MINUTE))
    ledger.see(record(), sighting(START + 2 * MINUTE))
    assert ledger.totals.by_detail(EXPIRATIONS) == {"max_age": 1}
    ledger.see(record(state="SUCCEED"), sighting(START + 3 * MINUTE))
    assert (ledger.totals.sum(FINISHED), ledger.imbalance()) == (0, 0)
    assert ledger.totals.plain(ANOMALIES, Anomaly.STATE_REGRESSION) == 1


def test_a_job_is_missing_from_where_it_surely_had_begun() -> None:
    """The time of a check is a lower bound: one that is minutes low would make minutes of seconds."""
    ledger = new_ledger()
    ledger.see(record(), sighting(NOW))
    later = NOW + 20 * MINUTE
    ledger.miss("a", NOW, MissedBy.LISTING, now=later)
    for seconds in (10, 20, 299):
        ledger.miss("a", later + seconds * SECOND, MissedBy.LISTING)
    assert ledger.jobs.open_count == 1
    ledger.miss("a", later + 300 * SECOND, MissedBy.LISTING)
    assert ledger.jobs.open_count == 0


def test_the_first_check_that_misses_a_job_counts() -> None:
    """It began before the time it is measured from: not counted, it would block for ever."""
    ledger = new_ledger()
    ledger.see(record(state="SUCCEED"), sighting(NOW))
    ledger.miss("a", NOW, MissedBy.EMPTY_LISTING, now=NOW + SECOND)
    job = ledger.jobs.get("a")
    assert job is not None
    assert (job.misses, job.missing_since) == (1, NOW + SECOND)


def test_old_finished_jobs_are_evicted_and_open_ones_are_not() -> None:
    """Memory is bounded by what may still matter."""
    ledger = new_ledger()
    ledger.see(record("done", state="SUCCEED"), sighting(NOW))
    ledger.see(record("open"), sighting(NOW))
    ledger.settle(START + 30 * MINUTE, START + 60 * MINUTE)
    assert [name for name, _ in ledger.jobs.items()] == ["open"]
    assert ledger.changes().evicted == (("done", START),)
    ledger.see(record("done", state="SUCCEED"), sighting(START + 60 * MINUTE))
    assert ledger.totals.sum(CREATED) == 2


def test_a_jump_is_counted_in_milliseconds_and_made_once() -> None:
    """What is never read must be said."""
    ledger = new_ledger(ledger_settings(max_catch_up=60 * MINUTE))
    assert ledger.jump(START + 180 * MINUTE) == 120 * MINUTE
    assert ledger.totals.plain(SKIPPED_MS) == 120 * MINUTE
    assert ledger.jump(START + 180 * MINUTE) == 0


def test_other_buckets_start_one_histogram_anew() -> None:
    """Old counts under new bounds would be a wrong distribution."""
    ledger = new_ledger()
    ledger.see(record(), sighting(NOW))
    again = reopened(ledger, ledger_settings(text_length_buckets=(1, 2)))
    assert again.totals.sum(TEXT_LENGTH) == 0
    assert again.totals.sum(CREATED) == 1
    assert again.changes().totals == {key: None for key in ledger.totals.values if key[0] == TEXT_LENGTH}


def test_label_sets_beyond_the_limit_are_counted_as_other() -> None:
    """One series for each made-up label would be an attack on Prometheus."""
    ledger = new_ledger(ledger_settings(max_label_sets=2))
    for number in range(5):
        ledger.see(record(f"{number}", tts_service_enum=f"NEW_{number}"), sighting(NOW))
    assert ledger.label_sets.known == (LABEL_SET, ("ASYNC_JOB", "NEW_0"), ("other", "other"))
    assert ledger.totals.values[CREATED, "other", "other", ""] == 4
    assert ledger.totals.plain(FOLDED) == 4
    ledger.see(record("4", state="SUCCEED", tts_service_enum="NEW_0"), sighting(NOW))
    assert ledger.totals.values[FINISHED, "other", "other", "SUCCEED"] == 1


def test_the_gauges_show_what_is_open_and_since_when() -> None:
    """Present states, out of the same ledger."""
    ledger = new_ledger()
    assert job_gauges(ledger, NOW) is not None
    ledger.see(record("a", START + 5 * SECOND), sighting(NOW))
    ledger.see(record("b", START + 2 * SECOND), sighting(NOW))
    ledger.see(record("c", state="SUCCEED"), sighting(NOW))
    shown = job_gauges(ledger, NOW)
    assert shown is not None
    assert shown.open_jobs == {(*LABEL_SET, "WAITING"): 2}
    assert shown.oldest_open == {(*LABEL_SET, "WAITING"): START + 2 * SECOND}
    assert shown.jobs is None
    ledger.see_history([], START - 3_600_000, sighting(NOW))
    shown = job_gauges(ledger, NOW)
    assert shown is not None
    assert shown.jobs == {(*LABEL_SET, "WAITING"): 2, (*LABEL_SET, "SUCCEED"): 1}


def test_equal_records_without_an_id_are_counted_by_number() -> None:
    """Two equal ones cannot be distinguished, and need not be."""
    ledger = new_ledger()
    for states in (("WAITING", "WAITING"), ("WAITING", "SUCCEED"), ("SUCCEED", "WAITING"), ("SUCCEED",) * 2):
        for name, one in identify_anonymous([record(None, state=state) for state in states], ledger.jobs):
            ledger.see_as(name, one, sighting(NOW))
        assert ledger.imbalance() == 0
    assert (ledger.totals.sum(CREATED), ledger.totals.sum(FINISHED)) == (2, 2)
    assert ledger.totals.plain(ANOMALIES, Anomaly.MISSING_JOB_ID) == 2
