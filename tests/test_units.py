"""Seconds and milliseconds."""

from __future__ import annotations

import pytest

from exporter.config import values
from exporter.units import milliseconds


@pytest.mark.parametrize(
    ("text", "expected"), [("1s1ms", 1001), ("290ms", 290), ("3650d", 3650 * 86_400_000)]
)
def test_no_millisecond_of_a_duration_is_lost(text: str, expected: int) -> None:
    """Not even where the seconds are a fraction that a float cannot hold: two bounds would become one."""
    assert milliseconds(values.duration("1ms")(text)) == expected
