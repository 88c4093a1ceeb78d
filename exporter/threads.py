"""Threads that nobody waits for: where a disk or a name server hangs, only their result is missing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Runs ``work`` in a thread of its own and gives its result, to the running event loop.

    Neither the loop nor the program waits for it at the end; an error that nobody asks for is forgotten.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    result.add_done_callback(lambda done: done.cancelled() or done.exception())

    def settle(set_: Callable[[Any], None], value: object) -> None:
        if not result.done():
            set_(value)

    def run() -> None:
        try:
            done = functools.partial(settle, result.set_result, work())
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to who asked
            done = functools.partial(settle, result.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(done)

    threading.Thread(target=run, name=name, daemon=True).start()
    return result
