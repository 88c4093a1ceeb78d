"""The locks that keep two exporters from one store: one on ``FILE.lock``, one within the database itself.

The latter survives that ``FILE.lock`` is removed, and holds for every name of the same file. A command has
one of its own within the database, by which the exporter knows of it. None of them keeps SQLite's readers
out. All are let go of when the process ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from exporter.errors import StoreError, StoreLockedError
from exporter.process import reason

_BYTE: Final = 1 << 62
"""Within the database, far from the bytes that SQLite locks."""

_COMMANDS: Final = 1 << 61
"""Within the database, the first of those that commands lock: a byte for each key of credentials."""

_FREE: Final = struct.pack("h", fcntl.F_UNLCK)

_HELD: Final = (errno.EAGAIN, errno.EACCES)
_UNSUPPORTED: Final = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def lock_file(path: Path, descriptor: int) -> None:
    """``path`` is the store's name in messages. Raises StoreError, also where others hold the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _refused(path, error) from None


def lock_database(path: Path, descriptor: int) -> None:
    """The same within the database, where there are locks that no other descriptor's end lets go of: Linux.

    Elsewhere, and where the file system has none of these (gVisor), ``FILE.lock`` has to do: a lock of the
    process would go with SQLite's own. Raises StoreError, also where SQLite would have no locks.
    """
    if hasattr(fcntl, "F_OFD_SETLK"):
        _ask(path, descriptor, fcntl.F_OFD_SETLK, _BYTE)


def is_locked(path: Path, descriptor: int) -> bool:
    """Does another process hold the lock within the database? Raises StoreError."""
    return _is_locked(path, descriptor, _BYTE)


def lock_for_command(path: Path, descriptor: int, numbers: Iterable[int]) -> bool:
    """Lock these bytes for a command; false when another command has one of them. Raises StoreError.

    Those before it stay locked then. As all commands lock in the same order, no two wait for each other.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return True
    try:
        for number in sorted(numbers):
            _ask(path, descriptor, fcntl.F_OFD_SETLK, _COMMANDS + number)
    except StoreLockedError:
        return False
    return True


def command_has_locked(path: Path, descriptor: int, number: int) -> bool:
    """Does another process hold this byte of the commands? Raises StoreError."""
    return _is_locked(path, descriptor, _COMMANDS + number)


def locked(path: Path) -> StoreLockedError:
    """The error for a store that another process holds."""
    return StoreLockedError(
        f"{path}: another exporter is using this store: stop it, or use another storage.url for this one"
    )


def _is_locked(path: Path, descriptor: int, byte: int) -> bool:
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return False
    return not _ask(path, descriptor, fcntl.F_OFD_GETLK, byte).startswith(_FREE)


def _ask(path: Path, descriptor: int, command: int, byte: int) -> bytes:
    region = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        return fcntl.fcntl(descriptor, command, region)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise _refused(path, error) from None
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETLK, region)
    except OSError as error:
        raise _refused(path, error) from None
    return _FREE


def _refused(path: Path, error: OSError) -> StoreError:
    if error.errno in _HELD:
        return locked(path)
    if error.errno in _UNSUPPORTED:
        return StoreError(
            f"{path}: no file can be locked there ({reason(error)}), and without locks two exporters could"
            " count into one store: use a storage.url on a local disk, or give that file system locks (NFS:"
            " its lock service)"
        )
    return StoreError(f"{path}: cannot be locked ({reason(error)})")
