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
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from exporter.errors import StoreCorruptError, StoreError, StoreLockedError
from exporter.process import reason
from exporter.store import wal

_MODE: Final = 0o600
"""Whoever can open a store for reading can take locks that stop the counting."""

_LOCKED_BYTE: Final = 1 << 62
"""Within the database, far from the bytes that SQLite locks."""

_REGION: Final = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
_NO_LOCK: Final = struct.pack("h", fcntl.F_UNLCK)

_LONGEST: Final = 504
"""Bytes of a path: SQLite's 512, with ``-journal`` at its end."""

_SPACE: Final = 64 * 1024
"""About what each of the files of an empty store takes."""

_HELD: Final = (errno.EAGAIN, errno.EACCES)


def resolved(path: Path) -> Path:
    """One file has one lock, whatever names it has. Raises StoreError."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # the latter for symbolic links in a circle, before Python 3.13
        why = reason(error) if isinstance(error, OSError) else error
        raise StoreError(f"{path}: cannot be used: {why}") from None


class StoreFiles:
    """Opening them makes an empty database file when there is none. Raises StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log, self._shared = _beside(path, "-wal"), _beside(path, "-shm")
        self._present: dict[Path, tuple[int, int]] = {}
        """What each file was when it was opened: device and inode."""
        self._size = 0
        """Of the database after the last commit, in bytes: it never becomes smaller."""
        with contextlib.ExitStack() as opened:
            lock = self._open(_beside(path, ".lock"), opened)
            self._take(fcntl.flock, lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _refuse_unusable(path)
            self._database = self._open(path, opened)
            if hasattr(fcntl, "F_OFD_SETLK"):  # Linux: a lock that no other descriptor's end lets go of
                self._take(fcntl.fcntl, self._database, fcntl.F_OFD_SETLK, _REGION)
            self._opened = opened.pop_all()

    def opened(self) -> None:
        """SQLite has made or found its own files beside the database. Raises StoreError."""
        # To be read later; closed with the others, as the end of a descriptor takes SQLite's locks away.
        self._index, _ = _open(self._shared, os.O_CREAT, self._opened)
        for path in (self._log, self._shared):
            with contextlib.suppress(FileNotFoundError):
                _make_private(path, found := path.stat())
                self._present[path] = found.st_dev, found.st_ino
        self.check()
        self.committed()

    def committed(self) -> None:
        """What is in the files now has to stay there."""
        self._size = os.fstat(self._database).st_size

    def check(self) -> None:
        """Are all of them still what was opened, and is all there that was written? Raises StoreError."""
        sizes = {self._path: self._size, self._log: wal.size(os.pread(self._index, wal.INDEX_HEADER, 0))}
        for path, identity in self._present.items():
            try:
                found = path.stat()
                same = (found.st_dev, found.st_ino) == identity
            except FileNotFoundError:
                same = False
            except OSError as error:
                raise StoreError(f"{path}: cannot be found any more ({reason(error)})") from None
            if not same:
                raise StoreError(
                    f"{path}: was moved, removed or replaced while the exporter runs: nothing is counted"
                    " until it is put back or the exporter is restarted"
                )
            if found.st_size < sizes.get(path, 0):
                raise StoreError(
                    f"{path}: was made smaller while the exporter runs: commits are lost, nothing is counted:"
                    " stop the exporter and move the store's files away to start new books (an honest"
                    " reset), or restore a copy"
                )

    def close(self) -> None:
        """After SQLite's connection: an earlier end of our descriptor would take SQLite's locks away."""
        self._opened.close()

    def _open(self, path: Path, opened: contextlib.ExitStack) -> int:
        descriptor, found = _open(path, os.O_CREAT, opened)
        _make_private(descriptor, found)
        self._present[path] = found.st_dev, found.st_ino
        return descriptor

    def _take(self, take: Callable[..., object], *arguments: object) -> None:
        try:
            take(*arguments)
        except OSError as error:
            if error.errno in _HELD:
                raise _locked(self._path) from None
            raise StoreError(f"{self._path}: cannot be locked ({reason(error)})") from None


def examine(path: Path) -> bool:
    """What would keep ``StoreFiles`` from opening them, found without changing any. Raises StoreError.

    Returns whether there is a database, and all of it in its file: none of it in a log.
    """
    _refuse_unusable(path)
    missing = []
    for file in (_beside(path, ".lock"), path):
        with contextlib.ExitStack() as opened:
            try:
                descriptor, _ = _open(file, 0, opened)
            except FileNotFoundError:
                missing.append(file)
                continue
            if file == path and hasattr(fcntl, "F_OFD_GETLK"):
                held = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _REGION)
                if held[: len(_NO_LOCK)] != _NO_LOCK:
                    raise _locked(path)
    _try_to_write([*missing, *(_beside(path, suffix) for suffix in ("-wal", "-shm"))])
    return _size(path) > 0 and not (_size(_beside(path, "-wal")) or _size(_beside(path, "-journal")))


def _try_to_write(paths: Sequence[Path]) -> None:
    """Files without a name in their places: only that finds every kind of folder that takes none."""
    with contextlib.ExitStack() as made:
        for path in paths:
            folder = resolved(path).parent  # a lock may be a link to elsewhere
            try:
                file = made.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
                written = file.write(bytes(_SPACE))
            except OSError as error:
                raise StoreError(
                    f"{path}: no file can be made in {folder} ({reason(error)}): storage.url needs an"
                    " existing, writable folder with free space"
                ) from None
            if written < _SPACE:
                raise StoreError(f"{path}: no space left in {folder}, or no file may be as large")


def _open(path: Path, create: int, opened: contextlib.ExitStack) -> tuple[int, os.stat_result]:
    """Raises StoreError; FileNotFoundError when it is not to be created."""
    try:
        # Without waiting for the other end of a FIFO.
        flags = os.O_RDWR | create | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(path, flags, _MODE)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE) or (error.errno == errno.ENOENT and not create):
            raise
        raise StoreError(
            f"{path}: cannot be opened ({reason(error)}): storage.url needs an existing, writable folder,"
            " and files there that this user may write"
        ) from None
    opened.callback(os.close, descriptor)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path}: is not a regular file: choose another storage.url")
    return descriptor, found


def _refuse_unusable(path: Path) -> None:
    """What SQLite would fail at, or destroy. Raises StoreError."""
    if len(os.fsencode(path)) > _LONGEST:
        raise StoreError(f"{path}: longer than the {_LONGEST} bytes that SQLite takes: choose a shorter path")
    for suffix in ("-wal", "-shm", "-journal"):
        file = _beside(path, suffix)
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(file.stat().st_mode):
                raise StoreError(f"{file}: is not a regular file, and SQLite needs the name: move it away")
    # SQLite would delete it, and with it the last commits of a database that was moved away.
    if (log := _beside(path, "-wal")) and _size(log) and not _size(path):
        raise StoreCorruptError(
            f"{log}: belongs to a database that is not there: put that back as {path.name}, or move this file"
            " away as well to start new books"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _locked(path: Path) -> StoreLockedError:
    return StoreLockedError(
        f"{path}: another exporter is using this store: stop it, or use another storage.url for this one"
    )


def _make_private(file: int | Path, found: os.stat_result) -> None:
    """As the umask would have it or not. A file of somebody else stays as its owner made it."""
    if stat.S_IMODE(found.st_mode) != _MODE:
        with contextlib.suppress(OSError):
            os.chmod(file, _MODE)  # noqa: PTH101 - a descriptor, where there is one
