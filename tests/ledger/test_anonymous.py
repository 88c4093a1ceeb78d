"""Records without an id: equal ones are counted by their number."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.ledger.anonymous import identify_anonymous
from exporter.ledger.ledger import Ledger
from exporter.ledger.record import FINAL_STATES, Record
from exporter.ledger.totals import CREATED, FINISHED, SYNTHESIZED, TEXT_LENGTH
from testkit.world import MINUTE, SECOND, START
from tests.ledger.support import new_ledger, record, sighting

TURNS = 8
LIFE = st.tuples(
    st.sampled_from("xy"), st.integers(0, 4), st.integers(0, TURNS), st.sampled_from(FINAL_STATES)
)
"""(voice, turn from which on it is listed now and then, turn at which it has ended, how)"""


@given(st.lists(LIFE, max_size=6), st.randoms(use_true_random=False))
def test_equal_records_are_counted_whatever_order_they_end_in(
    lives: list[tuple[str, int, int, str]], random: Random
) -> None:
    """Which of them is which nobody can know, and need not: nothing is counted twice, nothing is lost."""
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
        for name, one in identify_anonymous([record(None, malformed="x"), *shown], ledger.jobs):
            ledger.see_as(name, one, seen)
            names.append(name)
        assert len(set(names)) == len(shown)
        assert ledger.totals.sum(CREATED) <= len(lives)
        assert ledger.imbalance() == 0
    assert ledger.totals.sum(CREATED) == len(lives)
    assert ledger.totals.by_detail(FINISHED) == Counter(how for *_, how in lives)


OTHER_LIFE = st.tuples(
    st.sampled_from((10, 500, 3000)),
    st.sampled_from(("TTS_LLM", "TTS_LAB")),
    st.integers(0, TURNS),
    st.integers(0, TURNS),
    st.sampled_from(FINAL_STATES),
)
"""(text length, service, turn from which on it is listed, turn at which it has ended, how)"""


def show(ledger: Ledger, turn: int, records: list[Record]) -> None:
    for name, one in identify_anonymous(records, ledger.jobs):
        ledger.see_as(name, one, sighting(START + MINUTE + turn * SECOND))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@example([(500, "TTS_LAB", 3, 0, "SUCCEED"), (500, "TTS_LLM", 0, 3, "SUCCEED")], 6, Random(1))
@example(
    [(10, "TTS_LLM", 8, 0, "SUCCEED"), (10, "TTS_LLM", 4, 5, "SUCCEED"), (10, "TTS_LAB", 1, 4, "SUCCEED")],
    5,
    Random(2),
)
@given(st.lists(OTHER_LIFE, max_size=7), st.integers(0, TURNS), st.randoms(use_true_random=False))
def test_equals_of_other_lengths_or_services_count_exactly(
    lives: list[tuple[int, str, int, int, str]], shown_from: int, random: Random
) -> None:
    """Created, finished and characters, by label; also where a text length is shown late."""
    ledger = new_ledger()
    late = len({length for length, *_ in lives}) < 2  # otherwise nobody can know which became which
    for turn in range(TURNS + 1):
        shown = [
            record(
                None,
                state=how if ended <= turn else "WAITING",
                tts_service_enum=service,
                text_length=None if late and turn < shown_from and ended > turn else length,
            )
            for length, service, listed, ended, how in lives
            if listed <= turn
        ]
        random.shuffle(shown)
        show(ledger, turn, shown)
    sums = ledger.totals
    assert sums.sum(CREATED) == len(lives)
    expected = Counter((service, how) for _, service, _, _, how in lives)
    finished = Counter({(key[2], key[3]): n for key, n in sums.values.items() if key[0] == FINISHED})
    assert finished == expected
    assert sums.sum(SYNTHESIZED) == sum(life[0] for life in lives if life[4] == "SUCCEED")
    assert sum(n for key, n in sums.values.items() if key[0] == TEXT_LENGTH and key[3] == "sum") == sum(
        life[0] for life in lives
    )
    assert not sums.by_detail("anomalies").get("label_changed")


@pytest.mark.parametrize(
    ("before", "after", "created"),
    [
        pytest.param({"text_length": 10}, {"text_length": 20}, 2, id="another-length-is-another-job"),
        pytest.param({"text_length": None}, {"text_length": 20}, 1, id="a-length-that-comes-later"),
        pytest.param({"text_length": 20}, {"text_length": None}, 1, id="a-length-that-is-left-out"),
        pytest.param({}, {"tts_service_enum": "TTS_LAB"}, 1, id="a-label-that-changes"),
        pytest.param({"asset_id": "x"}, {"asset_id": "y"}, 2, id="another-voice-is-another-job"),
    ],
)
def test_what_makes_a_record_without_an_id_another_job(
    before: dict[str, Any], after: dict[str, Any], created: int
) -> None:
    """What cannot change in a job's life distinguishes it from others; what may change does not."""
    ledger = new_ledger()
    show(ledger, 0, [record(None, **before)])
    show(ledger, 1, [record(None, state="SUCCEED", **after)])
    assert ledger.totals.sum(CREATED) == created
    assert ledger.totals.sum(FINISHED) == 1
    assert ledger.imbalance() == 0
