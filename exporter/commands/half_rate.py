"""A command takes half of a target's ``rate_limit``; an exporter with the same store leaves it that half.

Knows how they tell each other; must not know what is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Final, Self, TextIO

from msgspec.structs import replace

from exporter import log
from exporter.background import in_background
from exporter.cloud import COMMAND_PART, credentials_key, credentials_names
from exporter.config import Config, StorageConfig, TargetConfig
from exporter.errors import StoreError
from exporter.runtime import command_lock
from exporter.store import CommandLock

_AGAIN: Final = 1.0
"""Seconds until a lock is tried again that another command has."""


class HalfRate:
    """Gives targets half of their rate, and locks their credentials for this command until the block ends."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        redactor: log.Redactor,
        err: TextIO,
        *,
        alone: bool = False,
    ) -> None:
        """``config``: of the exporter that may run. ``alone``: nothing is known of one."""
        self._targets = config.targets
        self._storage = None if alone else config.storage
        self._environ = environ
        self._redactor = redactor
        self._err = err
        self._locks: dict[str, CommandLock | None] = {}
        """By the name of credentials. ``None``: it cannot be had."""

    async def of(self, target: TargetConfig) -> TargetConfig:
        """The target as it is asked, once no exporter takes more than the other half.

        Waits while another command asks with the same credentials. Where the lock cannot be had, that is
        said, and nothing more is done: what is asked for may be why.
        """
        key = credentials_key(target.auth, self._environ)
        names = credentials_names(target.auth, self._environ)
        if self._storage is not None and self._locks.keys().isdisjoint(names):
            try:
                await self._take(self._storage, names)
            except StoreError as error:
                print(
                    f"warning: {error}: an exporter that runs does not know of this command; together they"
                    " may send one and a half times rate_limit",
                    file=self._err,
                )
        # Of targets with the same credentials the lowest is in force, as in ``SharedLimits``.
        rates = (it.rate_limit for it in self._targets if credentials_key(it.auth, self._environ) == key)
        return replace(target, rate_limit=min([target.rate_limit, *rates]) * COMMAND_PART)

    async def _take(self, storage: StorageConfig, names: tuple[str, ...]) -> None:
        """Raises StoreError."""
        self._locks |= dict.fromkeys(names)
        open_lock = partial(command_lock, storage, names, self._redactor)
        lock = await in_background(open_lock, name="command lock")
        self._locks[names[0]] = lock
        waits = False
        while (known_after := await in_background(lock.take, name="command lock")) is None:
            if not waits:
                print("another command asks with the same credentials: waiting for its end", file=self._err)
            waits = True
            await asyncio.sleep(_AGAIN)
        await asyncio.sleep(known_after)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lock in self._locks.values():
            if lock is not None:
                lock.close()
