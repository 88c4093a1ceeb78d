"""Memory goes back to the system after a crowd, and not all the time."""

from __future__ import annotations

import pytest

from exporter.process import give_memory_back
from exporter.web.memory import MemoryTrimmer


@pytest.mark.parametrize(
    ("connections", "times"),
    [
        ([500, 500, 249], 1),
        ([500, 260, 500], 0),
        ([500, 100, 0], 2),
        ([500, 40, 30, 0], 1),
        ([63, 0], 0),
        ([100, 0, 100, 0], 2),
    ],
    ids=["gone", "still-there", "step-by-step", "the-rest", "few", "again"],
)
def test_memory_is_given_back_when_a_crowd_has_gone(connections: list[int], times: int) -> None:
    """Once for each time that more than half of it left."""
    trims: list[int] = []
    trimmer = MemoryTrimmer(lambda: trims.append(1))
    for number in connections:
        trimmer.update(number)
    assert len(trims) == times


def test_the_c_library_can_be_asked() -> None:
    """Whichever it is, that is no error."""
    give_memory_back()
