"""R11 Scope (docs/counting.md): each test plays a schedule under which less would miscount."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from exporter.errors import ScopeChangedError
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, FakeClock
from tests.fake_api import FakeApi, PollerHarness
from tests.polling.rules.support import run, started


def test_a_target_name_reused_for_something_else_is_refused(store: SqliteStore) -> None:
    """Adding up two projects under one name would be a lie in every graph."""
    started(PollerHarness(store, scope="region=cn-north-4"))
    other = PollerHarness(store, scope="region=cn-east-3")
    with pytest.raises(ScopeChangedError, match="use a new target name"):
        asyncio.run(other.repository.load(0))


def test_another_project_behind_the_same_name_is_refused(store: SqliteStore) -> None:
    """A project id that is looked up may change without a word in the configuration."""
    api = FakeApi(FakeClock())
    started(PollerHarness(store, api))
    api.project_id = "p2"
    harness = PollerHarness(store, api)
    assert run(harness) == "failed"
    assert harness.created() == 0


def test_overlap_and_window_may_change_without_losing_a_count(store: SqliteStore) -> None:
    """A ledger tied to its settings would start anew whenever one is changed."""
    harness = started(PollerHarness(store))
    jobs = [harness.api.create() for _ in range(5)]
    run(harness, 3)
    harness.ledger_settings = replace(harness.ledger_settings, overlap=10 * MINUTE, window=5 * MINUTE)
    harness.restart()
    for job in jobs:
        harness.api.finish(job)
    run(harness, 60)
    assert (harness.created(), harness.finished()) == (5, 5)


def test_other_buckets_start_only_that_histogram_anew(store: SqliteStore) -> None:
    """Old counts under new bounds would be a wrong distribution."""
    harness = started(PollerHarness(store))
    harness.api.create(text_length=70)
    run(harness, 2)
    harness.ledger_settings = replace(harness.ledger_settings, text_length_buckets=(10, 20))
    harness.restart()
    harness.api.create(text_length=15)
    run(harness, 2)
    histogram = harness.view.text_length["ASYNC_JOB", "TTS_LLM"]
    assert (histogram.bounds, histogram.counts, histogram.sum) == ((10, 20), (0, 1, 0), 15)
    assert harness.created() == 2
