"""The lower bound of the benchmark is an optimum: no cheaper way to recheck everything exists."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bound import PAGE, cheapest
from benchmarks.poll_cost import HOUR, Workload, run


def brute_force(items: list[int], stamps: list[int]) -> float:
    """Every way to cut the items into stretches; a single one may be looked up instead."""

    def listed(first: int, last: int) -> float:
        return max(1.0, (bisect_right(stamps, last) - bisect_left(stamps, first)) / PAGE)

    best = float("inf")
    for cuts in product((False, True), repeat=len(items) - 1):
        starts = [0, *(place + 1 for place, cut in enumerate(cuts) if cut)]
        ends = [*(start - 1 for start in starts[1:]), len(items) - 1]
        total = 0.0
        for start, end in zip(starts, ends, strict=True):
            total += 1.0 if start == end else listed(items[start], items[end])
        best = min(best, total)
    return best


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 90)), max_size=12),
)
def test_the_bound_is_what_the_best_of_all_plans_costs(
    items: list[int], records: list[tuple[int, int]]
) -> None:
    """With fractions of pages paid as fractions: nobody can do with less."""
    stamps = sorted([at for at, count in records for _ in range(count)] + items)
    due = sorted(items)

    def count(since: int, until: int) -> int:
        return bisect_right(stamps, until) - bisect_left(stamps, since)

    cost, stretches = cheapest([(at, at) for at in due], count, last_is_listed=False)
    assert cost == pytest.approx(brute_force(due, stamps))
    assert all(any(since <= at <= until for since, until in stretches) for at in due)


@pytest.mark.slow
def test_rechecks_of_stuck_jobs_fill_the_pages_they_cost() -> None:
    """A page shows a hundred jobs for one request: listing only what is due leaves a fifth of that unused."""
    workload = Workload("stuck", 60.0, warm_up=2 * HOUR, measured=HOUR / 2, stuck=0.02)
    costs = run(workload)
    assert costs.ours <= 1.25 * costs.bound
