"""Output files are written whole, and what is no regular file is never replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from exporter.commands.console import check_folder, whole_file


def _write(path: Path) -> None:
    check_folder(path)
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


def test_a_link_to_an_open_descriptor_is_written_to(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        _write(Path(f"/dev/fd/{write}"))
        assert os.read(read, 10) == b"new"
    finally:
        os.close(read)
        os.close(write)
