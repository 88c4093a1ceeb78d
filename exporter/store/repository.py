"""One target's ledger and its store, kept equal: load, count, commit, publish (rule R10).

Between two commits the ledger is ahead of the store; only what is committed is published. After any error of
the store the ledger is dropped and loaded anew: facts are read again, nothing is guessed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from msgspec.structs import replace

from exporter.errors import ScopeChangedError, StoreCorruptError, StoreError
from exporter.failures import RecentFailures
from exporter.ledger.changes import Rules
from exporter.ledger.chart import chart_start, last_hour
from exporter.ledger.gauges import gauge_start, gauges
from exporter.ledger.ledger import Ledger
from exporter.ledger.snapshot import Activity, PollCost, TargetView
from exporter.ledger.stored import buckets, open_ledger
from exporter.ledger.totals import (
    ANOMALIES,
    CREATED,
    DURATION_LOWER,
    DURATION_UPPER,
    EXPIRED,
    FAILURES,
    FINISHED,
    FIRST_TRIED_MS,
    FOLDED,
    POLL_DURATION,
    POLLS,
    SKIPPED_MS,
    SYNTHESIZED,
    TEXT_LENGTH,
    by_label_set,
    documented_label_sets,
    histograms,
)
from exporter.store.base import Commit, Store

POLL_BUCKETS: Final = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000)
"""Milliseconds."""

NO_COST: Final = PollCost()

SPARE: Final = 3_600_000
"""Minute counts are loaded this much further back (milliseconds) than they are needed."""

T = TypeVar("T")


class LedgerRepository:
    """See the module. Not safe for concurrent use: one poller owns it."""

    def __init__(
        self,
        identity: TargetView,
        *,
        scope: str,
        job_type: str | None,
        service: str | None,
        rules: Rules,
        retention: int,
        store: Store,
        executor: Executor,
    ) -> None:
        self._view = identity
        self._scope = scope
        self._documented = documented_label_sets(job_type, service)
        self.rules = rules
        self._retention = retention
        self._store = store
        self._executor = executor
        self._ledger: Ledger | None = None
        self.loads = 0
        """How often they were read from the store: whatever was known beyond them is void then."""
        self._version = 0
        self._project_id = identity.project_id
        self._last_complete_poll: int | None = None
        self._unsaved: list[tuple[str, int]] = []
        """Polls (outcome, milliseconds) that no commit holds yet: they outlive a store out of order."""
        self._recent = RecentFailures()
        self.problem = ""
        """Why the last poll was not complete, for the status page."""
        self._submitted = 0
        """How many of them are in a commit whose end is not known."""

    @property
    def loaded(self) -> bool:
        return self._ledger is not None

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            raise StoreError(f"target {self._view.target}: the books are not loaded")
        return self._ledger

    def succeed(self, old: LedgerRepository) -> None:
        """Before the first load: take over what only memory holds from the same target's former books.

        The old ones let their ledger go, so that two of them never need room at the same time.
        """
        old.drop()
        self._version, self._submitted = old._version, old._submitted
        self._unsaved = list(old._unsaved)
        self._recent, self.problem = old._recent, old.problem
        self._recent.reclassify(self.rules.classify)

    async def load(self, wall_now: int) -> None:
        """Read the books from the store. Raises StoreError, ScopeChangedError."""
        keep = max(self.rules.window, self.rules.max_job_age, 2 * self.rules.overlap) + SPARE
        stored = await self._in_thread(
            lambda: self._store.load(self._view.target, self._scope, wall_now, keep)
        )
        if stored.version == self._version + 1:
            # The commit that was given up (cancelled, or its answer lost) was made all the same.
            del self._unsaved[: self._submitted]
        self._submitted = 0
        self._version = stored.version
        self._last_complete_poll = stored.last_complete_poll
        if stored.project_id:
            self.claim_project(stored.project_id)
        self._recent.dropped()
        ledger = open_ledger(stored, self.rules, self._documented)
        if off := ledger.imbalance():
            raise StoreCorruptError(
                f"the stored books of target {self._view.target!r} do not balance (by {off}): the store was"
                " changed from outside: move it away to start new books (an honest reset)"
            )
        self._ledger = ledger
        self._ledger.recent = self._recent
        self.loads += 1

    def claim_project(self, project_id: str) -> None:
        """These books belong to that project (R11). Raises ScopeChangedError when they belong to another."""
        if self._project_id and self._project_id != project_id:
            raise ScopeChangedError(
                f"target {self._view.target!r} was counted for another project than the one now configured:"
                " use a new target name, so that different things are not added up"
            )
        self._project_id = project_id

    def drop(self) -> None:
        """Forget what is not committed."""
        self._ledger = None

    def poll_ended(self, outcome: str, milliseconds: int, wall_now: int) -> None:
        """Count a poll; the next commit stores it."""
        self._unsaved.append((outcome, milliseconds))
        if outcome == "complete":
            self._last_complete_poll = wall_now

    async def commit(self, now: int | None) -> None:
        """Write everything since the last commit, in one step. On an error the ledger is dropped."""
        ledger = self.ledger
        if now is None:  # the API's clock is not known: nothing is dropped by ours, which may be wrong (R3)
            now = ledger.times.settled_until if ledger.started else 0
        try:
            unsaved = self._submitted = len(self._unsaved)
            for outcome, milliseconds in self._unsaved:
                ledger.totals.add_plain(POLLS, outcome)
                ledger.totals.observe(POLL_DURATION, ("", ""), POLL_BUCKETS, milliseconds)
            commit = Commit(
                version=self._version,
                changes=ledger.changes(),
                project_id=self._project_id,
                last_complete_poll=self._last_complete_poll,
                buckets=buckets(self.rules),
                keep_minutes_since=now - self._retention,
            )
            await self._in_thread(lambda: self._store.commit(self._view.target, self._scope, commit))
        except BaseException:
            self.drop()
            raise
        self._version += 1
        self._submitted = 0
        del self._unsaved[:unsaved]
        ledger.committed()
        keep = max(self.rules.window, self.rules.max_job_age, 2 * self.rules.overlap)
        ledger.minutes.prune(min(gauge_start(ledger, now), chart_start(now)), now - keep)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run in the store's thread. A cancelled caller leaves a commit to finish, whole, on its own."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def view(
        self,
        *,
        now: int | None,
        up: bool,
        skew_ms: int | None,
        believed_skew_ms: int | None = None,
        clocks_disagree: bool = False,
        cost: PollCost = NO_COST,
    ) -> TargetView:
        """What may be published: the books as committed. ``now`` is on the API's clock, if it is known."""
        view = self._view
        if self._ledger is not None:
            self._view = view = self._counted(self._ledger, now)
        elif self._unsaved:
            polls = Counter(view.polls)
            polls.update(outcome for outcome, _ in self._unsaved)
            view = replace(view, polls=dict(polls))
        return replace(
            view,
            up=up,
            clock_skew_ms=skew_ms,
            believed_skew_ms=believed_skew_ms,
            clocks_disagree=clocks_disagree,
            problem=self.problem,
            last_poll_requests=cost.requests,
            poll_budget=cost.budget,
        )

    def _counted(self, ledger: Ledger, now: int | None) -> TargetView:
        groups = ledger.totals.grouped()
        rules, exemplars = self.rules, ledger.exemplars
        now = now if now is not None or not ledger.started else ledger.times.settled_until + rules.overlap
        return replace(
            self._view,
            project_id=self._project_id,
            label_sets=ledger.label_sets.known,
            created=by_label_set(groups.get(CREATED, {})),
            finished=groups.get(FINISHED, {}),
            failures=groups.get(FAILURES, {}),
            failure_exemplars=exemplars.of(FAILURES),
            expired=groups.get(EXPIRED, {}),
            synthesized_characters=by_label_set(groups.get(SYNTHESIZED, {})),
            text_length=histograms(groups.get(TEXT_LENGTH, {}), rules.text_length_buckets),
            duration_upper_bound=histograms(
                groups.get(DURATION_UPPER, {}), rules.duration_buckets, exemplars.of(DURATION_UPPER)
            ),
            duration_lower_bound=histograms(
                groups.get(DURATION_LOWER, {}), rules.duration_buckets, exemplars.of(DURATION_LOWER)
            ),
            gauges=None if now is None else gauges(ledger, now),
            activity=Activity() if now is None else self._activity(ledger, now),
            first_tried=None if ledger.started else ledger.totals.plain(FIRST_TRIED_MS) or None,
            counting_since=ledger.times.baseline if ledger.started else None,
            anomalies=ledger.totals.by_detail(ANOMALIES),
            skipped_ms=ledger.totals.plain(SKIPPED_MS),
            label_sets_folded=ledger.totals.plain(FOLDED),
            polls=ledger.totals.by_detail(POLLS),
            poll_duration=histograms(groups.get(POLL_DURATION, {}), POLL_BUCKETS).get(("", "")),
            last_complete_poll=self._last_complete_poll,
        )

    def _activity(self, ledger: Ledger, now: int) -> Activity:
        minutes = last_hour(ledger, now)
        return Activity(minutes, self._recent.failures(now), self._recent.unclassified())
