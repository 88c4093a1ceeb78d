"""A store in a file, filled by the poller itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from exporter.store.sqlite import SqliteStore
from testkit.world import SECOND
from tests.fake_api import PollerHarness

SCOPE = "region=cn-north-4"


def polls(harness: PollerHarness, rounds: int = 12, jobs: int = 20, service: str = "TTS_LLM") -> None:
    """Jobs come and end while the poller reads."""
    asyncio.run(harness.poll(2))
    for number in range(rounds):
        made = [
            harness.api.create(harness.clock.ms - index % 9 * SECOND, tts_service_enum=service)
            for index in range(jobs)
        ]
        asyncio.run(harness.poll())
        for job_id in made[number % 3 :: 3]:
            harness.api.finish(job_id, "FAILED" if number % 4 == 0 else "SUCCEED", fail_msg="boom")
    asyncio.run(harness.poll(2))


def fill(path: Path) -> Path:
    """A closed store with some hundred jobs."""
    store = SqliteStore(path)
    polls(PollerHarness(store))
    store.close()
    return path


def stored(path: Path) -> dict[str, Any]:
    """Everything a store holds for the target, but the number of its version."""
    store = SqliteStore(path)
    try:
        held = msgspec.structs.asdict(store.load("t", SCOPE, 0, 0))
    finally:
        store.close()
    del held["version"]
    held["minutes"] = sorted(held["minutes"])
    return held
