"""The lock by which a command tells the exporter of a SQLite file that it asks the API."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from exporter.errors import StoreError
from exporter.process import reason
from exporter.store import locks
from exporter.store.base import lock_number
from exporter.store.files import resolved


class SqliteCommandLock:
    """See ``base.CommandLock``. Where there is no file, no exporter has one, and nothing is locked.

    Its descriptor must be the last of the file that the process closes: the end of any takes SQLite's locks
    away. Raises StoreError.
    """

    def __init__(self, path: Path, names: Collection[str], known_after: float) -> None:
        """``known_after``: how often the exporter looks, in seconds."""
        self._path = resolved(path)
        self._numbers = {lock_number(name) for name in names}
        self._known_after = known_after
        self._opened = ExitStack()
        self._descriptor: int | None = None
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            self._descriptor = descriptor = os.open(self._path, flags)
            self._opened.callback(os.close, descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened ({reason(error)})") from None

    def take(self) -> float | None:
        if self._descriptor is None:
            return 0.0
        if not locks.lock_for_command(self._path, self._descriptor, self._numbers):
            return None
        return self._known_after if locks.is_locked(self._path, self._descriptor) else 0.0

    def close(self) -> None:
        self._opened.close()
