"""Output files are written whole, and what is no regular file is never replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from exporter.commands.console import check_folder, whole_file
from exporter.errors import ExporterError


def _write(path: Path) -> None:
    check_folder(path)
    with whole_file(path) as file:
        file.write(b"new")


def _write_unchecked(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"new")


def test_a_fifo_is_written_to_and_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _write(fifo)
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    assert list(tmp_path.iterdir()) == [fifo]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_file_is_written(tmp_path: Path, exists: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    _write(link)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [link, target]


def test_a_link_that_leads_to_itself_is_refused_and_stays(tmp_path: Path) -> None:
    """There is no file that could be written."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    for write in (_write, _write_unchecked):
        with pytest.raises(ExporterError, match=f"cannot write {one}: Too many levels of symbolic links"):
            write(one)
    assert one.is_symlink()
    assert sorted(tmp_path.iterdir()) == [one, two]


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """In one line, as before the work so after it."""
    (tmp_path / "file").touch()
    with pytest.raises(ExporterError, match="cannot write"):
        _write(tmp_path / "file" / "out")


def test_a_link_to_an_open_descriptor_is_written_to(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        _write(Path(f"/dev/fd/{write}"))
        assert os.read(read, 10) == b"new"
    finally:
        os.close(read)
        os.close(write)
