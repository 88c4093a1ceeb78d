"""Keeps refusals of credentials across restarts, and shares them with other replicas.

Five bad signatures lock a key, whoever sends them: so one more, once any was refused, takes a *claim*, which
only one replica can have.

Knows when breakers change and where they are stored; must not know what opens or closes one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Final

from exporter import log
from exporter.cloud import Claims, SharedLimits
from exporter.errors import StoreError, StoreUnavailableError
from exporter.store import SharedStore, Store

logger = logging.getLogger(__name__)

SAVE_SECONDS: Final = 0.2
"""How soon a refusal is stored."""


class SavedBreakers:
    """The breakers of all credentials, as they are in memory and as they are in the store."""

    def __init__(self, shared: SharedLimits, store: Store, executor: Executor, refresh: float | None) -> None:
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
        before = self._shared.states()
        loop = asyncio.get_running_loop()
        stored = await loop.run_in_executor(self._executor, self._store.load_breakers)
        if self._shared.states() == before:  # or else it might bring back what was accepted meanwhile
            self._saved = stored
            self._shared.restore(stored)

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Store every change, until cancelled. An error is logged once until it changes; that nothing answers
        is logged by the store.
        """
        waited = 0.0
        while True:
            await sleep(SAVE_SECONDS)
            waited += SAVE_SECONDS
            saved = await self.save()
            if saved and self._refresh is not None and waited >= self._refresh:
                waited = 0.0
                with suppress(StoreError):  # it will be met, and logged, when something is stored
                    await self.restore()

    async def save(self) -> bool:
        """Store what has changed, also at the end: the next start may follow at once. Says whether all is."""
        states = self._shared.states()
        if states == self._saved:
            return True
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._executor, self._store.save_breakers, states
            )
        except StoreError as error:
            if str(error) != self._logged and not isinstance(error, StoreUnavailableError):
                self._logged = str(error)
                log.error(logger, "refused credentials could not be stored", error=error)
            return False
        self._saved, self._logged = states, ""
        return True


def stored_claims(store: Store, executor: Executor) -> Callable[[str], Claims] | None:
    """For ``SharedLimits``: claims that replicas have by the store, where they share one."""
    return partial(_StoredClaims, store, executor) if isinstance(store, SharedStore) else None


class _StoredClaims:
    """See ``cloud.Claims``. While the store does not work, nobody has the claim."""

    def __init__(self, store: SharedStore, executor: Executor, credentials: str) -> None:
        self._store = store
        self._executor = executor
        self._credentials = credentials

    async def take(self) -> float:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._store.take_claim, self._credentials)
        except StoreError:
            return 1.0

    async def end(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        with suppress(StoreError):
            await loop.run_in_executor(self._executor, self._store.end_claim, self._credentials, seconds)
