"""SQLite's write-ahead log, as far as one must look into it (https://www.sqlite.org/walformat.html).

SQLite takes a log that is too short, or that has a damaged place, for one that ends there.
"""

from __future__ import annotations

import struct
from typing import Final

INDEX_HEADER: Final = 20
"""Bytes of the ``-shm`` file that ``size`` wants to see."""

_INDEX: Final = struct.Struct("=14xHI")
"""Bytes a page, and the frames that are part of the database."""

_HEADER: Final = 32
_FRAME_HEADER: Final = 24


def size(index: bytes) -> int:
    """How long the log must be, at least. A page of 65536 bytes is written as 1."""
    page, frames = _INDEX.unpack(index.ljust(INDEX_HEADER, b"\0"))
    page = 65536 if page == 1 else page
    return _HEADER + frames * (_FRAME_HEADER + page) if frames else 0
