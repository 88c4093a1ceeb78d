"""What a reload changes in the parts that all targets share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from exporter import log
from exporter.app import App
from exporter.config import load_config
from exporter.exposition.text import Format
from testkit.processes import write_config


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
