"""What polls cost in list requests: never much more than the rules of counting force on any poller."""

from __future__ import annotations

import pytest

from benchmarks.poll_cost import WORKLOADS, run


@pytest.mark.parametrize("name", ["quiet", "catch-up"])
def test_polls_cost_at_most_a_fifth_more_than_the_rules_force(name: str) -> None:
    """Requests are counted, not timed, and the seed is fixed: every run gives the same numbers."""
    (workload,) = (one for one in WORKLOADS if one.name == name)
    costs = run(workload)
    assert costs.polls > 0
    assert costs.ours / costs.bound <= 1.2
