"""What changes when a file does: for files that are read again while the program runs.

Knows the file system's facts about a file; must not know what is in it.
"""

from __future__ import annotations

import os

FileStamp = tuple[int, int, int, int, int]


def stamp_of(facts: os.stat_result) -> FileStamp:
    """Another one once the file is replaced or rewritten, even by a copy with the old one's date and size."""
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
