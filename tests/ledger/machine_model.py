"""The rules of counting in their plainest form: dictionaries that keep everything, and no thought of speed.

``test_machine.py`` compares the ledger with it. Knows the words of the ledger, but nothing of how it is
kept, except for ``remembered``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from exporter.ledger.gauges import JobGauges
from exporter.ledger.job_index import (
    CORROBORATED,
    EXEMPT,
    EXPIRED,
    FLAGS,
    MISSED_IN_LISTING,
    NEVER,
    UNDATED,
    Job,
)
from exporter.ledger.missing import MissedBy
from exporter.ledger.record import (
    FAILED,
    FINAL_STATES,
    OPEN_STATES,
    SUCCEED,
    UNKNOWN,
    Anomaly,
    LabelSet,
    Record,
    SeriesLabels,
)
from exporter.ledger.sighting import Sighting
from exporter.ledger.totals import (
    ANOMALIES,
    CREATED,
    DURATION_LOWER,
    DURATION_UPPER,
    EXPIRATIONS,
    FAILURES,
    FINISHED,
    FOLDED,
    FOLDED_LABEL_SET,
    INF,
    SKIPPED_MS,
    SUM,
    SYNTHESIZED,
    TEXT_LENGTH,
    TotalKey,
)
from testkit.world import MINUTE, SECOND
from tests.fake_api import ledger_settings

OVERLAP = MINUTE
RULES = ledger_settings(
    overlap=OVERLAP, max_job_age=10 * MINUTE, max_catch_up=20 * MINUTE, window=5 * MINUTE, max_label_sets=3
)
QUIET = 3 * RULES.interval
PATIENCE = 60 * MINUTE
SPACING = {1: OVERLAP // 3, 2: 2 * OVERLAP // 3} | {n: n * 5 * MINUTE for n in range(3, 1000)}
"""How long after the first of so many misses an empty answer counts as one more."""

MinuteKey = tuple[int, str, str, str, str]


def whole(ms: int, unit: int = SECOND) -> int:
    return ms // unit * unit


@dataclass
class Account:
    """One counted job."""

    created: int
    label_set: LabelSet
    state: str = UNKNOWN
    """The open state shown last."""
    end: str = ""
    """SUCCEED, FAILED, max_age or vanished."""
    characters: int | None = None
    last_checked: int = -1
    """When the last check of it as an open job began."""
    undated: bool = False
    flagged: set[Anomaly] = field(default_factory=set)
    rechecks: list[int] = field(default_factory=list)
    """When checks in a row did not show it: those that count; all while the list shows nothing are one."""
    given_up: bool = False
    """Exempt; an open job is still checked."""
    listed: bool = False
    """One of them was a listing; for an undated job a lookup will do."""
    proven: bool = False
    """A listing with other jobs did not show this open one: checks before that no longer count."""

    @property
    def waited_for(self) -> bool:
        return bool(self.rechecks) and not self.given_up


class Model:
    """See the module."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.totals: Counter[TotalKey] = Counter()
        self.minutes: Counter[MinuteKey] = Counter()
        self.characters: Counter[MinuteKey] = Counter()
        self.label_sets: list[LabelSet] = []
        self.baseline = self.settled_until = self.evicted = self.history = 0
        self.catching_up = 0
        self.lose_memory()

    def lose_memory(self) -> None:
        """What no store keeps."""
        self.flagged: set[tuple[Anomaly, str]] = set()
        self.answers = [0]
        """When the list showed anything."""
        self.empty: list[int] = [0, 2**62]
        """Empty answers after that; before a start, nobody knows."""
        self.refuted = False
        self.late = any(
            Anomaly.LATE_RECORD in account.flagged and account.created >= self.evicted
            for account in self.accounts.values()
        )
        """The store keeps the flag: nobody knows what was read again for it."""

    def start(self, now: int) -> None:
        self.baseline = self.settled_until = self.evicted = self.history = whole(now)

    def remembers(self, name: str) -> bool:
        account = self.accounts.get(name)
        return account is not None and (not account.end or account.created >= self.evicted)

    # --- shown ----------------------------------------------------------------------------------------

    def answered(self, at: int) -> None:
        """The list showed something."""
        if self.lists_nothing():
            for account in self.accounts.values():
                if account.waited_for and not account.proven:
                    account.rechecks = [max(at, account.rechecks[0])]
        self.answers.append(at)
        self.empty = []

    def lists_nothing(self) -> bool:
        return bool(self.empty) and self.empty[-1] - self.empty[0] >= QUIET

    def see(self, record: Record, seen: Sighting) -> None:
        self.answered(seen.begun)
        if record.malformed:
            self._count_once(Anomaly.MALFORMED_RECORD, record.key)
        elif record.job_id is not None:
            self.show(record.job_id, record, seen)

    def show(self, name: str, record: Record, seen: Sighting) -> None:
        if self.remembers(name):
            self._show_again(self.accounts[name], record, seen)
        elif (created := self._place(name, record, seen)) is not None:
            self._count(name, created, record, seen)

    def _place(self, name: str, record: Record, seen: Sighting) -> int | None:
        """When a job that is not remembered was created, if it is to be counted."""
        if record.create_time is None:
            if seen.since is None or seen.until is None:
                self._count_once(Anomaly.BAD_CREATE_TIME, name)
                return None
            # What is asked for begins a second before the window that is meant.
            latest = min(seen.until, seen.ended + RULES.max_catch_up)
            return latest if seen.since + 1000 >= self.evicted else None
        after = seen.since is None or seen.since <= record.create_time
        before = seen.until is None or record.create_time <= seen.until
        if not (after and before):
            self._count_once(Anomaly.OUTSIDE_WINDOW, name)
            return None
        return record.create_time if record.create_time >= self.evicted else None

    def _count(self, name: str, created: int, record: Record, seen: Sighting) -> None:
        assert name not in self.accounts, "counted twice"
        label_set = self._fit(record)
        if label_set != (record.job_type, record.tts_service_enum):
            self.totals[FOLDED, "", "", ""] += 1
        account = self.accounts[name] = Account(created, label_set)
        self.totals[CREATED, *label_set, ""] += 1
        if record.create_time is None:
            account.undated = True
            self._flag(account, Anomaly.BAD_CREATE_TIME)
        elif self.baseline <= created < self.settled_until:
            self._flag(account, Anomaly.LATE_RECORD)
            self.late = True
        self._take(account, record, seen)

    def _fit(self, record: Record) -> LabelSet:
        """First come, first served."""
        label_set = (record.job_type, record.tts_service_enum)
        if label_set != FOLDED_LABEL_SET and label_set not in self.label_sets:
            if len(self.label_sets) >= RULES.max_label_sets:
                return FOLDED_LABEL_SET
            self.label_sets.append(label_set)
        return label_set

    def _show_again(self, account: Account, record: Record, seen: Sighting) -> None:
        if account.waited_for and account.created >= self.settled_until:
            self.refuted = True
        if account.given_up and account.created >= self.evicted:
            self.late = True
        if account.rechecks:
            account.last_checked = -1
        account.rechecks, account.given_up, account.proven, account.listed = [], False, False, False
        if account.end:
            ended = account.end in FINAL_STATES
            if record.job_state != account.end if ended else record.job_state in FINAL_STATES:
                self._flag(account, Anomaly.STATE_REGRESSION)
            return
        if account.label_set not in (FOLDED_LABEL_SET, (record.job_type, record.tts_service_enum)):
            account.label_set = self._fit(record)
            self._flag(account, Anomaly.LABEL_CHANGED)
        self._take(account, record, seen)

    def _take(self, account: Account, record: Record, seen: Sighting) -> None:
        if record.text_length is None:
            self._flag(account, Anomaly.MISSING_TEXT_LENGTH)
        elif account.characters is None:
            account.characters = record.text_length
            self._observe(TEXT_LENGTH, account.label_set, RULES.text_length_buckets, record.text_length)
        if record.job_state in FINAL_STATES:
            self._finish(account, record, seen)
            return
        if record.job_state == UNKNOWN:
            self._flag(account, Anomaly.UNKNOWN_STATE)
        account.state = record.job_state
        account.last_checked = max(account.last_checked, seen.begun)
        if seen.begun >= account.created + RULES.max_job_age:
            self._expire(account, "max_age")

    # --- ended ----------------------------------------------------------------------------------------

    def _finish(self, account: Account, record: Record, seen: Sighting) -> None:
        account.end = record.job_state
        self.totals[FINISHED, *account.label_set, account.end] += 1
        fail_class = ""
        if account.end == FAILED:
            fail_class = RULES.classify(record.fail_msg)
            self.totals[FAILURES, *account.label_set, fail_class] += 1
        if account.end == SUCCEED:
            self.totals[SYNTHESIZED, *account.label_set, ""] += account.characters or 0
            self._time(account, seen)
        self._note(account, account.end, fail_class)

    def _time(self, account: Account, seen: Sighting) -> None:
        age = seen.ended - account.created
        unseen = seen.ended - max(account.last_checked, account.created)
        if not account.undated and unseen <= 2 * max(RULES.interval, age // 20):
            self._observe(DURATION_UPPER, account.label_set, RULES.duration_buckets, age)
            before = max(0, account.last_checked - account.created)
            self._observe(DURATION_LOWER, account.label_set, RULES.duration_buckets, before)

    def _expire(self, account: Account, reason: str) -> None:
        account.end = reason
        self.totals[EXPIRATIONS, *account.label_set, reason] += 1
        self._note(account, account.state, reason)

    def _note(self, account: Account, state: str, detail: str) -> None:
        if account.created < self.baseline:  # a backfill leaves out jobs with such texts
            detail += f"@{-1 if account.characters is None else account.characters}"
        key = (account.created // MINUTE, *account.label_set, state, detail)
        self.minutes[key] += 1
        self.characters[key] += account.characters or 0

    def _observe(self, name: str, label_set: LabelSet, bounds: tuple[int, ...], value: int) -> None:
        bucket = next((str(bound) for bound in bounds if value <= bound), INF)
        self.totals[name, *label_set, bucket] += 1
        self.totals[name, *label_set, SUM] += value

    # --- not shown ------------------------------------------------------------------------------------

    def missing(self, since: int, until: int, shown: set[str]) -> set[str]:
        return {
            name
            for name, account in self.accounts.items()
            if self.remembers(name)
            and name not in shown
            and since <= account.created < until
            and not (account.given_up and account.end)
            and not account.undated
        }

    def miss(self, name: str, at: int, missed_by: MissedBy) -> bool:
        """An answer that did not show the job. Returns whether it is no longer waited for."""
        account = self.accounts[name]
        corroborated, lookup = missed_by is MissedBy.LISTING, missed_by is MissedBy.LOOKUP
        if not self.remembers(name) or (account.given_up and account.end):
            return True
        if corroborated and not account.end and not account.proven:
            account.proven, account.rechecks = True, []
        if not corroborated:
            self.empty = [*self.empty[:1], at]
        if not account.rechecks or corroborated or at - account.rechecks[0] >= SPACING[len(account.rechecks)]:
            account.rechecks.append(at)
        account.listed |= not lookup or account.undated
        if not account.end and (corroborated or lookup):
            account.last_checked = max(account.last_checked, at)
        first, last = account.rechecks[0], max(self.answers)
        often = len(account.rechecks) >= 3 and at - first >= OVERLAP and account.listed
        alive = first < last and not self.lists_nothing()
        patient = at - first >= PATIENCE
        account.given_up |= often and (alive or corroborated or patient)
        if not account.end and often and (corroborated or (patient and len(account.rechecks) >= 12)):
            self._expire(account, "vanished")
        return account.given_up

    # --- time -----------------------------------------------------------------------------------------

    def settle(self, until: int, now: int) -> None:
        waited = [a.created for name, a in self.accounts.items() if a.waited_for and self.remembers(name)]
        held = [whole(created) for created in waited if created >= self.settled_until]
        former = self.settled_until
        self.settled_until = max(former, min([until, whole(now - OVERLAP), *held]))
        self.evicted = max(self.evicted, self.settled_until - OVERLAP)
        got_on = now if self.settled_until != former else self.catching_up
        self.catching_up = got_on if now - self.settled_until > 2 * OVERLAP else 0

    def jump(self, now: int) -> int:
        target = whole(now - RULES.max_catch_up)
        if target <= self.settled_until or target <= self.catching_up:
            return 0
        skipped = target - self.settled_until
        self.settled_until = self.evicted = target
        self.catching_up = now
        self.totals[SKIPPED_MS, "", "", ""] += skipped
        return skipped

    def read_back(self, records: list[Record], since: int, seen: Sighting) -> None:
        """Before the first start only what is open counts; the rest is for the gauge."""
        for record in records:
            created = record.create_time
            if created is None or not since <= created < self.history or record.job_id is None:
                continue
            if self.remembers(record.job_id):
                self.show(record.job_id, record, seen)
            elif record.job_state in OPEN_STATES:
                self._count(record.job_id, created, record, seen)
            else:
                self.minutes[created // MINUTE, *self._fit(record), record.job_state, "-"] += 1
        self.history = since

    # --- shown to the outside -------------------------------------------------------------------------

    def gauges(self, now: int) -> JobGauges:
        start = whole(now - RULES.window, MINUTE)
        in_window: Counter[SeriesLabels] = Counter()
        oldest: dict[SeriesLabels, int] = {}
        open_jobs: Counter[SeriesLabels] = Counter()
        for (minute, job_type, service, state, _), jobs in self.minutes.items():
            if minute * MINUTE >= start:
                in_window[job_type, service, state] += jobs
        for account in self.accounts.values():
            if not account.end:
                labels = (*account.label_set, account.state)
                open_jobs[labels] += 1
                in_window[labels] += account.created >= start
                oldest[labels] = min(oldest.get(labels, account.created), account.created)
        shown = dict(+in_window) if self.history <= start else None
        return JobGauges(
            jobs=shown, open_jobs=dict(open_jobs), oldest_open=oldest, counted_until=self.settled_until
        )

    # --- odd things -----------------------------------------------------------------------------------

    def _flag(self, account: Account, anomaly: Anomaly) -> None:
        if anomaly not in account.flagged:
            account.flagged.add(anomaly)
            self.totals[ANOMALIES, "", "", anomaly] += 1

    def _count_once(self, anomaly: Anomaly, name: str) -> None:
        if (anomaly, name) not in self.flagged:
            self.flagged.add((anomaly, name))
            self.totals[ANOMALIES, "", "", anomaly] += 1


def remembered(account: Account) -> Job:
    """What the ledger keeps of a job, from what the model knows of it."""
    flags = sum(FLAGS[anomaly] for anomaly in account.flagged)
    flags |= UNDATED if account.undated else 0
    flags |= EXEMPT if account.given_up else 0
    flags |= CORROBORATED if account.proven else 0
    flags |= MISSED_IN_LISTING if account.listed else 0
    state = account.state if not account.end else account.end if account.end in FINAL_STATES else EXPIRED
    return Job(
        account.created,
        state,
        *account.label_set,
        text_length=NEVER if account.characters is None else account.characters,
        last_checked=account.last_checked,
        misses=len(account.rechecks),
        missing_since=account.rechecks[0] if account.rechecks else 0,
        flags=flags,
    )
