"""The files of a SQLite store: who may read them, that no two exporters use them (``locks.py``), that they
are still there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exporter.errors import StoreCorruptError, StoreError
from exporter.process import reason
from exporter.store import locks, wal
from exporter.store.base import lock_number
from exporter.store.sqlite_errors import damaged

_MODE: Final = 0o600
"""Whoever can open a store for reading can take locks that stop the counting."""

_LONGEST: Final = 504
"""Bytes of a path: SQLite's 512, with ``-journal`` at its end."""

_SMALLEST: Final = 512
"""Bytes of the smallest database that is not empty. SQLite takes a file of a few bytes for an empty one."""

_SPACE: Final = 64 * 1024
"""About what each of the files of an empty store takes."""


_Identity = tuple[int, int, int, int]
"""Device and inode of a file, and those of its directory entry: if that became a link to the same file, the
next start would look for the log beside the file that the link leads to.
"""


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
        self._present: dict[Path, _Identity] = {}
        """What each file was when it was opened."""
        self._size = 0
        """Of the database after the last commit, in bytes: it never becomes smaller."""
        with contextlib.ExitStack() as descriptors:
            locks.lock_file(path, self._open(_beside(path, ".lock"), descriptors))
            _refuse_unusable(path)
            self._database = self._open(path, descriptors)
            locks.lock_database(path, self._database)
            self._descriptors = descriptors.pop_all()

    def add_files_of_sqlite(self) -> None:
        """Check from now on those, too, that SQLite made or found beside the database. Raises StoreError."""
        # To be read later; closed with the others, as the end of a descriptor takes SQLite's locks away.
        self._index, _ = _open(self._shared, os.O_CREAT, self._descriptors)
        for path in (self._log, self._shared):
            with contextlib.suppress(FileNotFoundError):
                _make_private(path, found := path.stat())
                self._present[path] = _identity(path, found)
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
                same = _identity(path, found) == identity
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

    def command_asks(self, credentials: str) -> bool:
        """See ``base.Store``. Raises StoreError."""
        return locks.command_has_locked(self._path, self._database, lock_number(credentials))

    def close(self) -> None:
        """After SQLite's connection: an earlier end of our descriptor would take SQLite's locks away."""
        self._descriptors.close()

    def _open(self, path: Path, descriptors: contextlib.ExitStack) -> int:
        descriptor, found = _open(path, os.O_CREAT, descriptors)
        _make_private(descriptor, found)
        self._present[path] = _identity(path, found)
        return descriptor


def _identity(path: Path, found: os.stat_result) -> _Identity:
    here = path.lstat()
    return found.st_dev, found.st_ino, here.st_dev, here.st_ino


def exposed_files(path: Path, *, opened: bool) -> str | None:
    """What lets others read the files, or stop the counting by a lock, and cannot be changed by this user.

    Before they are ``opened``, what that will change is left out. One line; ``None`` where there is nothing.
    """
    user = os.geteuid()
    for suffix in ("", "-wal", "-shm", ".lock"):
        file = _beside(path, suffix)
        try:
            found = file.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid not in (user, 0):
            what = f"belongs to the user with the number {found.st_uid}, not to this one ({user})"
        elif mode & 0o077 and (opened or user not in (found.st_uid, 0)):
            what = f"is open to other users (mode {mode:04o}), and this one could not change that"
        else:
            continue
        return f"{file}: {what}: others may stop the counting by a lock: chown and chmod 600 all of them"
    return None


def examine_files(path: Path) -> bool:
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
            if file == path and locks.is_locked(path, descriptor):
                raise locks.locked(path)
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
            locks.lock_file(path, file.fileno())
            locks.lock_database(path, file.fileno())
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
    if 0 < _size(path) < _SMALLEST:
        raise StoreCorruptError(damaged(path))
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


def _make_private(file: int | Path, found: os.stat_result) -> None:
    """As the umask would have it or not. Where that cannot be done, ``exposed_files`` finds it."""
    if stat.S_IMODE(found.st_mode) != _MODE:
        with contextlib.suppress(OSError):
            os.chmod(file, _MODE)  # noqa: PTH101 - a descriptor, where there is one
