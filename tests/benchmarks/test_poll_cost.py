"""What polls cost in list requests: never much more than the rules of counting force on any poller."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from benchmarks.poll_cost import WORKLOADS, Workload, run

SHORT = [replace(one, measured=one.measured / 2) for one in WORKLOADS if one.name != "stuck"]
"""Half of what the benchmark plays; ``test_bound`` plays a part of the other."""


@pytest.mark.slow
@pytest.mark.parametrize("workload", SHORT, ids=lambda workload: workload.name)
def test_polls_cost_at_most_a_fifth_more_than_the_rules_force(workload: Workload) -> None:
    """Requests are counted, not timed, and the seed is fixed: every run gives the same numbers."""
    costs = run(workload)
    assert costs.polls > 0
    assert costs.ours / costs.bound <= 1.2
