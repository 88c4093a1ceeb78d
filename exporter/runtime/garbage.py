"""Python's whole search for cyclic garbage, in turns of its own.

It holds the event loop up: for 15 ms with 200 targets. By itself Python begins it wherever an object is
made, in the midst of a poll, whose own turn is then that much longer. Knows no object; see also ``Fleet``,
which exempts from the search what lives as long as the program.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Final

EVERY: Final = 30.0
"""Seconds: about as often as Python would with 200 targets."""
RARELY: Final = 1000
"""Searches of the middle generation, with millions of new objects, before Python begins the whole one."""


async def search_in_turns(sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Search every ``EVERY`` seconds, until cancelled."""
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], RARELY)
    try:
        while True:
            await sleep(EVERY)
            gc.collect()
    finally:
        gc.set_threshold(*before)
