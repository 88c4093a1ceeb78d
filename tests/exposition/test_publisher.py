"""What the publisher hands on, and what it keeps of targets that have gone."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from msgspec.structs import replace

from exporter.exposition import ApiMetrics, Exposition, Publisher
from exporter.exposition.text import Format
from tests.exposition.views import PROCESS, full_view


@pytest.mark.slow
def test_targets_that_have_gone_leave_nothing_behind() -> None:
    """Neither their numbers nor the text of their labels: a provider's customers come and go."""
    exposition = Exposition(ApiMetrics(0.0), PROCESS, created_timestamps=False)
    publisher = Publisher(exposition)

    def rename(number: int) -> None:
        view = replace(full_view(), target=f"customer-{number}")
        publisher.exchange([view.target], [view])
        exposition.body(Format.PROMETHEUS)

    for number in range(3):
        rename(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(3, 23):
            rename(number)
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 1_000_000, "one target's text alone took 130 KB"
