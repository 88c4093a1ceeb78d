"""Whatever the list API makes of its bounds and of fractions of seconds, jobs are counted once (R6, R7,
docs/counting.md).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from exporter.polling.planner import Window
from exporter.polling.poll_run import PollRun
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND
from tests.fake_api import PollerHarness

INCLUSIVE = pytest.mark.parametrize(
    ("since", "until"),
    [(True, True), (True, False), (False, True), (False, False)],
    ids=["both-inclusive", "until-exclusive", "since-exclusive", "both-exclusive"],
)
ROUNDINGS: dict[str, Callable[[int], int]] = {
    "whole-seconds": lambda ms: ms,
    "cut": lambda ms: ms // SECOND * SECOND,
    "rounded": lambda ms: (ms + SECOND // 2) // SECOND * SECOND,
    "rounded-up": lambda ms: -(-ms // SECOND) * SECOND,
}


class Traffic:
    """Jobs at random times, some listed late, some open for long, some in bursts of one second."""

    def __init__(self, harness: PollerHarness, rng: random.Random, rounding: str) -> None:
        self.harness, self.rng, self.rounding = harness, rng, rounding
        self.open: list[tuple[int, str]] = []

    def go_on(self, seconds: int) -> None:
        api, rng, now = self.harness.api, self.rng, self.harness.clock.ms
        for _ in range(rng.choice((0, 1, 2, 5, 9))):
            exact = now - rng.randrange(seconds * SECOND)
            if self.rounding == "whole-seconds":
                exact = exact // SECOND * SECOND
            for _ in range(rng.choice((1, 1, 1, 4))):
                job_id = api.create(ROUNDINGS[self.rounding](exact))
                api.exact[job_id] = exact
                if rng.random() < 0.2:
                    api.appears[job_id] = now + rng.randrange(100) * SECOND
                lasts = rng.choice((1, 30, 300, 3000))
                self.open.append((now + lasts * SECOND, job_id))
        for end, job_id in [one for one in self.open if one[0] <= now]:
            self.open.remove((end, job_id))
            api.finish(job_id, rng.choice(("SUCCEED", "FAILED")))


async def count(harness: PollerHarness, traffic: Traffic, polls: int) -> None:
    for _ in range(polls):
        await harness.poll()
        traffic.go_on(15)
    while traffic.open:
        await harness.poll(every=MINUTE)
        traffic.open = [(min(end, harness.clock.ms), job_id) for end, job_id in traffic.open]
        traffic.go_on(15)
    await harness.poll(30)


@pytest.mark.slow
@INCLUSIVE
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_bounds_and_roundings_cost_no_job(
    store: SqliteStore, since: bool, until: bool, rounding: str
) -> None:
    """A job at the edge of two windows is in neither, or is missed where it is not listed, and given up."""
    harness = PollerHarness(store, overlap=2 * MINUTE)
    harness.api.newest_first = len(rounding) % 2 == since
    asyncio.run(harness.poll(4))
    harness.api.since_inclusive, harness.api.until_inclusive = since, until
    traffic = Traffic(harness, random.Random(f"{since}{until}{rounding}"), rounding)
    asyncio.run(count(harness, traffic, 60))
    jobs = len(harness.api.jobs)
    assert jobs > 200
    assert (harness.created(), harness.finished(), harness.expired()) == (jobs, jobs, 0)
    assert not any(harness.view.anomalies.get(name) for name in ("outside_window", "state_regression"))


@INCLUSIVE
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_window_shows_every_job_that_says_it_is_in_it(
    store: SqliteStore, since: bool, until: bool, rounding: str
) -> None:
    """Whatever the API compares: by what a record shows, each is in one of two windows side by side."""
    harness = PollerHarness(store)
    api, begin = harness.api, harness.clock.ms
    api.since_inclusive, api.until_inclusive = since, until
    for exact in range(begin - SECOND, begin + 3 * SECOND, SECOND if rounding == "whole-seconds" else 100):
        job_id = api.create(ROUNDINGS[rounding](exact))
        api.exact[job_id] = exact
    for second in (begin, begin + SECOND):
        window = Window(second, second + SECOND)
        result = asyncio.run(harness.reader.read(window, 1e9))
        expected = {job_id for job_id, record in api.jobs.items() if record.create_time == second}
        assert result.complete
        assert {record.job_id for record in result.inside} == expected


@pytest.mark.slow
@INCLUSIVE
def test_bounds_cost_no_job_of_a_backlog(store: SqliteStore, since: bool, until: bool) -> None:
    """Its windows are read once, one after the other: what lies between two of them would be lost."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(4))
    harness.api.since_inclusive, harness.api.until_inclusive = since, until
    begin = harness.clock.ms
    for number in range(3600):
        harness.api.create(begin + number * SECOND, state="SUCCEED")
    harness.clock.ms += 60 * MINUTE
    asyncio.run(harness.poll(12))
    assert harness.created() == 3600


@pytest.mark.slow
@INCLUSIVE
def test_bounds_hide_no_open_job_at_the_first_start(store: SqliteStore, since: bool, until: bool) -> None:
    """The time before it is read in windows, too: what lies at an edge would be in no gauge."""
    harness = PollerHarness(store)
    harness.api.since_inclusive, harness.api.until_inclusive = since, until
    begin = harness.clock.ms
    for number in range(1, 50 * 60):
        harness.api.create(begin - number * SECOND, "WAITING" if number % 7 == 0 else "SUCCEED")
    asyncio.run(harness.poll(20))
    assert harness.created() == harness.open() == 50 * 60 // 7
    assert harness.view.gauges is not None
    assert harness.view.gauges.jobs is not None
    assert sum(harness.view.gauges.jobs.values()) == 50 * 60 - 1


def test_a_job_in_the_margin_is_counted_and_not_missed(store: SqliteStore) -> None:
    """The second before a window is asked for, too: an API may show it in part."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(4))
    since = harness.clock.ms
    beside, hidden = (harness.api.create(since - SECOND, job_id=name) for name in ("beside", "hidden"))
    harness.api.appears[hidden] = since + MINUTE
    asyncio.run(harness.poll(20))
    harness.api.appears[hidden] = harness.clock.ms + MINUTE
    run = PollRun(
        "t",
        clock=harness.clock,
        reader=harness.reader,
        repository=harness.repository,
        monotonic=harness.monotonic,
        committed=lambda: None,
    )
    run.begin(harness.monotonic() + 60.0, budget=75)
    result = asyncio.run(harness.reader.read(Window(since, since + SECOND), run.deadline))
    asyncio.run(run.record(result))
    jobs = harness.repository.ledger.jobs
    assert [query for query in harness.api.queries[-1:] if query.since == since - SECOND]
    assert [job.misses for name in (beside, hidden) if (job := jobs.get(name))] == [0, 0]
    assert harness.created() == 2
    assert not harness.view.anomalies.get("outside_window")
