"""Any order of things: sightings, pages repeated and out of order, partial sweeps, late records, regressions,
vanishing, crashes between any two steps, replays. The ledger must equal a model that is obviously right.
"""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from exporter.ledger.gauges import job_gauges
from exporter.ledger.ledger import Ledger
from exporter.ledger.missing import MissedBy
from exporter.ledger.record import Record
from exporter.ledger.sighting import Sighting
from exporter.ledger.stored import configured_buckets, open_ledger
from exporter.ledger.totals import FOLDED_LABEL_SET
from exporter.ledger.watermarks import Watermarks
from exporter.store.base import Commit
from testkit.world import MINUTE, SECOND, START, quick_store
from tests.ledger.machine_api import JOBS, MANY, MESSAGES, STATES, ApiState, Wanted
from tests.ledger.machine_model import OVERLAP, RULES, MinuteKey, Model, remembered, whole


class LedgerMachine(RuleBasedStateMachine):
    """An API's jobs, the ledger, and the model; a crash throws away what was not committed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = quick_store(Path(self.folder.name) / "books.db")
        self.api = ApiState()
        self.model, self.saved = Model(), Model()
        self.shown: list[tuple[Record, Sighting]] = []
        self.ledger = self._load()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def _load(self) -> Ledger:
        stored = self.store.load("t", "scope", 0, 0)
        self.version = stored.version
        ledger = open_ledger(stored, RULES, ())
        self.read_until = ledger.watermarks.settled_until if ledger.started else 0
        """Up to where complete reads have come: beyond the settled time while missed jobs hold that."""
        self.hidden: set[str] = set()
        """What an empty answer did not show on the way there, and nobody knew of."""
        self.minutes, self.characters = self._stored_minutes()
        return ledger

    # --- the API --------------------------------------------------------------------------------------

    @initialize(
        past=st.lists(st.tuples(st.integers(0, 300), JOBS)),
        first=st.lists(JOBS, min_size=2),
        latency=st.sampled_from((0, 100)),
    )
    def begin(self, past: list[tuple[int, Wanted]], first: list[Wanted], latency: int) -> None:
        self.api.latency = latency
        for age, wanted in past:
            self.api.make(START - age * SECOND, wanted)
        self.ledger.start(self.api.now)
        self.model.start(self.api.now)
        self.read_until = START
        self.commit()
        self.create(first)
        self.poll(seconds=1, times=1, back=OVERLAP)

    @rule(jobs=st.lists(JOBS, min_size=1, max_size=6))
    def create(self, jobs: list[Wanted]) -> None:
        for number, wanted in enumerate(jobs):
            # Some APIs show whole seconds, others fractions.
            self.api.make(self.api.now if number % 2 else whole(self.api.now), wanted)

    @rule(milliseconds=st.sampled_from((300, 1000, 5000, 15_000, 30_000, 90_000)))
    def wait(self, milliseconds: int) -> None:
        self.api.now += milliseconds

    @precondition(lambda self: self.api.things)
    @rule(which=MANY, wanted=JOBS, state=st.sampled_from(STATES), message=st.sampled_from(MESSAGES))
    def change(self, which: list[int], wanted: Wanted, state: str, message: str) -> None:
        """Jobs end, or go back, or turn into another kind."""
        for pick in which:
            thing = self.api.pick(pick)
            thing.record = replace(
                thing.record,
                job_state=state,
                job_type=wanted.label_set[0],
                tts_service_enum=wanted.label_set[1],
                text_length=wanted.length,
                fail_msg=message,
            )

    @precondition(lambda self: self.api.things)
    @rule(which=MANY)
    def vanish(self, which: list[int]) -> None:
        """Records are deleted."""
        for pick in which:
            thing = self.api.pick(pick)
            thing.deleted = thing.exempt = True

    @rule(ended=st.booleans())
    def come_back(self, ended: bool) -> None:
        """What was deleted is listed again, and has perhaps ended meanwhile."""
        for thing in self.api.things.values():
            if thing.deleted and ended:
                thing.record = replace(thing.record, job_state="SUCCEED")
            thing.deleted = False

    # --- looking --------------------------------------------------------------------------------------

    def _sighting(self, since: int | None, until: int | None) -> Sighting:
        return Sighting(self.api.now, self.api.now + self.api.latency, since, until)

    def _show(self, record: Record, sighting: Sighting) -> None:
        self.model.see(record, sighting)
        self.ledger.see(record, sighting)
        self.shown = [*self.shown[-20:], (record, sighting)]

    @rule(back=st.integers(0, 900), which=MANY, filtered=st.sampled_from((True, True, True, False)))
    def sweep_in_part(self, back: int, which: list[int], filtered: bool) -> None:
        """Some of a window's records, in any order, some of them twice; the read was not complete.

        An API whose time filter is off shows others, too: those are never new.
        """
        since = whole(self.api.now) - back * SECOND
        listed = self.api.listed(since if filtered else 0, self.api.now)
        if not filtered:  # such a record must show by itself that it does not belong there
            listed = [record for record in listed if record.create_time is not None]
        for pick in which if listed else ():
            self._show(listed[pick % len(listed)], self._sighting(since, self.api.now))

    @rule(digest=st.sampled_from("ab"))
    def see_rubbish(self, digest: str) -> None:
        """An element that is no record at all."""
        rubbish = Record(None, None, "unknown", "unknown", "unknown", malformed=digest)
        self._show(rubbish, self._sighting(START, self.api.now))

    @precondition(lambda self: self.shown)
    @rule(which=MANY)
    def replay(self, which: list[int]) -> None:
        """What was shown before is shown again: an old answer, counted once more."""
        for pick in which:
            self._show(*self.shown[pick % len(self.shown)])

    def _read(self, since: int, until: int, *, empty: bool = False) -> None:
        """A complete read of a window, asked for a second wider; or the API shows nothing, and means it."""
        asked = since - SECOND
        listed = [] if empty else self.api.listed(asked, until)
        shown = {record.job_id for record in listed if record.job_id is not None}
        if empty:
            self.hidden |= {str(record.job_id) for record in self.api.listed(asked, until)}
        for record in listed:
            self._show(record, self._sighting(asked, until))
        missing = self.ledger.missing(since, until, shown)
        assert set(missing) == self.model.missing(since, until, shown)
        for name in missing:
            self._miss(name, MissedBy.LISTING if listed else MissedBy.EMPTY_LISTING)

    @rule(which=MANY, up_to=st.booleans())
    def read_edge(self, which: list[int], up_to: bool) -> None:
        """A window that ends, or begins, with the very second of a job."""
        for pick in which:
            second = whole(self.api.pick(pick).created)
            since = second - 30 * SECOND if up_to else second
            self._read(since, since + 30 * SECOND)

    def _miss(self, name: str, missed_by: MissedBy) -> None:
        before = self.model.accounts[name].given_up
        gone = self.model.miss(name, self.api.now, missed_by)
        assert self.ledger.miss(name, self.api.now, missed_by) == gone
        news = self.model.accounts[name].given_up and not before
        assert self.ledger.missing_jobs.take_exempt() == ([name] if news else [])

    @rule(
        short=st.integers(0, 120),
        empty=st.sampled_from((False, False, False, True)),
        again=st.sampled_from((False, False, False, True)),
    )
    def settle(self, short: int, empty: bool, again: bool) -> None:
        """A complete read from where the last one ended, or once more of what lies before."""
        if self.read_until < self.model.evicted:
            self.read_until = self.model.settled_until
        since = self.model.evicted if again else self.read_until
        until = whole(self.api.now) - short * SECOND
        if until < since:
            return
        self._read(since, until, empty=empty)
        until = max(until, self.read_until)
        self.read_until = max(self.read_until, min(until, whole(self.api.now - OVERLAP)))
        self._settle(until)

    def _settle(self, until: int) -> None:
        assert self.ledger.take_late() == self.model.late
        refuted = self.ledger.missing_jobs.take_shown_after_all()
        assert refuted == self.model.refuted
        assert not self.ledger.take_late()
        assert not self.ledger.missing_jobs.take_shown_after_all()
        self.model.late = self.model.refuted = False
        if refuted:  # the reads that missed a job were not complete: they are made again
            until = self.read_until = self.model.settled_until
            self.hidden.clear()
        self.ledger.settle(until, self.api.now)
        self.model.settle(until, self.api.now)
        for name in self.hidden:
            self.api.things[name].exempt |= self.api.things[name].created < self.model.settled_until

    @rule(
        seconds=st.sampled_from((1, 15, 15, 30, 60)),
        times=st.integers(1, 6),
        back=st.sampled_from((OVERLAP, 2 * OVERLAP, 3 * OVERLAP)),
    )
    def poll(self, seconds: int, times: int, back: int) -> None:
        """As the program does: what is new, with some of what is not, what is old enough, what was missed."""
        self.commit()
        for _ in range(times):
            self.api.now += seconds * SECOND
            self._read(whole(self.api.now) - back, whole(self.api.now) + OVERLAP)
            self.settle(short=0, empty=False, again=False)
            for name in sorted(self.ledger.missing_jobs.blocking):
                self._look_for(name)

    @rule(milliseconds=st.sampled_from((15_000, 45_000, 20 * MINUTE)), times=st.integers(2, 5))
    def list_nothing(self, milliseconds: int, times: int) -> None:
        """The API lists nothing at all for a while."""
        self.commit()
        for _ in range(times):
            self.api.now += milliseconds
            self.settle(short=0, empty=True, again=True)

    @precondition(lambda self: self.model.accounts)
    @rule(which=MANY, seconds=st.sampled_from((0, 15, 30)))
    def look_up(self, which: list[int], seconds: int) -> None:
        """The latest jobs asked for by their ids, one after the other."""
        names = sorted(self.model.accounts)[-12:]
        for pick in which:
            self.api.now += seconds * SECOND
            self._look_up(names[pick % len(names)])

    def _look_up(self, name: str) -> None:
        thing = self.api.things[name]
        if thing.deleted or thing.listed > self.api.now:
            self._miss(name, MissedBy.LOOKUP)
        else:
            self._show(thing.record, self._sighting(None, None))

    @rule(seconds=st.sampled_from((20, 60, 75, 240)), everything=st.booleans())
    def read_history(self, seconds: int, everything: bool) -> None:
        """The time before the first start, backwards, or out of the whole list: only what is open counts."""
        until = self.model.history
        since = until - seconds * SECOND
        records = self.api.listed(0, self.api.now) if everything else self.api.listed(since, until)
        sighting = self._sighting(since, until)
        self.model.read_back(records, since, sighting)
        self.ledger.see_history(records, since, sighting)

    @precondition(lambda self: len(self.api.things) > 12)
    @rule(minutes=st.sampled_from((10, 21, 45)))
    def be_down(self, minutes: int) -> None:
        """Nobody reads for longer than is caught up: that stretch is skipped, and counted."""
        self.api.now += minutes * MINUTE
        before = self.model.settled_until
        assert self.ledger.jump(self.api.now) == self.model.jump(self.api.now)
        for thing in self.api.things.values():
            thing.exempt |= before <= thing.created < self.model.settled_until

    @precondition(lambda self: self.api.listed(0, self.api.now))
    @rule()
    def come_to_rest(self) -> None:
        """However it was before: complete reads of a list that shows something settle everything."""
        for _ in range(8):
            self.api.now += 30 * SECOND
            self.ledger.missing_jobs.showed_something(self.api.now)
            self.model.answered(self.api.now)
            for name in sorted(self.ledger.missing_jobs.blocking):
                self._look_for(name)
            self.settle(short=0, empty=False, again=False)
        assert self.ledger.watermarks.settled_until == whole(self.api.now - OVERLAP)
        assert not self.ledger.missing_jobs.blocking

    def _look_for(self, name: str) -> None:
        """A missed job once more: by listing its second, if it has one."""
        account = self.model.accounts[name]
        if account.undated:
            self._look_up(name)
        elif self.model.remembers(name):
            second = whole(account.created)
            self._read(second, second + SECOND)

    # --- the store ------------------------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        commit = Commit(
            version=self.version,
            changes=self.ledger.changes(),
            project_id="p",
            last_complete_poll=None,
            buckets=configured_buckets(RULES),
            keep_minutes_since=0,
        )
        self.store.commit("t", "scope", commit)
        self.ledger.committed()
        self.version += 1
        self.saved = copy.deepcopy(self.model)
        self.saved.lose_memory()
        self.minutes, self.characters = self._stored_minutes()
        stored, changes = self.store.load("t", "scope", 0, 0), self.ledger.changes()
        assert stored.jobs == dict(self.ledger.jobs.items())
        assert stored.totals == self.ledger.totals.values
        assert stored.label_sets == self.ledger.label_sets.known
        assert stored.watermarks == self.ledger.watermarks
        assert not any((changes.jobs, changes.evicted, changes.totals, changes.minutes, changes.label_sets))

    @rule(committed=st.booleans())
    def crash(self, committed: bool) -> None:
        """Everything since the last commit is gone, in the ledger and in the model."""
        if committed:
            self.commit()
        self.model = copy.deepcopy(self.saved)
        self.ledger = self._load()

    def _stored_minutes(self) -> tuple[Counter[MinuteKey], Counter[MinuteKey]]:
        """Jobs and characters."""
        rows = self.store.db.execute(
            "SELECT minute, job_type, tts_service_enum, state, detail, jobs, characters FROM minutes"
        ).fetchall()
        return Counter({tuple(row[:5]): row[5] for row in rows}), Counter(
            {tuple(row[:5]): row[6] for row in rows}
        )

    # --- what must always hold --------------------------------------------------------------------------

    @invariant()
    def the_totals_balance(self) -> None:
        assert self.ledger.imbalance() == 0

    @invariant()
    def everything_is_counted_exactly_once(self) -> None:
        """Totals by label, histograms and anomalies included."""
        counted = {key: value for key, value in self.ledger.totals.values.items() if value}
        expected = {key: value for key, value in self.model.totals.items() if value}
        assert counted == expected, "the ledger (left) and tests/ledger/machine_model.py (right) differ"
        label_sets = [
            label_set for label_set in self.ledger.label_sets.known if label_set != FOLDED_LABEL_SET
        ]
        assert label_sets == self.model.label_sets

    @invariant()
    def nothing_visible_within_the_overlap_is_lost(self) -> None:
        for name, thing in self.api.things.items():
            if not thing.exempt and thing.created < self.model.settled_until:
                assert name in self.model.accounts

    @invariant()
    def memory_holds_what_is_open_or_recent_and_nothing_else(self) -> None:
        model = self.model
        wanted = {
            name: remembered(account) for name, account in model.accounts.items() if model.remembers(name)
        }
        assert dict(self.ledger.jobs.items()) == wanted
        waited_for = {name for name in wanted if model.accounts[name].waited_for}
        assert {name for name in self.ledger.missing_jobs.blocking if name in wanted} == waited_for
        assert all(self.ledger.jobs.open_by_minute.values())

    @invariant()
    def the_times_are_those_of_the_rules(self) -> None:
        if self.ledger.started:
            model = self.model
            assert self.ledger.watermarks == Watermarks(
                model.baseline, model.settled_until, model.evicted, model.history, model.catching_up
            )

    @invariant()
    def the_counts_by_minute_are_those_of_the_ended_jobs(self) -> None:
        jobs, characters = Counter(self.minutes), Counter(self.characters)
        for key, (more, more_characters) in self.ledger.minutes.pending.items():
            jobs[key] += more
            characters[key] += more_characters
        assert jobs == self.model.minutes
        for minute in {key[0] for key in jobs}:
            known = sum(number for key, number in jobs.items() if key[0] == minute)
            assert self.ledger.minutes.density(minute) == known
        assert characters == self.model.characters

    @invariant()
    def the_gauges_show_what_is_there(self) -> None:
        if self.ledger.started:
            assert job_gauges(self.ledger, self.api.now) == self.model.gauges(self.api.now)


TestMachine = pytest.mark.slow(LedgerMachine.TestCase)
TestMachine.settings = settings(max_examples=120, stateful_step_count=50)
