"""Python's full garbage collection blocks the event loop no longer than it must."""

from __future__ import annotations

import asyncio
import gc

import pytest

from exporter.runtime import garbage


class Ring:
    """Garbage that only a collection frees."""

    def __init__(self) -> None:
        self.itself = self


def test_the_full_collection_runs_by_itself() -> None:
    """While it is due every half a minute, making objects does not start it; afterwards all is as before."""
    before = gc.get_threshold()
    whole: list[int] = []
    slept: list[float] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            whole.append(len(slept))

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        kept = [[Ring()] for _ in range(100_000)]
        del kept
        if len(slept) == 3:
            raise asyncio.CancelledError

    gc.callbacks.append(note)
    try:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(garbage.collect_regularly(sleep))
    finally:
        gc.callbacks.remove(note)
    assert slept == [garbage.EVERY] * 3
    assert whole == [1, 2]
    assert gc.get_threshold() == before
