"""A clock that runs faster than ours, and one that has jumped."""

from __future__ import annotations

import pytest

from exporter.ledger import has_jumped


@pytest.mark.parametrize(
    ("gained", "passed", "jumped"),
    [
        (10_000, 0, False),
        (10_001, 0, True),
        (20_000, 1_000, False),
        (20_001, 1_000, True),
        (-60_000, 0, False),
    ],
)
def test_ten_seconds_beyond_ten_times_our_pace_are_a_jump(gained: int, passed: int, jumped: bool) -> None:
    """A fast clock, as simulators have, is none; one that was set back is another matter."""
    assert has_jumped(gained, passed) is jumped
