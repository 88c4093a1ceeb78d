"""CRC-32 of a joined text from those of its parts: zlib has it, Python's zlib module does not show it.

A text is a polynomial over GF(2), first bit highest, and its CRC the remainder by ``POLYNOMIAL``. Putting n
bytes behind a text multiplies it by x to the 8n. Polynomials here are 32 bits, reflected: the highest bit of
the integer is x to the 0.

Why not ``zlib.crc32`` over all parts again: 16 parts of 32 KiB take 0.1 ms so and 0.03 ms joined here, 900 of
them (200 targets) 8.8 ms and 1.7 ms.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Final

import msgspec

POLYNOMIAL: Final = 0xEDB88320
ONE: Final = 1 << 31

Factor = tuple[int, ...]
"""A polynomial, as its products with the sixteen of four bits: a product with any other takes eight steps.

One of four bits is an integer here too, its highest bit x to the 0.
"""


class Crc(msgspec.Struct, frozen=True, gc=False):
    """The CRC of one part, and the factor by which it shifts that of the parts before it."""

    value: int
    shift: Factor
    """x to the 8n, for a part of n bytes."""

    @classmethod
    def of(cls, part: bytes) -> Crc:
        return cls(zlib.crc32(part), _factor(_power(8 * len(part))))

    def behind(self, before: int) -> int:
        """The CRC of everything so far, given that of everything before this part."""
        return _times(before, self.shift) ^ self.value


def _times(some: int, factor: Factor) -> int:
    """The product of two polynomials: four bits at a time, the highest powers first."""
    product = 0
    for place in range(0, 32, 4):
        product = product >> 4 ^ _OVERFLOW[product & 15] ^ factor[some >> place & 15]
    return product


def _factor(polynomial: int) -> Factor:
    products = [0] * 16
    for bit in (8, 4, 2, 1):
        products = [known ^ (polynomial if number & bit else 0) for number, known in enumerate(products)]
        polynomial = _times_x(polynomial)
    return tuple(products)


def _times_x(polynomial: int, times: int = 1) -> int:
    for _ in range(times):
        polynomial = polynomial >> 1 ^ (POLYNOMIAL if polynomial & 1 else 0)
    return polynomial


_OVERFLOW: Final = tuple(_times_x(number, 4) for number in range(16))
"""What the four bits become that a multiplication by x to the 4 moves beyond the 32."""


def _power(exponent: int) -> int:
    """That power of x."""
    result = ONE
    for place in range(exponent.bit_length()):
        if exponent >> place & 1:
            result = _times(result, _square(place))
    return result


@cache
def _square(times: int) -> Factor:
    """x, squared so many times."""
    return _factor(ONE >> 1) if times == 0 else _factor(_times(_square(times - 1)[8], _square(times - 1)))
