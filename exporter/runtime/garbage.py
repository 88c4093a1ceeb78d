"""Runs Python's full garbage collection regularly, apart from other work of the event loop.

It blocks the event loop: for 15 ms with 200 targets. By itself Python starts it wherever an object is made,
such as in the middle of a poll, which then blocks for both. Knows no object; see also ``Fleet``, which
freezes what lives as long as the program, so that the collection passes over it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Final

EVERY: Final = 30.0
"""Seconds: about as often as Python would with 200 targets."""
RARELY: Final = 1000
"""Collections of the middle generation, after millions of new objects, before Python starts a full one."""


async def collect_regularly(sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Collect every ``EVERY`` seconds, until cancelled."""
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], RARELY)
    try:
        while True:
            await sleep(EVERY)
            gc.collect()
    finally:
        gc.set_threshold(*before)
