"""R1 Record (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

from tests.fake_api import PollerHarness
from tests.polling.rules.support import run, started


def test_a_job_in_every_poll_is_created_and_finished_once(harness: PollerHarness) -> None:
    """Recounting the window at every poll would count it forty times."""
    job = started(harness).api.create()
    run(harness, 20)
    harness.api.finish(job)
    run(harness, 20)
    assert (harness.created(), harness.finished("SUCCEED"), harness.open()) == (1, 1, 0)


def test_a_finished_job_that_goes_back_stays_finished(harness: PollerHarness) -> None:
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


def test_each_event_counts_under_the_labels_shown_with_it(harness: PollerHarness) -> None:
    """Rewriting history would make a counter go back."""
    job = started(harness).api.create(job_type="AUDITION")
    run(harness)
    harness.api.change(job, job_type="WEBSOCKET", job_state="SUCCEED")
    run(harness)
    assert harness.view.created["AUDITION", "TTS_LLM"] == 1
    assert harness.view.finished["WEBSOCKET", "TTS_LLM", "SUCCEED"] == 1
    assert harness.view.anomalies["label_changed"] == 1
    assert harness.balanced()


def test_text_length_is_counted_at_the_first_record_that_has_it(harness: PollerHarness) -> None:
    """Recording it only at creation would lose the text of jobs whose length comes later."""
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


def test_two_equal_records_without_an_id_are_two_jobs(harness: PollerHarness) -> None:
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
