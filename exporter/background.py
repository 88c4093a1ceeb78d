"""Blocking work that may never end (a file on a hanging disk) in a thread that nobody waits for at the end.

asyncio's own threads are few, shared, and joined when the program ends: one that hangs would hold that up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class OneAtATime(Generic[_T]):
    """The same work again and again: while it hangs, those who ask later wait for the same thread."""

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
    """What ``work`` returns or raises. Cancelled, it leaves the thread to itself."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()
    threading.Thread(target=_answer, args=(loop, result, work), name=name, daemon=True).start()
    return await result


def _answer(loop: asyncio.AbstractEventLoop, result: asyncio.Future[Any], work: Callable[[], Any]) -> None:
    try:
        settle = functools.partial(_settle, result.set_result, result, work())
    except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who asked
        settle = functools.partial(_settle, result.set_exception, result, error)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
        loop.call_soon_threadsafe(settle)


def _settle(settle: Callable[[Any], None], result: asyncio.Future[Any], value: object) -> None:
    if not result.done():  # cancelled meanwhile
        settle(value)
