"""File systems without some locks, and files that this user cannot make private."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import StoreError, StoreLockedError
from exporter.store import files
from exporter.store.sqlite import SqliteStore

OF_DESCRIPTOR = (fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK)
UNSUPPORTED = [errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
NO_LOCKS = r"books\.db(\.lock)?: no file can be locked there \(.*use a storage\.url on a local disk"


def without(monkeypatch: pytest.MonkeyPatch, name: str, error: int, *commands: int) -> None:
    """``fcntl.<name>`` ends with this error; of ``fcntl.fcntl`` these commands alone."""
    real = getattr(fcntl, name)

    def refuse(descriptor: int, command: int, *rest: Any) -> Any:
        if not commands or command in commands:
            raise OSError(error, os.strerror(error))
        return real(descriptor, command, *rest)

    monkeypatch.setattr(fcntl, name, refuse)


@pytest.mark.parametrize("error", UNSUPPORTED, ids=errno.errorcode.get)
def test_without_descriptor_locks_the_lock_file_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """A sandbox like gVisor has none, and all that SQLite needs."""
    without(monkeypatch, "fcntl", error, *OF_DESCRIPTOR)
    path = tmp_path / "books.db"
    store = SqliteStore(path)
    with pytest.raises(StoreLockedError, match="another exporter is using this store"):
        SqliteStore(path)
    files.examine_files(path)
    store.close()


@pytest.mark.parametrize("error", UNSUPPORTED, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["fcntl", "flock"])
def test_a_file_system_without_locks_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    """NFS without its lock service: no other exporter holds the store, and nobody has to be stopped."""
    path = tmp_path / "books.db"
    without(monkeypatch, name, error)
    with pytest.raises(StoreError, match=NO_LOCKS):
        files.examine_files(path)
    assert not path.exists()
    with pytest.raises(StoreError, match=NO_LOCKS):
        SqliteStore(path)


def test_another_error_of_a_lock_is_given_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither somebody else's lock nor a missing one."""
    without(monkeypatch, "flock", errno.EIO)
    with pytest.raises(StoreError, match=r"cannot be locked \(Input/output error\)"):
        SqliteStore(tmp_path / "books.db")


# --- files that cannot be made private --------------------------------------------------------------------


def no_chmod(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("suffix", ["", ".lock"])
def test_a_mode_that_cannot_be_changed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Some mounts fix it (SMB): refusing would leave no store at all there, and silence an open one."""
    path = tmp_path / "books.db"
    SqliteStore(path).close()
    file = path.with_name(path.name + suffix)
    file.touch()
    file.chmod(0o644)
    monkeypatch.setattr(os, "chmod", no_chmod)
    store = SqliteStore(path)
    assert str(store.exposed).startswith(f"{file}: is open to other users (mode 0644)")
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_said(tmp_path: Path) -> None:
    """Its owner may open it, whatever its mode; a check says it before a start does."""
    path = tmp_path / "books.db"
    SqliteStore(path).close()
    assert files.exposed_files(path, opened=False) is None
    os.chown(path, 1234, 1234)
    assert f"{path}: belongs to the user with the number 1234" in str(files.exposed_files(path, opened=False))
    store = SqliteStore(path)
    assert f"{path}: belongs to the user with the number 1234" in str(store.exposed)
    store.close()


def test_what_a_start_will_make_private_is_no_problem(tmp_path: Path) -> None:
    """Files of a former version: the mode is this user's to change."""
    path = tmp_path / "books.db"
    SqliteStore(path).close()
    path.chmod(0o644)
    assert files.exposed_files(path, opened=False) is None
    store = SqliteStore(path)
    assert store.exposed is None
    store.close()
