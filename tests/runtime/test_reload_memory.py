"""What a reload replaces is gone with it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import closing
from pathlib import Path

import pytest

from exporter import log
from exporter.app import App
from exporter.cloud.client import Client
from exporter.config import Config, load_config
from exporter.failures import BUILTIN_RULES, Classifier
from exporter.ledger.ledger import Ledger
from exporter.polling.poller import Poller
from exporter.store.sqlite import SqliteStore
from testkit.processes import write_config
from tests.fake_api import PollerHarness

KINDS = (Client, Ledger, Poller)


def living() -> dict[str, int]:
    gc.unfreeze()  # what is frozen is not listed
    objects = gc.get_objects()
    return {kind.__name__: sum(type(one) is kind for one in objects) for kind in KINDS}


def test_poller_and_classifier_have_no_reference_cycle(tmp_path: Path) -> None:
    """Both are gone as soon as nobody refers to them."""
    gc.disable()
    try:
        with closing(SqliteStore(tmp_path / "books.db")) as store:
            harness = PollerHarness(store)
            asyncio.run(harness.poll())
            classifier = Classifier(BUILTIN_RULES)
            classifier.classify("timeout")
            left = weakref.ref(harness.poller), weakref.ref(classifier)
            del harness.poller, classifier
            assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


@pytest.mark.slow
def test_reloads_leave_no_former_target_behind(tmp_path: Path) -> None:
    """Changed again and again, one target is one poller, one client and at most one ledger."""
    rates = iter(range(100, 200))

    def read() -> Config:
        return load_config(
            write_config(tmp_path, "http://127.0.0.1:9", target={"rate_limit": next(rates)}), environ={}
        )

    async def life() -> dict[str, int]:
        app = App(
            read(),
            listen_addresses=["127.0.0.1:0"],
            environ={},
            redactor=log.Redactor(),
            read_config=read,
        )
        stop = asyncio.Event()
        running = asyncio.ensure_future(app.run(stop))
        for _ in range(10):
            assert await app.reloads.reload() == ()
        found = living()
        stop.set()
        await running
        return found

    gc.collect()
    before = living()
    gc.disable()  # as between two of its rare runs
    try:
        after = asyncio.run(life())
    finally:
        gc.enable()
    assert {kind: after[kind] - before[kind] for kind in after} == dict.fromkeys(after, 1)
