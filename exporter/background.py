"""Blocking work that may never end (a file on a hanging disk), in a daemon thread of its own.

asyncio's own threads are few and shared, and the end of the program waits for them: one that hangs would
delay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Work that is asked for again and again: while it runs, later callers wait for the same thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: asyncio.Future[_T] | None = None

    async def run(self, work: Callable[[], _T], *, seconds: float) -> _T:
        """What ``work`` returns or raises; TimeoutError when that takes longer."""
        running = self._running
        if running is None or running.done():
            running = self._running = asyncio.ensure_future(in_background(work, name=self._name))
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        async with asyncio.timeout(seconds):
            return await asyncio.shield(running)


async def in_background(work: Callable[[], _T], *, name: str) -> _T:
    """What ``work`` returns or raises. When cancelled, the thread goes on, and its result is dropped."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()
    threading.Thread(target=_run, args=(loop, result, work), name=name, daemon=True).start()
    return await result


def _run(loop: asyncio.AbstractEventLoop, result: asyncio.Future[Any], work: Callable[[], Any]) -> None:
    try:
        report = functools.partial(_report, result.set_result, result, work())
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
        report = functools.partial(_report, result.set_exception, result, error)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(report)


def _report(set_outcome: Callable[[Any], None], result: asyncio.Future[Any], outcome: object) -> None:
    if not result.done():  # cancelled meanwhile
        set_outcome(outcome)
