"""R7 Outside (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from exporter.ledger.record import JobsQuery, Page
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness
from tests.polling.rules.support import run, started


def test_a_service_in_another_time_zone_is_refused_not_counted(harness: PollerHarness) -> None:
    """Recording whatever comes would count jobs that the next window shows again."""
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


def test_ignored_time_filters_are_noticed_before_counting(harness: PollerHarness) -> None:
    """The whole list in every window would count the past as new."""
    harness.api.time_filters_work = False
    for age in range(5):
        harness.api.create(harness.clock.ms - age * MINUTE)
    assert run(harness) == "failed"
    assert harness.created() == 0
    assert harness.view.gauges is None


def test_without_time_filters_the_whole_list_is_one_window(
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


def test_a_record_from_the_far_future_is_not_counted(harness: PollerHarness) -> None:
    """The newest of all records is what the list shows first, when any is asked for."""
    job = started(harness).api.create()
    run(harness, 4)
    harness.api.create(harness.clock.ms + 30 * 24 * 60 * MINUTE)
    del harness.api.jobs[job]
    run(harness, 40)
    assert any(query == JobsQuery(limit=1) for query in harness.api.queries)
    assert harness.created() == 1
