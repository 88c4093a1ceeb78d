"""R2 New (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

from msgspec.structs import replace

from exporter.ledger.record import JobsQuery, Page
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness
from tests.polling.rules.support import run, started


def test_a_record_listed_late_but_within_overlap_is_counted(harness: PollerHarness) -> None:
    """A plain high-water mark at the newest record seen would pass over it."""
    started(harness)
    late = harness.api.create()
    harness.api.appears[late] = harness.clock.ms + 4 * MINUTE
    harness.api.create(harness.clock.ms + 60 * SECOND)
    run(harness, 60)
    assert harness.created() == 2


def test_a_record_before_the_settled_time_is_counted_as_late(harness: PollerHarness) -> None:
    """Ignoring what is older than the settled time would lose it although it was read."""
    started(harness)
    run(harness, 40)
    assert harness.view.gauges is not None
    harness.api.create(harness.view.gauges.counted_until - 60 * SECOND)
    run(harness)
    assert harness.created() == 1
    assert harness.view.anomalies["late_record"] == 1


def test_an_old_unknown_record_is_not_new(harness: PollerHarness) -> None:
    """Counting every unknown id would count a forgotten job again."""
    job = started(harness).api.create()
    run(harness)
    harness.api.finish(job)
    run(harness, 120)
    old = harness.api.create(harness.clock.ms - 25 * MINUTE, job_id="stuck-elsewhere")
    harness.api.create(harness.clock.ms - 20 * MINUTE)
    run(harness, 20)
    assert old not in (job,)
    assert (harness.created(), harness.finished()) == (1, 1)


def test_a_record_without_a_creation_time_is_counted_once(harness: PollerHarness) -> None:
    """Dropping it would lose a job; dating it anew at every sighting would count it at every poll."""
    started(harness)
    job = harness.api.create()
    undated = harness.api.answer

    def hide_time(query: JobsQuery, page: Page) -> Page:
        page = undated(query, page)
        return Page(tuple(replace(record, create_time=None) for record in page.records), page.count)

    harness.api.answer = hide_time
    run(harness, 50)
    harness.api.finish(job)
    run(harness, 50)
    assert (harness.created(), harness.finished()) == (1, 1)
    assert harness.view.anomalies["bad_create_time"] == 1
