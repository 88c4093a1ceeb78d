"""Requests to reload the configuration, from signals and from HTTP: served one at a time, in order.

Knows nothing of what a reload does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Problems = tuple[str, ...]
"""Why a reload failed, one line each; empty after a success."""

STOPPING: Problems = ("the exporter is stopping",)


class Reloads:
    """Whoever asks while a reload runs waits for the next one: the file may have changed since."""

    def __init__(self, reload: Callable[[], Awaitable[Problems]]) -> None:
        self._reload = reload
        self._wanted = asyncio.Event()
        self._next: asyncio.Future[Problems] | None = None

    def ask(self) -> asyncio.Future[Problems]:
        """Have a reload begin after now. The future is shared: shield it to await it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._wanted.set()
        return self._next

    async def asked(self) -> Problems:
        """Ask, and wait for the outcome."""
        return await asyncio.shield(self.ask())

    async def run(self) -> None:
        """Serve requests until cancelled; then nobody is left waiting."""
        now: asyncio.Future[Problems] | None = None
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                now, self._next = self._next, None
                problems = await self._reload()
                if now is not None:
                    now.set_result(problems)
        finally:
            for waiting in (now, self._next):
                if waiting is not None and not waiting.done():
                    waiting.set_result(STOPPING)
