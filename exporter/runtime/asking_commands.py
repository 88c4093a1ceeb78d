"""Which credentials a command asks with now: the exporter leaves it half of their rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Final

from exporter.errors import StoreError
from exporter.store import Store

LOOK_SECONDS: Final = 1.0
"""How often the store is asked, at most."""


class AskingCommands:
    """For ``SharedLimits``. Answers what the store said last, and asks it again in its thread, as the disk
    may hang: so the first answer after a pause may be an old one.
    """

    def __init__(
        self, store: Store, executor: Executor, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._executor = executor
        self._monotonic = monotonic
        self._looks: dict[str, tuple[float, Future[None]]] = {}
        """By credentials: when the store was asked last, and whether it has answered."""
        self._asking: set[str] = set()

    def __call__(self, credentials: str) -> bool:
        now, last = self._monotonic(), self._looks.get(credentials)
        if last is None or (now - last[0] >= LOOK_SECONDS and last[1].done()):
            with suppress(RuntimeError):  # the end has begun: no thread is left
                self._looks[credentials] = now, self._executor.submit(self._look, credentials)
        return credentials in self._asking

    def _look(self, credentials: str) -> None:
        self._asking.discard(credentials)
        with suppress(StoreError):
            if self._store.command_asks(credentials):
                self._asking.add(credentials)
