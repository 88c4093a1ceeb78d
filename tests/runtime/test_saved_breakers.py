"""Refusals of credentials, kept across restarts."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from exporter import log
from exporter.app import App
from exporter.cloud.shared_limits import SharedLimits
from exporter.config import load_config
from exporter.errors import StoreError
from exporter.runtime import open_store
from exporter.runtime.saved_breakers import SavedBreakers
from exporter.store.base import Store
from testkit.processes import write_config


class Breakers:
    """Those in memory and those in the store."""

    def __init__(self) -> None:
        self.memory: dict[str, str] = {}
        self.stored = {"key": "refused"}
        self.error: StoreError | None = None
        self.saves = 0

    def states(self) -> dict[str, str]:
        return dict(self.memory)

    def restore(self, states: dict[str, str]) -> None:
        self.memory = dict(states)

    def load_breakers(self) -> dict[str, str]:
        return dict(self.stored)

    def save_breakers(self, states: dict[str, str]) -> None:
        self.saves += 1
        if self.error is not None:
            raise self.error
        self.stored = states


def test_a_refusal_right_before_the_end_is_stored(tmp_path: Path) -> None:
    """A supervisor may start the program again at once, and so again and again."""
    config = load_config(write_config(tmp_path, "http://127.0.0.1:9"), environ={})
    refused = {"breaker": '{"refused": true}'}

    async def life() -> dict[str, str]:
        app = App(config, listen_addresses=["127.0.0.1:0"], environ={}, redactor=log.Redactor())
        stop = asyncio.Event()
        running = asyncio.ensure_future(app.run(stop))
        while not app.ready:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        app.shared.states = lambda: refused  # type: ignore[method-assign]  # as after a 401
        stop.set()
        await running
        again = open_store(config, log.Redactor())
        try:
            return again.load_breakers()
        finally:
            again.close()

    assert asyncio.run(life()) == refused


def test_changes_are_stored_once_and_errors_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """What was restored is not stored again; a store that fails is tried again in silence."""
    breakers = Breakers()
    rounds = 0
    saves = []

    async def sleep(_: float) -> None:
        nonlocal rounds
        saves.append(breakers.saves)
        rounds += 1
        if rounds == 2:
            breakers.memory, breakers.error = {"key": "other"}, StoreError("disk full")
        elif rounds == 4:
            breakers.error = None
        elif rounds == 6:
            raise asyncio.CancelledError

    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            saved = SavedBreakers(cast(SharedLimits, breakers), cast(Store, breakers), executor, None)
            await saved.restore()
            assert breakers.memory == {"key": "refused"}
            with pytest.raises(asyncio.CancelledError):
                await saved.run(sleep)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert saves == [0, 0, 1, 2, 3, 3]
    assert breakers.stored == {"key": "other"}
    assert [record.message for record in caplog.records] == ["refused credentials could not be stored"]


def test_refusals_of_other_replicas_are_taken_over() -> None:
    """Every few seconds; five bad signatures lock a key, whoever sends them."""
    breakers = Breakers()
    rounds: list[dict[str, str]] = []

    async def sleep(_: float) -> None:
        rounds.append(dict(breakers.memory))
        breakers.stored = {"key": "refused", "other": "by another replica"}
        if len(rounds) == 8:
            raise asyncio.CancelledError

    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            saved = SavedBreakers(cast(SharedLimits, breakers), cast(Store, breakers), executor, 1.0)
            await saved.restore()
            with pytest.raises(asyncio.CancelledError):
                await saved.run(sleep)

    asyncio.run(run())
    assert rounds[4] == {"key": "refused"}
    assert rounds[-1] == breakers.stored
    assert breakers.saves == 0
