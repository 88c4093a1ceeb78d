"""What a reload changes in the parts that all targets share."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from msgspec.structs import replace

from exporter import log
from exporter.app import App
from exporter.cloud import Client
from exporter.config import load_config
from exporter.exposition.text import Format
from exporter.runtime import garbage
from testkit.processes import write_config


def test_a_reload_shows_targets_and_timestamps_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape while the former clients are closed, which may take long, has both as the new file says."""
    config = load_config(write_config(tmp_path, "http://127.0.0.1:9"), environ={})
    (target,) = config.targets
    second = replace(
        config,
        metrics=replace(config.metrics, created_timestamps=not config.metrics.created_timestamps),
        targets=(replace(target, name="renamed"),),
    )
    seen: list[str] = []

    async def life() -> None:
        app = App(
            config,
            listen_addresses=["127.0.0.1:0"],
            environ={},
            redactor=log.Redactor(),
            read_config=lambda: second,
        )
        close = Client.aclose

        async def scrape_then_close(client: Client) -> None:
            seen.append(app.exposition.render(Format.OPENMETRICS).decode())
            await close(client)

        monkeypatch.setattr(Client, "aclose", scrape_then_close)
        stop = asyncio.Event()
        running = asyncio.ensure_future(app.run(stop))
        assert await app.reloads.reload() == ()
        stop.set()
        await running

    asyncio.run(life())
    assert ('target="renamed"' in seen[0], "_created{" in seen[0]) == (
        True,
        second.metrics.created_timestamps,
    )


@pytest.mark.parametrize("before", [False, True])
def test_a_reload_shows_or_hides_created_timestamps(before: bool, tmp_path: Path) -> None:
    """From then on, and not only for what is started anew."""
    config = load_config(write_config(tmp_path, "http://127.0.0.1:9"), environ={})
    first, second = (
        replace(config, metrics=replace(config.metrics, created_timestamps=wanted))
        for wanted in (before, not before)
    )

    read = [second, first]

    async def life() -> list[bool]:
        app = App(
            first,
            listen_addresses=["127.0.0.1:0"],
            environ={},
            redactor=log.Redactor(),
            read_config=lambda: read.pop(),
        )
        shown: list[bool] = []
        stop = asyncio.Event()
        running = asyncio.ensure_future(app.run(stop))
        while read:
            assert await app.reloads.reload() == ()
            shown.append(b"_created{" in app.exposition.render(Format.OPENMETRICS))
        stop.set()
        await running
        return shown

    assert asyncio.run(life()) == [before, not before]


def test_the_full_garbage_collection_runs_by_itself(tmp_path: Path) -> None:
    """While the program runs: see ``runtime.garbage``."""
    config = load_config(write_config(tmp_path, "http://127.0.0.1:9"), environ={})

    async def threshold() -> int:
        app = App(config, listen_addresses=["127.0.0.1:0"], environ={}, redactor=log.Redactor())
        stop = asyncio.Event()
        running = asyncio.ensure_future(app.run(stop))
        while not app.ready or gc.get_threshold()[2] != garbage.RARELY:
            await asyncio.sleep(0)
            assert not running.done()
        stop.set()
        await running
        return gc.get_threshold()[2]

    before = gc.get_threshold()[2]
    assert asyncio.run(asyncio.wait_for(threshold(), 20)) == before
