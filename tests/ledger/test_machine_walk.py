"""The state machine on long walks: Hypothesis plays short, odd stories; dice play long ones, full of jobs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from testkit.world import MINUTE
from tests.ledger.machine_api import (
    DATED,
    DELAYS,
    FIRST_STATES,
    LABEL_SETS,
    LENGTHS,
    MESSAGES,
    STATES,
    Wanted,
)
from tests.ledger.machine_model import OVERLAP
from tests.ledger.test_machine import LedgerMachine

WALKS = 100
QUICK = 20
"""The others take ten seconds."""
STEPS = 150


class Walk:
    """One walk; equal seeds are equal walks."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.machine = LedgerMachine()

    def begin(self) -> None:
        past = [(self.dice.randrange(300), self._wanted()) for _ in range(6)]
        self.machine.begin(past=past, first=self._some(), latency=self.dice.choice((0, 100)))

    def _wanted(self) -> Wanted:
        choose = self.dice.choice
        return Wanted(
            choose(FIRST_STATES), choose(DELAYS), choose(LABEL_SETS), choose(LENGTHS), choose(DATED)
        )

    def _some(self) -> list[Wanted]:
        return [self._wanted() for _ in range(self.dice.randint(1, 4))]

    def _which(self) -> list[int]:
        return [self.dice.randrange(10**6) for _ in range(self.dice.randint(1, 4))]

    def step(self) -> None:
        actions = self._actions()
        self.dice.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()
        if self.dice.random() < 0.01:
            self.machine.list_nothing(milliseconds=20 * MINUTE, times=4)
        elif self.dice.random() < 0.01:
            self.machine.be_down(minutes=self.dice.choice((10, 21, 45)))
        self._check()

    def _check(self) -> None:
        """All that must always hold."""
        self.machine.the_totals_balance()
        self.machine.everything_is_counted_exactly_once()
        self.machine.nothing_visible_within_the_overlap_is_lost()
        self.machine.memory_holds_what_is_open_or_recent_and_nothing_else()
        self.machine.the_times_are_those_of_the_rules()
        self.machine.the_counts_by_minute_are_those_of_the_ended_jobs()
        self.machine.the_gauges_show_what_is_there()

    def _actions(self) -> list[tuple[int, Callable[[], None]]]:
        """Polls most of all; what turns everything over only now and then."""
        dice, machine = self.dice, self.machine
        yes = dice.random() < 0.5
        return [
            (10, lambda: machine.create(jobs=self._some())),
            (14, lambda: machine.poll(
                seconds=dice.choice((1, 15, 15, 30, 60)), times=dice.randint(1, 3),
                back=dice.randint(1, 3) * OVERLAP,
            )),
            (5, lambda: machine.wait(milliseconds=dice.choice((300, 1000, 15_000, 30_000, 90_000)))),
            (8, lambda: machine.change(
                which=self._which(), wanted=self._wanted(), state=dice.choice(STATES),
                message=dice.choice(MESSAGES),
            )),
            (6, lambda: machine.vanish(which=self._which())),
            (4, lambda: machine.come_back(ended=yes)),
            (4, lambda: machine.sweep_in_part(
                back=dice.randint(0, 300), which=self._which(), filtered=dice.random() < 0.7
            )),
            (2, lambda: machine.read_edge(which=self._which(), up_to=yes)),
            (1, lambda: machine.see_rubbish(digest=dice.choice("ab"))),
            (3 if machine.shown else 0, lambda: machine.replay(which=self._which())),
            (4, lambda: machine.settle(short=dice.randint(0, 90), empty=dice.random() < 0.2, again=yes)),
            (2, lambda: machine.list_nothing(
                milliseconds=dice.choice((15_000, 30_000, 45_000)), times=dice.randint(1, 3)
            )),
            (3 if machine.model.accounts else 0, lambda: machine.look_up(
                which=self._which() * 3, seconds=dice.choice((0, 15, 30))
            )),
            (2, lambda: machine.read_history(seconds=dice.choice((20, 60, 75)), everything=yes)),
            (1, machine.come_to_rest),
            (3, machine.commit),
            (3, lambda: machine.crash(committed=yes)),
        ]  # fmt: skip


@pytest.mark.parametrize(
    "seed", [*range(QUICK), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(QUICK, WALKS))]
)
def test_the_ledger_equals_the_model_on_a_long_walk(seed: int) -> None:
    """Many jobs at once, in every state that the rules know."""
    walk = Walk(seed)
    try:
        walk.begin()
        for _ in range(STEPS):
            walk.step()
    finally:
        walk.machine.teardown()
