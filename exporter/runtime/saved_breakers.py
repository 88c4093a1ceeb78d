"""Keeps refusals of credentials across restarts: five bad signatures lock a key, whoever sends them.

Knows when breakers change and where they are stored; must not know what opens or closes one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final

from exporter import log
from exporter.cloud import SharedLimits
from exporter.errors import StoreError
from exporter.store import Store

logger = logging.getLogger(__name__)

SAVE_SECONDS: Final = 0.2
"""How soon a refusal is stored."""


class SavedBreakers:
    """The breakers of all credentials, as they are in memory and as they are in the store."""

    def __init__(
        self, shared: SharedLimits, store: Store, executor: Executor, refresh: float | None = None
    ) -> None:
        """``refresh``: seconds after which those of other replicas are taken over, where there are some."""
        self._shared = shared
        self._store = store
        self._executor = executor
        self._saved: dict[str, str] = {}
        self._refresh = refresh
        self._logged = ""
        """The last error of the store."""

    async def restore(self) -> None:
        """As before the restart, or as other replicas have them. Raises StoreError."""
        loop = asyncio.get_running_loop()
        self._saved = await loop.run_in_executor(self._executor, self._store.load_breakers)
        self._shared.restore(self._saved)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Store every change, until cancelled. An error is logged once until it changes."""
        waited = 0.0
        while True:
            await sleep(SAVE_SECONDS)
            waited += SAVE_SECONDS
            if self._refresh is not None and waited >= self._refresh:
                waited = 0.0
                with suppress(StoreError):  # it will be met, and logged, when something is stored
                    await self.restore()
            await self.save()

    async def save(self) -> None:
        """Store what has changed, also at the end: the next start may follow at once."""
        states = self._shared.states()
        if states == self._saved:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._executor, self._store.save_breakers, states
            )
        except StoreError as error:
            if str(error) != self._logged:
                self._logged = str(error)
                log.error(logger, "refused credentials could not be stored", error=error)
        else:
            self._saved, self._logged = states, ""
