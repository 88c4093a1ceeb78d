"""The profile of the benchmark of targets says what work the exporter does, and not what it waits for."""

from __future__ import annotations

import inspect
import threading
from typing import Any, ClassVar

from benchmarks.targets.__main__ import TargetsCost, row
from benchmarks.targets.probe import OTHER, cpu_by_thread, part_of
from exporter.ledger import floor_second


class Noted(int):
    """A number that notes which part of the exporter counts with it."""

    parts: ClassVar[list[str]] = []

    def __mod__(self, other: int) -> int:
        self.parts.append(part_of(inspect.currentframe()))
        return 0


def test_work_belongs_to_the_innermost_package_of_the_exporter() -> None:
    """What a library does for a package is that package's; a test is none of them."""
    assert part_of(inspect.currentframe()) == OTHER
    floor_second(Noted(5))
    assert Noted.parts == ["ledger"]


def test_a_loop_that_waits_does_nothing() -> None:
    """It does for most of the time: that would be most of every profile."""

    def select() -> str:
        return part_of(inspect.currentframe())

    assert select() == ""


def test_threads_are_counted_by_name() -> None:
    """Those of a pool are numbered."""
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait, name=f"pool_{number}") for number in range(2)]
    for thread in threads:
        thread.start()
    used = cpu_by_thread()
    ended.set()
    for thread in threads:
        thread.join()
    assert used["pool"] > 0
    assert used[threading.main_thread().name] > 0


def test_a_poll_is_compared_with_the_first_and_the_last_line() -> None:
    """A single target bears alone what an idle process costs: 20 are what 200 are fairly compared with."""
    nothing: dict[str, Any] = dict.fromkeys(TargetsCost.__struct_fields__, 0) | {"parts": {}}
    costs = [
        TargetsCost(**nothing | {"targets": targets, "cpu_a_poll_ms": cpu})
        for targets, cpu in ((1, 100.0), (20, 20.0), (200, 25.0))
    ]
    assert "| 1.00, 1.00 |" in row(costs[:1])
    assert "| 0.25, 1.25 |" in row(costs)
