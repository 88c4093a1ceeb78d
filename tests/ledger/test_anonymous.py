"""Records without an id: equal ones are counted by their number."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from exporter.ledger.anonymous import identify
from exporter.ledger.model import FINAL_STATES
from exporter.ledger.totals import CREATED, FINISHED
from tests.fake_api import MINUTE, SECOND, START
from tests.ledger.support import new_ledger, record, sighting

TURNS = 8
LIFE = st.tuples(
    st.sampled_from("xy"), st.integers(0, 4), st.integers(0, TURNS), st.sampled_from(FINAL_STATES)
)
"""(voice, turn from which on it is listed now and then, turn at which it has ended, how)"""


@given(st.lists(LIFE, max_size=6), st.randoms(use_true_random=False))
def test_equal_records_are_counted_by_their_number_in_whatever_order_they_end(
    lives: list[tuple[str, int, int, str]], random: Random
) -> None:
    """Which of them is which cannot be told, and need not be: nothing is counted twice, nothing is lost."""
    ledger = new_ledger()
    for turn in range(TURNS + 1):
        shown = [
            record(None, state=how if ended <= turn else "WAITING", asset_id=voice)
            for voice, listed, ended, how in lives
            if listed <= turn and (turn == TURNS or random.random() < 0.8)
        ]
        random.shuffle(shown)
        seen = sighting(START + MINUTE + turn * SECOND)
        names = []
        for name, one in identify([record(None, malformed="x"), *shown], ledger.jobs):
            ledger.see_as(name, one, seen)
            names.append(name)
        assert len(set(names)) == len(shown)
        assert ledger.totals.sum(CREATED) <= len(lives)
        assert ledger.imbalance() == 0
    assert ledger.totals.sum(CREATED) == len(lives)
    assert ledger.totals.by_detail(FINISHED) == Counter(how for *_, how in lives)
