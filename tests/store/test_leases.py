"""How targets are spread over replicas: evenly, the same on each, and moved only when they must be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.store.leases import LeaseTable, spread

REPLICAS = st.sampled_from("ABCD")
TARGETS = st.sampled_from("tuvwxyz")
TABLES = st.builds(
    LeaseTable,
    st.dictionaries(REPLICAS, st.frozensets(TARGETS)),
    st.dictionaries(TARGETS, st.sampled_from("ABCDE")),
    st.just({}),
)


def table(replicas: str, held: str, targets: str = "tuvwx") -> LeaseTable:
    """All replicas can poll all targets; ``held`` has a replica, or a dot, for each."""
    holders = {target: holder for target, holder in zip(targets, held, strict=True) if holder != "."}
    return LeaseTable({replica: frozenset(targets) for replica in replicas}, holders, {})


@pytest.mark.parametrize(
    ("replicas", "held", "expected"),
    [
        ("A", ".....", "AAAAA"),
        ("AB", "AAAAA", "AAABB"),
        ("ABC", "AABBC", "AABBC"),
        ("AB", "AABBC", "AABBA"),
        ("ABC", "AABBA", "AABBC"),
        ("ABC", "AAABB", "AACBB"),
        ("BC", ".....", "BCBCB"),
    ],
    ids=["alone", "one-joins", "even", "one-died", "it-is-back", "one-of-three-joins", "after-a-release"],
)
def test_targets_are_spread(replicas: str, held: str, expected: str) -> None:
    assert "".join(spread(table(replicas, held)).values()) == expected


@given(TABLES)
def test_every_target_has_one_replica_that_can_poll_it(leases: LeaseTable) -> None:
    placed = spread(leases)
    assert placed.keys() == frozenset().union(*leases.replicas.values())
    assert all(target in leases.replicas[replica] for target, replica in placed.items())


@given(TABLES)
def test_what_was_spread_stays(leases: LeaseTable) -> None:
    """Once each replica holds what it shall, nothing moves any more."""
    placed = spread(leases)
    assert spread(LeaseTable(leases.replicas, placed, {})) == placed


@given(st.integers(1, 4), st.lists(st.sampled_from("ABCDE."), min_size=1, max_size=7))
def test_no_target_moves_without_need(live: int, held: list[str]) -> None:
    """Where all can poll all: the loads differ by one at most, and no fewer moves would do."""
    replicas, targets = "ABCD"[:live], "tuvwxyz"[: len(held)]
    leases = table(replicas, "".join(held), targets)
    placed = spread(leases)
    loads = Counter(placed.values())
    assert max(loads.values()) - min(loads[replica] for replica in replicas) <= 1
    kept = sum(leases.holder(target) == replica for target, replica in placed.items())
    before = Counter(holder for target in targets if (holder := leases.holder(target)))
    low, more = divmod(len(held), live)
    most = [low + 1] * more + [low] * (live - more)
    assert kept == sum(
        min(holding, limit) for (_, holding), limit in zip(before.most_common(), most, strict=False)
    )
