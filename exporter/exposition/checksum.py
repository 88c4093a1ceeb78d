"""CRC-32 of a joined text from those of its parts: zlib has it, Python's zlib module does not show it.

A text is a polynomial over GF(2), first bit highest, and its CRC the remainder by ``POLYNOMIAL``. Putting n
bytes behind a text multiplies it by x to the 8n. Polynomials here are 32 bits, reflected: the highest bit of
the integer is x to the 0.

Running ``zlib.crc32`` over all parts again instead was measured: it costs a publication -0.1 to +0.6 ms up to
30 targets, and +4.6 to +4.9 ms at 200 targets.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Final, NamedTuple

POLYNOMIAL: Final = 0xEDB88320
ONE: Final = 1 << 31


class Crc(NamedTuple):
    """The CRC of one part, and the factor by which it shifts that of the parts before it."""

    value: int
    shift: int
    """x to the 8n, for a part of n bytes."""

    @classmethod
    def of(cls, part: bytes) -> Crc:
        return cls(zlib.crc32(part), _power(8 * len(part)))

    def behind(self, before: int) -> int:
        """The CRC of everything so far, given that of everything before this part."""
        return _times(self.shift, before) ^ self.value


def _times(some: int, other: int) -> int:
    """The product of two polynomials."""
    product = 0
    while some:
        if some & ONE:
            product ^= other
        some = (some << 1) & 0xFFFFFFFF
        other = (other >> 1) ^ POLYNOMIAL if other & 1 else other >> 1
    return product


def _power(exponent: int) -> int:
    """That power of x."""
    result = ONE
    for place in range(exponent.bit_length()):
        if exponent >> place & 1:
            result = _times(result, _square(place))
    return result


@cache
def _square(times: int) -> int:
    """x, squared so many times."""
    if times == 0:
        return ONE >> 1
    root = _square(times - 1)
    return _times(root, root)
