"""Python's search for cyclic garbage holds the event loop up no longer than it must."""

from __future__ import annotations

import asyncio
import gc

import pytest

from exporter.runtime import garbage


class Ring:
    """Garbage that only the search finds."""

    def __init__(self) -> None:
        self.itself = self


def test_the_whole_search_has_turns_of_its_own() -> None:
    """While it is due every half a minute, making objects does not begin it; afterwards all is as before."""
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
            asyncio.run(garbage.search_in_turns(sleep))
    finally:
        gc.callbacks.remove(note)
    assert slept == [garbage.EVERY] * 3
    assert whole == [1, 2]
    assert gc.get_threshold() == before
