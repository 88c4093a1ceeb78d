"""A checksum of parts is the checksum of the whole."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.exposition.checksum import Crc


@pytest.mark.slow
@given(parts=st.lists(st.binary(max_size=300), max_size=8))
@settings(max_examples=200)
def test_parts_give_the_checksum_of_the_whole(parts: list[bytes]) -> None:
    """In whatever pieces, empty ones included."""
    crc = 0
    for part in parts:
        crc = Crc.of(part).behind(crc)
    assert crc == zlib.crc32(b"".join(parts))


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 65_535, 3_000_001])
def test_any_length(size: int) -> None:
    """Also far beyond what a scrape has."""
    before, part = b"before", bytes(size)
    assert Crc.of(part).behind(zlib.crc32(before)) == zlib.crc32(before + part)
