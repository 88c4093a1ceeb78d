"""One gzip member, whatever was cached and whatever is fresh; and only what changed is compressed again."""

from __future__ import annotations

import gzip
import subprocess
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.exposition import gzip as our_gzip
from exporter.exposition.gzip import Chunk, ChunkedText, EncodedBody, Parts

lines = st.text(alphabet='ab{}="\n é中', max_size=40)
blocks = st.one_of(lines, lines.map(lambda line: line * 1_000))
families = st.lists(st.lists(blocks, max_size=4), max_size=6)
texts = st.lists(families, max_size=3)


def read_one_member(compressed: bytes) -> bytes:
    """As a strict reader does: one member, complete, with the right checksum, and nothing behind it."""
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    text = reader.decompress(compressed) + reader.flush()
    assert reader.eof
    assert reader.unused_data == b""
    return text


def whole(parts: Parts) -> bytes:
    """What is sent: as long as announced."""
    sent = b"".join((*parts.shared, parts.fresh))
    assert len(sent) == parts.size
    return sent


def plain_of(parts: list[list[list[str]]]) -> bytes:
    return "".join(block for families in parts for family in families for block in family).encode()


@pytest.mark.slow
@given(parts=texts, fresh=st.binary(max_size=2_000))
@settings(max_examples=100, deadline=None)
def test_packed_is_plain(parts: list[list[list[str]]], fresh: bytes) -> None:
    """Differential: a strict reader gets what a client without gzip gets; what is cached is shared."""
    body = EncodedBody(tuple(ChunkedText(families) for families in parts))
    assert whole(body.plain(fresh)) == plain_of(parts) + fresh
    assert read_one_member(whole(body.gzip(fresh))) == plain_of(parts) + fresh
    assert next(body.gzip(b"1").shared) is next(body.gzip(b"2").shared)


@pytest.mark.slow
@given(history=st.lists(families, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_text_made_from_its_predecessor_equals_one_made_anew(history: list[list[list[str]]]) -> None:
    """Whatever changed, appeared or went in between."""
    text: ChunkedText | None = None
    for families in history:
        text = ChunkedText(families, text)
        assert read_one_member(whole(EncodedBody((text,)).gzip(b"fresh"))) == plain_of([families]) + b"fresh"


def test_gzip_itself_agrees() -> None:
    """The program that everybody has, and Python's own reader."""
    compressed = whole(EncodedBody((ChunkedText([["a" * 100_000], ["b"]]), ChunkedText([["c"]]))).gzip(b"d"))
    subprocess.run(["gzip", "-t"], input=compressed, check=True, timeout=10)
    assert gzip.decompress(compressed) == b"a" * 100_000 + b"bcd"


def test_an_empty_text_is_a_member_too() -> None:
    """Nothing cached and nothing fresh."""
    assert read_one_member(whole(EncodedBody(()).gzip())) == b""


def family(name: str, changed: int | None = None, size: int = our_gzip.CHUNK) -> list[str]:
    """Ten large blocks, one of them perhaps changed."""
    return [f"{name} {place} {'new' if place == changed else 'old'}" + "x" * size for place in range(10)]


def test_only_what_changed_is_packed_again() -> None:
    """One block of twenty: one chunk of twenty."""
    before = ChunkedText([family("a"), family("b")])
    after = ChunkedText([family("a"), family("b", changed=3)], before)
    assert len(before.chunks) == len(after.chunks) == 20
    assert sum(chunk not in before.chunks for chunk in after.chunks) == 1


def test_a_block_that_grows_moves_no_border_beyond_its_family() -> None:
    """Otherwise one more digit would mean to compress everything behind it again."""
    size = our_gzip.CHUNK // 3
    before = ChunkedText([family("a", size=size), family("b", size=size)])
    grown = family("a", size=size)
    grown[0] += "x" * (2 * size)
    after = ChunkedText([grown, family("b", size=size)], before)
    new = [chunk for chunk in after.chunks if chunk not in before.chunks]
    assert new
    assert all(block.startswith("a") for chunk in new for block in chunk.blocks)


@pytest.mark.parametrize("count", [1, 40], ids=["one", "many"])
def test_small_families_share_a_chunk(count: int) -> None:
    """Each chunk begins without history: forty of one line each would not be compressed at all."""
    assert len(ChunkedText([[f"family {number}\n"] for number in range(count)]).chunks) == 1


@given(blocks=st.lists(blocks, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_chunk_that_is_kept_packed_reads_the_same(blocks: list[str]) -> None:
    """Plain, compressed, size and checksum; and its text is not in memory any more."""
    kept, compressed = Chunk(tuple(blocks)), Chunk(tuple(blocks))
    compressed.keep_compressed()
    compressed.keep_compressed()
    assert (compressed.plain, compressed.deflated, compressed.size, compressed.crc) == (
        kept.plain,
        kept.deflated,
        kept.size,
        kept.crc,
    )
    assert compressed.blocks == ()
