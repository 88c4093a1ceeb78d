"""What must be known of SQLite's write-ahead log (https://www.sqlite.org/walformat.html).

SQLite takes a log that has a damaged place for one that ends there: a crash may leave its last commit half
written. Two commits behind that place are no crash, since each was on the disk before the next began.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

INDEX_HEADER: Final = 20
"""Bytes of the ``-shm`` file that ``size`` wants to see."""

_INDEX: Final = struct.Struct("=14xHI")
"""Bytes a page, and the frames that are part of the database."""

_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_BIG_ENDIAN: Final = 1
"""In the log's magic number: how its checksums read."""

_Sums = tuple[int, int]


def size(index: bytes) -> int:
    """How long the log must be, at least. A page of 65536 bytes is written as 1."""
    page, frames = _INDEX.unpack(index.ljust(INDEX_HEADER, b"\0"))
    page = 65536 if page == 1 else page
    return _HEADER + frames * (_FRAME_HEADER + page) if frames else 0


def has_lost_commits(path: Path) -> bool:
    """Are there commits in the log, other than the last one, that SQLite will not find?"""
    try:
        with path.open("rb") as log:
            return _has_lost_commits(log)
    except OSError:  # there is none, or SQLite will say why it cannot be read
        return False


def _has_lost_commits(log: BinaryIO) -> bool:
    header = log.read(_HEADER)
    if len(header) < _HEADER:
        return False
    magic, _, page, _ = struct.unpack(">4I", header[:16])
    salts, order = header[16:24], ">" if magic & _BIG_ENDIAN else "<"
    sums = _checksum(header[:24], order, (0, 0))
    if sums != struct.unpack(">2I", header[24:]):
        return bool(log.read(1))
    valid, lost = True, 0
    while len(frame := log.read(_FRAME_HEADER + page)) == _FRAME_HEADER + page:
        ours = frame[8:16] == salts  # others are left from before the log began anew
        if valid:
            sums = _checksum(frame[:8] + frame[_FRAME_HEADER:], order, sums)
            valid = ours and sums == struct.unpack(">2I", frame[16:_FRAME_HEADER])
        if not valid and ours and frame[4:8] != bytes(4):
            lost += 1
    return lost > 1


def _checksum(data: bytes, order: str, sums: _Sums) -> _Sums:
    first, second = sums
    for one, other in struct.iter_unpack(f"{order}2I", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
