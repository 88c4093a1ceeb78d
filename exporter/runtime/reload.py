"""Requests to reload the configuration, from signals and from HTTP: carried out one at a time, in order.

Knows who waits for which reload; must not know what a reload does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

ReloadProblems = tuple[str, ...]
"""Why a reload failed, one line each; empty after a success."""

EXPORTER_STOPS: ReloadProblems = ("the exporter is stopping",)


class ReloadQueue:
    """A request that comes while a reload runs waits for the next one: the file may have changed since."""

    def __init__(self, reload: Callable[[], Awaitable[ReloadProblems]]) -> None:
        self._reload = reload
        self._requested = asyncio.Event()
        self._next: asyncio.Future[ReloadProblems] | None = None

    def request(self) -> asyncio.Future[ReloadProblems]:
        """Have a reload begin after now. The future is shared: shield it to await it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._requested.set()
        return self._next

    async def reload(self) -> ReloadProblems:
        """Request one, and wait for its outcome."""
        return await asyncio.shield(self.request())

    async def run(self) -> None:
        """Carry out requests until cancelled; then nobody is left waiting."""
        current: asyncio.Future[ReloadProblems] | None = None
        try:
            while True:
                await self._requested.wait()
                self._requested.clear()
                current, self._next = self._next, None
                problems = await self._reload()
                if current is not None:
                    current.set_result(problems)
        finally:
            for waiting in (current, self._next):
                if waiting is not None and not waiting.done():
                    waiting.set_result(EXPORTER_STOPS)
