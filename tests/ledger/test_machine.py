"""Any order of things: sightings, pages repeated and out of order, partial sweeps, late records, regressions,
vanishing, crashes between any two steps, replays. The books must equal a model that is obviously right.
"""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from exporter.ledger.facts import Sighting
from exporter.ledger.ledger import Ledger
from exporter.ledger.model import FINAL_STATES, OPEN_STATES, Record
from exporter.ledger.opening import StoredBooks, buckets, open_books
from exporter.ledger.times import floor_second
from exporter.ledger.totals import CREATED, EXPIRED, FINISHED
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from tests.fake_api import MINUTE, SECOND, START, rules

OVERLAP = MINUTE
RULES = rules(overlap=OVERLAP, max_job_age=10 * MINUTE, max_catch_up=20 * MINUTE, window=5 * MINUTE)
MANY = st.lists(st.integers(0, 10**6), min_size=1, max_size=8)
"""Which jobs: places in the list of them, in any order, with repetitions."""
PICK = st.integers(0, 10**6)
TYPES = st.sampled_from(("AUDITION", "ASYNC_JOB"))


class Thing:
    """One job in the simulated world."""

    def __init__(self, record: Record, listed: int) -> None:
        self.record = record
        self.listed = listed
        self.deleted = False
        self.exempt = False
        """Out of the guarantee: late beyond the overlap, skipped, or gone before it was ever read."""


class Account:
    """What the model knows of one counted job."""

    def __init__(self, created: int, job_type: str) -> None:
        self.created = created
        self.job_type = job_type
        self.end = ""
        """SUCCEED, FAILED, max_age or vanished."""
        self.misses: list[tuple[int, bool]] = []
        """(when, whether by listing) of the looks in a row that did not show it."""


class Model:
    """The rules in their simplest form: a dictionary of every job ever counted, never forgetting one."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.created: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()

    def show(self, record: Record, at: int, forgotten: int, *, known_only: bool = False) -> None:
        name, created = record.job_id, record.create_time
        assert name is not None
        assert created is not None
        account = self.accounts.get(name)
        if account is None:
            if created < forgotten or known_only:
                return
            account = self.count(name, record)
        account.misses.clear()
        if account.end:
            return
        account.job_type = record.job_type
        if record.job_state in FINAL_STATES:
            self.end(account, record.job_state)
        elif at >= created + RULES.max_job_age:
            self.end(account, "max_age")

    def count(self, name: str, record: Record) -> Account:
        account = self.accounts[name] = Account(record.create_time or 0, record.job_type)
        self.created[record.job_type] += 1
        return account

    def end(self, account: Account, how: str) -> None:
        account.end = how
        self.ended[account.job_type, how] += 1

    def open(self) -> set[str]:
        return {name for name, account in self.accounts.items() if not account.end}


class Machine(RuleBasedStateMachine):
    """A world of jobs, the books, and the model; a crash throws away what was not committed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = SqliteStore(Path(self.folder.name) / "books.db")
        self.store._db.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here: be quick
        self.now = START
        self.things: dict[str, Thing] = {}
        self.version = 0
        self.model, self.saved = Model(), Model()
        self.shown: list[tuple[Record, Sighting]] = []
        self.ledger = self._load()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def _stored(self) -> StoredBooks:
        return self.store.load("t", "scope", 0)

    def _load(self) -> Ledger:
        stored = self._stored()
        self.version = stored.version
        return open_books(stored, RULES, ())

    # --- the world ------------------------------------------------------------------------------------

    @initialize(past=st.lists(st.tuples(st.integers(0, 300), st.sampled_from(("PROCESSING", "SUCCEED")))))
    def begin(self, past: list[tuple[int, str]]) -> None:
        for age, state in past:
            self._make(self.now - age * SECOND - SECOND, state, 0, "AUDITION")
        self.ledger.start(self.now)
        self.commit()

    def _make(self, created: int, state: str, delay: int, job_type: str) -> None:
        name = f"job-{len(self.things):04d}"
        record = Record(name, created, state, job_type, "TTS_LLM", text_length=len(self.things))
        self.things[name] = Thing(record, self.now + delay)
        self.things[name].exempt = delay > OVERLAP or created < START

    @rule(
        count=st.integers(1, 4),
        state=st.sampled_from((*OPEN_STATES, *FINAL_STATES)),
        delay=st.sampled_from((0, 0, 0, 20, 60, 200)),
        job_type=TYPES,
    )
    def create(self, count: int, state: str, delay: int, job_type: str) -> None:
        for _ in range(count):
            self._make(floor_second(self.now), state, delay * SECOND, job_type)

    @rule(seconds=st.sampled_from((1, 5, 15, 30, 90)))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @precondition(lambda self: self.things)
    @rule(which=MANY, state=st.sampled_from((*FINAL_STATES, *FINAL_STATES, *OPEN_STATES)), job_type=TYPES)
    def change(self, which: list[int], state: str, job_type: str) -> None:
        """Jobs end, or go back, or turn into another kind."""
        for pick in which:
            thing = self._pick(pick)
            thing.record = replace(thing.record, job_state=state, job_type=job_type, fail_msg="boom")

    @precondition(lambda self: self.things)
    @rule(pick=PICK, back=st.booleans())
    def vanish(self, pick: int, back: bool) -> None:
        """A record is deleted, or a deleted one is listed again."""
        thing = self._pick(pick)
        thing.deleted, thing.exempt = not back, True

    def _pick(self, pick: int) -> Thing:
        return self.things[sorted(self.things)[pick % len(self.things)]]

    def _listed(self, since: int, until: int) -> list[Record]:
        return [
            thing.record
            for thing in self.things.values()
            if not thing.deleted
            and thing.listed <= self.now
            and since <= (thing.record.create_time or 0) <= until
        ]

    # --- looking --------------------------------------------------------------------------------------

    def _show(self, record: Record, sighting: Sighting) -> None:
        self.model.show(record, sighting.begun, self.ledger.times.forgotten)
        self.ledger.see(record, sighting)
        self.shown = [*self.shown[-20:], (record, sighting)]

    @rule(back=st.integers(0, 900), which=MANY)
    def sweep_in_part(self, back: int, which: list[int]) -> None:
        """Some of a window's records, in any order, some of them twice; the read was not complete."""
        since = floor_second(self.now) - back * SECOND
        listed = self._listed(since, self.now)
        for pick in which if listed else ():
            self._show(listed[pick % len(listed)], Sighting(self.now, self.now, since, self.now))

    @precondition(lambda self: self.shown)
    @rule(which=MANY)
    def replay(self, which: list[int]) -> None:
        """What was shown before is shown again: an old answer, booked once more."""
        for pick in which:
            self._show(*self.shown[pick % len(self.shown)])

    @rule(short=st.integers(0, 120), empty=st.sampled_from((False, False, False, True)))
    def settle(self, short: int, empty: bool) -> None:
        """A complete read from the settled time on; sometimes the API shows nothing, and means it."""
        since = self.ledger.times.settled
        until = min(floor_second(self.now - OVERLAP), floor_second(self.now) - short * SECOND)
        if until < since:
            return
        listed = [] if empty else self._listed(since, until)
        for record in listed:
            self._show(record, Sighting(self.now, self.now, since, until))
        missing = self.ledger.missing(since, until, [str(record.job_id) for record in listed])
        for name in missing:
            self._miss(name, listing=True)
        if self.ledger.take_refuted():
            return
        if empty and not missing:
            self._exempt(since, until)
        self.ledger.settle(until, self.now)
        assert all(self.ledger.jobs.get(name) is not None for name in self.ledger.holds)

    def _exempt(self, since: int, until: int) -> None:
        """The API hid what nobody knew of: beyond any client's power."""
        for name, thing in self.things.items():
            if since <= (thing.record.create_time or 0) <= until and name not in self.model.accounts:
                thing.exempt = True

    @precondition(lambda self: self.model.accounts)
    @rule(pick=PICK)
    def look_up(self, pick: int) -> None:
        """One job asked for by its id."""
        name = sorted(self.model.accounts)[pick % len(self.model.accounts)]
        thing = self.things[name]
        if thing.deleted or thing.listed > self.now:
            self._miss(name, listing=False)
        else:
            self._show(thing.record, Sighting(self.now, self.now, None, None))

    def _miss(self, name: str, *, listing: bool) -> None:
        account = self.model.accounts[name]
        account.misses.append((self.now, listing))
        self.ledger.miss(name, self.now, listing=listing)
        job = self.ledger.jobs.get(name)
        if not account.end and (job is None or not job.open):
            looks = account.misses
            assert len(looks) >= 3
            assert any(by_listing for _, by_listing in looks)
            assert looks[-1][0] - looks[0][0] >= OVERLAP
            self.model.end(account, "vanished")

    @rule(minutes=st.integers(1, 6))
    def read_history(self, minutes: int) -> None:
        """The time before the first start, backwards: only what is open counts."""
        until = self.ledger.times.history
        since = until - minutes * MINUTE
        records = self._listed(since, until)
        for record in records:
            if (record.create_time or 0) >= until:
                continue
            counted = str(record.job_id) in self.model.accounts
            if counted or record.job_state in OPEN_STATES:
                forgotten = self.ledger.times.forgotten if counted else 0
                self.model.show(record, self.now, forgotten)
        self.ledger.see_history(records, since, Sighting(self.now, self.now, since, until))

    @precondition(lambda self: len(self.things) > 12)
    @rule(minutes=st.sampled_from((30, 45)))
    def be_down(self, minutes: int) -> None:
        """Nobody looks for longer than is caught up: that stretch is given up, and said."""
        self.now += minutes * MINUTE
        before = self.ledger.times.settled
        if self.ledger.jump(self.now):
            for thing in self.things.values():
                created = thing.record.create_time or 0
                thing.exempt |= before <= created < self.ledger.times.settled

    @precondition(lambda self: self._listed(0, self.now))
    @rule()
    def come_to_rest(self) -> None:
        """However it was before: complete reads of a list that shows something settle everything."""
        for _ in range(8):
            self.now += 30 * SECOND
            self.ledger.showed_something(self.now)
            self.settle(short=0, empty=False)
        assert self.ledger.times.settled == floor_second(self.now - OVERLAP)

    # --- the store ------------------------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        commit = Commit(
            version=self.version,
            changes=self.ledger.changes(),
            project_id="p",
            last_complete_poll=None,
            buckets=buckets(RULES),
            keep_minutes_since=0,
        )
        self.store.commit("t", "scope", commit)
        self.ledger.committed()
        self.version += 1
        self.saved = copy.deepcopy(self.model)
        stored = self._stored()
        assert stored.jobs == dict(self.ledger.jobs.items())
        assert stored.totals == self.ledger.totals.values
        assert stored.times == self.ledger.times

    @rule()
    def crash(self) -> None:
        """Everything since the last commit is gone, in the books and in the model."""
        self.model = copy.deepcopy(self.saved)
        self.ledger = self._load()

    # --- what must always hold --------------------------------------------------------------------------

    @invariant()
    def the_books_balance(self) -> None:
        if self.ledger.started:
            assert self.ledger.imbalance() == 0

    @invariant()
    def every_job_is_counted_exactly_once(self) -> None:
        created, ended = self._counted()
        assert created == self.model.created
        assert ended == self.model.ended

    def _counted(self) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        created: Counter[str] = Counter()
        ended: Counter[tuple[str, str]] = Counter()
        for (name, job_type, _, detail), value in self.ledger.totals.values.items():
            if name == CREATED:
                created[job_type] += value
            elif name in (FINISHED, EXPIRED):
                ended[job_type, detail] += value
        return created, ended

    @invariant()
    def nothing_visible_within_the_overlap_is_lost(self) -> None:
        if not self.ledger.started:
            return
        settled = self.ledger.times.settled
        for name, thing in self.things.items():
            if not thing.exempt and (thing.record.create_time or 0) < settled:
                assert name in self.model.accounts

    @invariant()
    def memory_holds_what_is_open_or_recent_and_nothing_else(self) -> None:
        if self.ledger.started:
            forgotten = self.ledger.times.forgotten
            accounts = self.model.accounts.items()
            wanted = {name for name, account in accounts if not account.end or account.created >= forgotten}
            assert {name for name, _ in self.ledger.jobs.items()} == wanted
            assert self.ledger.jobs.open_count == len(self.model.open())

    @invariant()
    def the_counts_by_minute_are_those_of_the_ended_jobs(self) -> None:
        stored = {} if not self.version else self._minutes()
        for key, (jobs, _) in self.ledger.minutes.pending.items():
            stored[key[4]] = stored.get(key[4], 0) + jobs
        stored.pop("-", None)
        assert sum(stored.values()) == sum(self.model.ended.values())

    def _minutes(self) -> dict[str, int]:
        rows = self.store._db.execute("SELECT detail, sum(jobs) FROM minutes GROUP BY detail")
        return dict(rows.fetchall())


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=80, stateful_step_count=50)
