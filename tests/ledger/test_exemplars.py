"""The latest job behind a failure or a duration, from the record to what is published."""

from __future__ import annotations

import gc

from msgspec.structs import replace

from exporter.failures import BUILTIN_RULES, Classifier
from exporter.ledger.exemplars import Exemplars
from exporter.ledger.job_index import JobIndex
from exporter.ledger.ledger import Ledger
from exporter.ledger.minutes import MinuteTable
from exporter.ledger.record import FAILED, PROCESSING, SUCCEED, Record
from exporter.ledger.sighting import Sighting
from exporter.ledger.totals import (
    DURATION_LOWER,
    DURATION_UPPER,
    FAILURES,
    Exemplar,
    Histogram,
    LabelSets,
    Totals,
    histograms,
)
from exporter.ledger.watermarks import Watermarks
from testkit.world import ledger_settings

SECOND = 1000
START = 1_700_000_000_000
LABEL_SET = ("ASYNC_JOB", "TTS_LLM")
BUCKETS = (5 * SECOND, 60 * SECOND)


def ledger() -> Ledger:
    settings = replace(
        ledger_settings(), duration_buckets=BUCKETS, classify=Classifier(BUILTIN_RULES).classify
    )
    made = Ledger(
        settings,
        watermarks=None,
        jobs=JobIndex(),
        totals=Totals(),
        label_sets=LabelSets((LABEL_SET,), (), 100),
        minutes=MinuteTable(),
    )
    made.start(START)
    assert isinstance(made.watermarks, Watermarks)
    return made


def see(counted: Ledger, job_id: str | None, state: str, at: int, created: int = START) -> None:
    """The job as one answer, ``at`` seconds after the start, shows it."""
    record = Record(job_id, created, state, *LABEL_SET, text_length=10)
    begun = START + at * SECOND
    name = job_id or "\x00anonymous"
    counted.see_as(
        name, record, Sighting(begun=begun, ended=begun + 500, since=START, until=START + 60 * SECOND)
    )


def test_a_failure_points_to_the_latest_job_of_its_class() -> None:
    """The second failure of a class takes the place of the first."""
    counted = ledger()
    see(counted, "first", FAILED, 1)
    see(counted, "second", FAILED, 2)
    expected = {(*LABEL_SET, "no_message"): Exemplar("second", 1, START + 2_500)}
    assert counted.exemplars.of(FAILURES) == expected


def test_a_job_is_behind_the_buckets_it_was_counted_in() -> None:
    """Upper and lower bound apart, each with its own value, in milliseconds."""
    counted = ledger()
    see(counted, "job", PROCESSING, 4)
    see(counted, "job", SUCCEED, 8)
    at = START + 8_500
    assert counted.exemplars.of(DURATION_UPPER) == {(*LABEL_SET, "60000"): Exemplar("job", 8_500, at)}
    assert counted.exemplars.of(DURATION_LOWER) == {(*LABEL_SET, "5000"): Exemplar("job", 4_000, at)}


def test_what_is_not_counted_has_no_exemplar() -> None:
    """Seen again, seen too late for a duration, or without an id that could be looked up."""
    counted = ledger()
    see(counted, "job", FAILED, 1)
    see(counted, "job", FAILED, 9)
    see(counted, None, FAILED, 9)
    see(counted, "late", SUCCEED, 3_000)
    assert [found.job_id for found in counted.exemplars.of(FAILURES).values()] == ["job"]
    assert counted.exemplars.of(FAILURES)[(*LABEL_SET, "no_message")].at == START + 1_500
    assert counted.exemplars.of(DURATION_UPPER) == {}


def test_histograms_carry_them_by_place() -> None:
    """Places are those of the counts; a bucket that is no longer configured shows none."""
    exemplar = Exemplar("job", 70_000, START)
    values = {(*LABEL_SET, "5000"): 1, (*LABEL_SET, "+Inf"): 1, (*LABEL_SET, "sum"): 71_000}
    exemplars = {(*LABEL_SET, "+Inf"): exemplar, (*LABEL_SET, "777"): exemplar}
    expected = Histogram(BUCKETS, (1, 0, 1), 71_000, {2: exemplar})
    assert histograms(values, BUCKETS, exemplars) == {LABEL_SET: expected}


def test_what_is_handed_out_does_not_change_any_more() -> None:
    """It is published, and published state is immutable."""
    exemplars = Exemplars()
    exemplars.take(("failures", *LABEL_SET, "x"), "one", 1, START)
    before = exemplars.of("failures")
    exemplars.take(("failures", *LABEL_SET, "x"), "two", 1, START + 1)
    assert before == {(*LABEL_SET, "x"): Exemplar("one", 1, START)}


def test_python_searches_no_published_histogram_for_cycles() -> None:
    """Hundreds of targets have thousands of them."""
    shown = {(*LABEL_SET, "10"): Exemplar("job", 7, START)}
    found = histograms({(*LABEL_SET, "10"): 1, (*LABEL_SET, "sum"): 7}, (10,), shown)
    (histogram,) = found.values()
    assert histogram == Histogram((10,), (1, 0), 7, {0: Exemplar("job", 7, START)})
    assert not any(map(gc.is_tracked, (histogram, histogram.exemplars, *histogram.exemplars.values())))
