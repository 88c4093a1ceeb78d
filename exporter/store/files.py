"""The files of a SQLite store: who may read them, that no two exporters use them, that they are still there.

Two locks are held until the process ends, however it ends: one on ``FILE.lock``, and one within the database
itself, which survives that ``FILE.lock`` is removed and holds for every name of the same file. Neither keeps
SQLite's readers out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from exporter.errors import StoreCorruptError, StoreError, StoreLockedError

_MODE: Final = 0o600
"""Whoever can open a store for reading can take locks that stop the counting."""

_LOCKED_BYTE: Final = 1 << 62
"""Within the database, far from the bytes that SQLite locks."""

_HELD: Final = (errno.EAGAIN, errno.EACCES)


def resolved(path: Path) -> Path:
    """One file has one lock, whatever names it has. Raises StoreError."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # the latter for symbolic links in a circle, before Python 3.13
        raise StoreError(f"{path}: cannot be used: {getattr(error, 'strerror', None) or error}") from None


class StoreFiles:
    """Opening them makes an empty database file when there is none. Raises StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path, self._log, self._shared = (
            path.with_name(path.name + suffix) for suffix in (".lock", "-wal", "-shm")
        )
        self._present: dict[Path, tuple[int, int]] = {}
        """What each file was when it was opened: device and inode."""
        with contextlib.ExitStack() as opened:
            lock = self._open(
                self._lock_path,
                "cannot be opened ({}): storage.url needs an existing, writable folder",
                opened,
            )
            self._take(fcntl.flock, lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._refuse_log_without_database()
            database = self._open(
                path,
                "cannot be opened for writing: check the permissions of the file and its folder ({})",
                opened,
            )
            if hasattr(fcntl, "F_OFD_SETLK"):  # Linux: a lock that no other descriptor's end lets go of
                region = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
                self._take(fcntl.fcntl, database, fcntl.F_OFD_SETLK, region)
            self._opened = opened.pop_all()

    def opened(self) -> None:
        """SQLite has made or found its own files beside the database. Raises StoreError."""
        for path in (self._log, self._shared):
            with contextlib.suppress(FileNotFoundError):
                _make_private(path, found := path.stat())
                self._present[path] = found.st_dev, found.st_ino
        self.check()

    def check(self) -> None:
        """Are all of them still what was opened? Raises StoreError."""
        for path, identity in self._present.items():
            try:
                found = path.stat()
                same = (found.st_dev, found.st_ino) == identity
            except FileNotFoundError:
                same = False
            except OSError as error:
                raise StoreError(f"{path}: cannot be found any more ({error.strerror})") from None
            if not same:
                raise StoreError(
                    f"{path}: was moved, removed or replaced while the exporter runs: nothing is counted"
                    " until it is put back or the exporter is restarted"
                )

    def close(self) -> None:
        """After SQLite's connection: an earlier end of our descriptor would take SQLite's locks away."""
        self._opened.close()

    def _open(self, path: Path, problem: str, opened: contextlib.ExitStack) -> int:
        try:
            # Without waiting for the other end of a FIFO.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(path, flags, _MODE)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            raise StoreError(f"{path}: {problem.format(error.strerror)}") from None
        opened.callback(os.close, descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path}: is not a regular file: choose another storage.url")
        _make_private(descriptor, found)
        self._present[path] = found.st_dev, found.st_ino
        return descriptor

    def _take(self, take: Callable[..., object], *arguments: object) -> None:
        try:
            take(*arguments)
        except OSError as error:
            if error.errno in _HELD:
                raise StoreLockedError(
                    f"{self._path}: another exporter is using this store: stop it, or use another storage.url"
                    " for this one"
                ) from None
            raise StoreError(f"{self._path}: cannot be locked ({error.strerror})") from None

    def _refuse_log_without_database(self) -> None:
        """SQLite would delete it, and with it the last commits of a database that was moved away."""
        with contextlib.suppress(OSError):
            if self._path.stat().st_size > 0:
                return
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > 0:
                raise StoreCorruptError(
                    f"{self._log}: belongs to a database that is not there: put that back as"
                    f" {self._path.name}, or move this file away as well to start new books"
                )


def _make_private(file: int | Path, found: os.stat_result) -> None:
    """As the umask would have it or not. A file of somebody else stays as its owner made it."""
    if stat.S_IMODE(found.st_mode) != _MODE:
        with contextlib.suppress(OSError):
            os.chmod(file, _MODE)  # noqa: PTH101 - a descriptor, where there is one
