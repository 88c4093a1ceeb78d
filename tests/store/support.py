"""Books in a file, made by the poller itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from exporter.store.sqlite import SqliteStore
from tests.fake_api import SECOND, House

SCOPE = "region=cn-north-4"


def polls(house: House, rounds: int = 12, jobs: int = 20) -> None:
    """Jobs come and end while the poller looks."""
    asyncio.run(house.poll(2))
    for number in range(rounds):
        made = [house.api.create(house.clock.ms - index % 9 * SECOND) for index in range(jobs)]
        asyncio.run(house.poll())
        for job_id in made[number % 3 :: 3]:
            house.api.finish(job_id, "FAILED" if number % 4 == 0 else "SUCCEED", fail_msg="boom")
    asyncio.run(house.poll(2))


def fill(path: Path) -> Path:
    """A closed store with some hundred jobs."""
    store = SqliteStore(path)
    polls(House(store))
    store.close()
    return path


def books(path: Path) -> dict[str, Any]:
    """Everything a store holds for the target, but the number of its version."""
    store = SqliteStore(path)
    try:
        held = msgspec.structs.asdict(store.load("t", SCOPE, 0, 0))
    finally:
        store.close()
    del held["version"]
    held["minutes"] = sorted(held["minutes"])
    return held
