"""SQLite's faults as one line each that says what to do.

Knows SQLite's codes; must not know what is read or written.
"""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from exporter.errors import StoreCorruptError, StoreError, StoreLockedError
from exporter.process import exhausted
from exporter.store.checksums import ChecksumError

_OPEN_FILES: Final = 4
"""As many as SQLite opens at once: the database, its -wal and -shm, the folder."""

_OUTSIDE: Final = ("BUSY", "LOCKED", "FULL", "READONLY", "CANTOPEN", "PERM", "IOERR", "NOMEM", "INTERRUPT")
"""SQLite's codes whose cause is outside of the file. While reading, every other one means damage.

So is ``READONLY`` without an addition: we could open the file for writing, but its header forbids it.
"""


def damaged(path: Path) -> str:
    """What is wrong, and what to do."""
    return (
        f"{path}: the store is damaged and was left as it is: move it away to start new books"
        " (an honest reset), together with its -wal and -shm files, or restore a copy taken while the"
        " exporter was stopped"
    )


@contextmanager
def while_reading(path: Path) -> Iterator[None]:
    """Where what was written is read: anything else than that is damage."""
    with while_writing(path):
        try:
            yield
        except (ChecksumError, ValueError, TypeError):  # a value of another kind than any that we write
            raise StoreCorruptError(damaged(path)) from None
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_READONLY" or not name.removeprefix("SQLITE_").startswith(_OUTSIDE):
                raise StoreCorruptError(damaged(path)) from None
            raise


@contextmanager
def while_writing(path: Path) -> Iterator[None]:
    """SQLite's faults, told apart by their code, as one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise StoreCorruptError(damaged(path)) from None
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreLockedError(f"{path}: another program holds a lock on the store: end it") from None
        if missing := _exhausted(error, name, path):
            raise StoreError(f"{path}: {missing}") from None
        if name.startswith("SQLITE_FULL"):
            raise StoreError(f"{path}: no space left on the device: nothing was changed, free some") from None
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise StoreError(
                f"{path}: cannot be opened for writing: check the permissions of the file and its folder"
            ) from None
        raise StoreError(f"{path}: {error} ({name or type(error).__name__}): nothing was changed") from None


def _exhausted(error: sqlite3.Error, name: str, path: Path) -> str | None:
    """Which resource of this process is exhausted, where SQLite's code does not say it."""
    if name.startswith("SQLITE_NOMEM"):
        return exhausted(MemoryError())
    if name.startswith("SQLITE_CANTOPEN"):
        with ExitStack() as opened:
            try:
                for _ in range(_OPEN_FILES):
                    opened.callback(os.close, os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as failed:
                return exhausted(failed)
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) and largest != resource.RLIM_INFINITY:
        return (
            f"{error} ({name}), while no file may be larger than {largest} bytes: raise that limit"
            " (ulimit -f, LimitFSIZE=)"
        )
    return None
