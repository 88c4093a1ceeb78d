"""Text that is compressed once and sent often: cut in chunks, so that a change compresses anew only what it
touches.

Knows DEFLATE (RFC 1951) and gzip (RFC 1952); knows no metric and no HTTP. A text is immutable.

A chunk ends with a full flush, which makes its compressed form independent of its neighbours: compressed
chunks may be joined in any order, and with fresh ones, into one stream. One stream means one gzip *member*:
two members joined are legal, but httpx and older curl read the first and ignore the second.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from struct import pack
from typing import Final, NamedTuple
from weakref import ref

from exporter.exposition.checksum import Crc

CHUNK: Final = 32_768
"""Characters from which a chunk ends: as far as DEFLATE looks back, so little is lost by beginning anew."""

ALONE: Final = 16_384
"""Characters from which a block is a chunk by itself, whose text is not kept for its neighbours' sake.

Half of ``CHUNK`` costs little in compression.
"""

LEVEL: Final = 4
"""Half the time of level 6 for an eighth more bytes."""

FRESH_LEVEL: Final = 1
"""For what is sent once."""

HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Of a gzip member without name and time, from an unknown system."""


class Chunk:
    """Some neighbouring blocks of a text, and their compressed form, once it is asked for."""

    def __init__(self, blocks: tuple[str, ...]) -> None:
        self.blocks = blocks
        """Empty once only the compressed form is kept."""

    @property
    def plain(self) -> bytes:
        """Made each time: it takes microseconds, and slow readers would keep it in memory."""
        blocks = self.blocks
        if blocks:
            return "".join(blocks).encode()
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(self.deflated)

    @cached_property
    def size(self) -> int:
        """Bytes, before compression."""
        return len(self.plain)

    @cached_property
    def deflated(self) -> bytes:
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        return compressor.compress(self.plain) + compressor.flush(zlib.Z_FULL_FLUSH)

    @cached_property
    def crc(self) -> Crc:
        return Crc.of(self.plain)

    def keep_compressed(self) -> None:
        """Drop the blocks: the compressed form is a twentieth of their size."""
        self.deflated  # noqa: B018  # made of the blocks if nobody has asked for it yet
        self.blocks = ()


Piece = str | Chunk
"""A block of text; or a large one that is a chunk already."""


def piece_of(block: str) -> Piece:
    """A large block as a chunk: where it alone is kept, compressed, its text is not."""
    return Chunk((block,)) if len(block) >= ALONE else block


class ChunkedText:
    """A text made of families of blocks. Chunks equal to those of ``before`` are taken from there."""

    def __init__(self, families: Iterable[Sequence[Piece]] = (), before: ChunkedText | None = None) -> None:
        known = {} if before is None else {chunk.blocks: chunk for chunk in before.chunks}
        self.chunks: tuple[Chunk, ...] = tuple(
            found if isinstance(found, Chunk) else known.get(found) or Chunk(found)
            for found in _cut(families)
        )


class Parts(NamedTuple):
    """A body in the order in which it is sent."""

    size: int
    shared: Iterator[bytes]
    """What all scrapes of one publication have in common: as little of it as possible is made ahead."""
    fresh: bytes


class EncodedBody:
    """Several texts, one after the other: what all scrapes of one publication have in common.

    Whether plain or compressed, whatever did not change since the last one is only copied.
    """

    def __init__(self, texts: tuple[ChunkedText, ...]) -> None:
        self.texts = texts
        self.chunks = [chunk for text in texts for chunk in text.chunks]

    @cached_property
    def _started(self) -> bytes:
        return HEADER + b"".join([chunk.deflated for chunk in self.chunks])

    @cached_property
    def _crc(self) -> int:
        crc = 0
        for chunk in self.chunks:
            crc = chunk.crc.behind(crc)
        return crc

    @cached_property
    def _size(self) -> int:
        return sum(chunk.size for chunk in self.chunks)

    def prepare(self, *, compressed: bool) -> None:
        """Make now what the next scrape would have to make."""
        self._size  # noqa: B018  # computed and kept when first asked for
        if compressed:
            self._started, self._crc  # noqa: B018  # the same

    def plain(self, fresh: bytes = b"") -> Parts:
        """The text, chunk by chunk, and what is fresh behind it."""
        return Parts(self._size + len(fresh), (chunk.plain for chunk in self.chunks), fresh)

    def gzip(self, fresh: bytes = b"") -> Parts:
        """The same as one gzip member; only ``fresh`` is compressed now."""
        compressor = zlib.compressobj(FRESH_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        end = pack("<LL", zlib.crc32(fresh, self._crc), (self._size + len(fresh)) & 0xFFFFFFFF)
        fresh = b"".join((compressor.compress(fresh), compressor.flush(), end))
        return Parts(len(self._started) + len(fresh), iter((self._started,)), fresh)

    def replaced_by(self, later: EncodedBody) -> list[ref[Chunk]]:
        """The chunks that are in this one only."""
        kept = set(later.chunks)
        return [ref(chunk) for chunk in self.chunks if chunk not in kept]


NO_BODY: Final = EncodedBody(())


def _cut(families: Iterable[Sequence[Piece]]) -> Iterator[tuple[str, ...] | Chunk]:
    """Chunks of at least ``CHUNK`` characters, where there are so many.

    A large family begins a chunk of its own: then a block that grows by a digit moves no border beyond its
    family.
    """
    blocks: list[str] = []
    size = 0
    for family in families:
        if blocks and sum(map(_length, family)) >= CHUNK:
            yield tuple(blocks)
            blocks, size = [], 0
        for block in family:
            if isinstance(block, Chunk):
                if blocks:
                    yield tuple(blocks)
                    blocks, size = [], 0
                yield block
                continue
            blocks.append(block)
            size += len(block)
            if size >= CHUNK:
                yield tuple(blocks)
                blocks, size = [], 0
    if blocks:
        yield tuple(blocks)


def _length(piece: Piece) -> int:
    """At least so many characters."""
    return ALONE if isinstance(piece, Chunk) else len(piece)
