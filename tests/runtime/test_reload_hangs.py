"""A reload whose configuration cannot be read is answered in time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from exporter import app as app_module
from exporter import log
from exporter.app import App
from exporter.config import Config, load_config
from testkit.processes import write_config


def test_a_configuration_that_became_a_fifo_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one stays in force, and the next reload does not wait for the one that hangs."""
    monkeypatch.setattr(app_module, "READ_CONFIG_SECONDS", 0.2)
    path = write_config(tmp_path, "http://127.0.0.1:9")
    text = path.read_text()

    def read() -> Config:
        return load_config(path, environ={})

    async def life() -> list[tuple[str, ...]]:
        app = App(
            read(),
            listen_addresses=["127.0.0.1:0"],
            environ={},
            redactor=log.Redactor(),
            read_config=read,
        )
        stop = asyncio.Event()
        running = asyncio.ensure_future(app.run(stop))
        path.unlink()
        os.mkfifo(path)
        results = [await app.reloads.reload()]
        path.unlink()
        path.write_text(text)
        monkeypatch.setattr(app_module, "READ_CONFIG_SECONDS", 10.0)
        results.append(await app.reloads.reload())
        stop.set()
        await running
        return results

    assert asyncio.run(life()) == [("the configuration could not be read within 0.2 s",), ()]
