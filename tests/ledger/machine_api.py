"""The API's jobs that ``test_machine.py`` draws: any record, changed in any way. Knows nothing of counting.

No source of pages: the machine hands records to the ledger itself, without a poller.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from exporter.ledger.record import FINAL_STATES, OPEN_STATES, LabelSet, Record
from testkit.world import SECOND, START
from tests.ledger.machine_model import OVERLAP

MANY = st.lists(st.integers(0, 10**6), min_size=1, max_size=8)
"""Which jobs: places in the list of them, in any order, with repetitions."""
STATES = (*FINAL_STATES, *FINAL_STATES, *OPEN_STATES)
FIRST_STATES = (*OPEN_STATES, *OPEN_STATES, *FINAL_STATES)
DELAYS = (0, 0, 0, 20, 60, 70, 90, 200)
LABEL_SETS = (
    *[("AUDITION", "TTS_LLM"), ("AUDITION", "TTS_LLM"), ("ASYNC_JOB", "TTS_LLM"), ("ASYNC_JOB", "TTS_LAB")],
    *[("AUDITION", "NEW"), ("NEW", "NEW"), ("other", "NEW"), ("other", "other")],
)
LENGTHS = (10, 10, 0, 50, 51, 5000, None)
MESSAGES = ("boom", "bang", "")
DATED = (True, True, True, False)


class Wanted(NamedTuple):
    """A job to be made."""

    state: str
    delay: int
    """Seconds until it is listed."""
    label_set: LabelSet
    length: int | None
    dated: bool


JOBS = st.builds(
    Wanted,
    state=st.sampled_from(FIRST_STATES),
    delay=st.sampled_from(DELAYS),
    label_set=st.sampled_from(LABEL_SETS),
    length=st.sampled_from(LENGTHS),
    dated=st.sampled_from(DATED),
)


class Thing:
    """One job."""

    def __init__(self, record: Record, created: int, listed: int) -> None:
        self.record = record
        self.created = created
        """What the API filters by, also where the record does not show it."""
        self.listed = listed
        self.deleted = False
        self.exempt = listed - created > OVERLAP or created < START
        """Out of the guarantee: late beyond the overlap, skipped, hidden, or gone before it was ever read."""


class ApiState:
    """What there is, and when it is."""

    def __init__(self) -> None:
        self.now = START + 300
        self.latency = 100
        """Milliseconds from a request to its answer."""
        self.things: dict[str, Thing] = {}

    def make(self, created: int, wanted: Wanted) -> None:
        name = f"job-{len(self.things):04d}"
        shown = created if wanted.dated else None
        record = Record(name, shown, wanted.state, *wanted.label_set, text_length=wanted.length)
        self.things[name] = Thing(record, created, created + wanted.delay * SECOND)

    def pick(self, pick: int) -> Thing:
        return self.things[sorted(self.things)[pick % len(self.things)]]

    def listed(self, since: int, until: int) -> list[Record]:
        return [
            thing.record
            for thing in self.things.values()
            if not thing.deleted and thing.listed <= self.now and since <= thing.created <= until
        ]
