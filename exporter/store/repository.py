"""One target's ledger and its store, kept equal: load, count, commit (R10, docs/counting.md).

Between two commits the ledger is ahead of the store; only what is committed is published, but for one thing:
polls that fail because a store of this process alone does not work are shown at once. After any error of
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
from exporter.ledger import (
    BucketChange,
    LabelSet,
    Ledger,
    LedgerSettings,
    StoredLedger,
    TargetView,
    bucket_changes,
    configured_buckets,
    documented_label_sets,
    gauge_start,
    last_hour_start,
    open_ledger,
    take_snapshot,
    totals,
)
from exporter.store.base import Commit, SharedStore, Store

SPARE: Final = 3_600_000
"""Minute counts are loaded this much further back (milliseconds) than they are needed."""

T = TypeVar("T")


def minutes_loaded(settings: LedgerSettings) -> int:
    """How far back minute counts are loaded: as far as any part needs them, and ``SPARE``. Milliseconds.

    Around a remembered job, however old it is, they are needed to plan what its recheck costs.
    """
    return max(settings.window, 2 * settings.overlap) + SPARE


def ledger_from(
    stored: StoredLedger,
    settings: LedgerSettings,
    documented: tuple[LabelSet, ...],
    *,
    target: str,
    project_id: str,
    address: str,
) -> Ledger:
    """A ledger that goes on from what is stored at ``address``; ``project_id`` is empty when it is not known.

    Raises ScopeChangedError, and StoreCorruptError when it does not balance (R12, docs/counting.md).
    """
    if stored.project_id:
        check_project(target, project_id, stored.project_id)
    ledger = open_ledger(stored, settings, documented)
    if off := ledger.imbalance():
        raise StoreCorruptError(
            f"{address}: the stored books of target {target!r} do not balance (by {off}): the store was"
            " changed from outside: move it away to start new books (an honest reset)"
        )
    return ledger


def check_project(target: str, known: str, project_id: str) -> None:
    """A ledger belongs to one project (R11, docs/counting.md). Raises ScopeChangedError."""
    if known and known != project_id:
        raise ScopeChangedError(
            f"target {target!r} was counted for another project than the one now configured:"
            " use a new target name, so that different things are not added up"
        )


class LedgerRepository:
    """A target's ledger, as it is in the store. Not safe for concurrent use: one poller owns it."""

    def __init__(
        self,
        identity: TargetView,
        *,
        scope: str,
        job_type: str | None,
        service: str | None,
        settings: LedgerSettings,
        retention: int,
        store: Store,
        executor: Executor,
    ) -> None:
        self._view = identity
        self._scope = scope
        self._documented = documented_label_sets(job_type, service)
        self.settings = settings
        self._retention = retention
        self._store = store
        self._executor = executor
        self._ledger: Ledger | None = None
        self.loads = 0
        """How often the ledger was loaded: what was read beyond the former one must be read again."""
        self._version = 0
        self._project_id = identity.project_id
        self._last_complete_poll: int | None = None
        self._unsaved: list[tuple[str, int]] = []
        """Polls (outcome, milliseconds) that are in no commit yet: they are kept while the store fails."""
        self._submitted = 0
        """How many of them are in a commit whose end is not known."""
        self._recent_failures = RecentFailures()
        self._buckets_read: tuple[bool, dict[str, tuple[int, ...]]] = (False, {})
        """Of the last read: whether it was a load, and the stored buckets."""
        self._bucket_changes: tuple[BucketChange, ...] = ()
        self.problem = ""
        """Why the last poll was not complete: memory only, but a successor takes it over."""

    @property
    def loaded(self) -> bool:
        return self._ledger is not None

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            raise StoreError(f"target {self._view.target}: the books are not loaded")
        return self._ledger

    def take_over(self, old: LedgerRepository) -> None:
        """Before the first load: take over what only memory has from the same target's former repository.

        That one drops its ledger, so that memory never has two of them at the same time.
        """
        old.drop()
        self._version, self._submitted = old._version, old._submitted
        self._unsaved = list(old._unsaved)
        self._recent_failures, self.problem = old._recent_failures, old.problem
        self._recent_failures.reclassify(self.settings.classify)

    async def load(self, wall_now: int) -> None:
        """Read the ledger from the store. Raises StoreError, ScopeChangedError."""
        keep = minutes_loaded(self.settings)
        stored = await self._in_thread(
            lambda: self._store.load(self._view.target, self._scope, wall_now, keep)
        )
        if stored.version - stored.by_others > self._version:
            # The commit that was given up (cancelled, or its answer lost) was made all the same.
            del self._unsaved[: self._submitted]
        self._submitted = 0
        self._version = stored.version
        self._last_complete_poll = stored.last_complete_poll
        ledger = self._ledger_of(stored)
        self._note_buckets(stored, load=True)
        self._recent_failures.dropped()
        ledger.recent_failures = self._recent_failures
        self._ledger = ledger
        self._view = replace(self._view, lease_held=True)
        self.loads += 1

    def _ledger_of(self, stored: StoredLedger) -> Ledger:
        """Checked, and of this target's project. Raises ScopeChangedError, StoreCorruptError."""
        ledger = ledger_from(
            stored,
            self.settings,
            self._documented,
            target=self._view.target,
            project_id=self._project_id,
            address=self._store.address,
        )
        self._project_id = stored.project_id or self._project_id
        return ledger

    async def follow(self, store: SharedStore, wall_now: int) -> TargetView:
        """What is committed of a target that another process polls; it may not be loaded here.

        Raises StoreError, ScopeChangedError.
        """
        keep = minutes_loaded(self.settings)
        stored = await self._in_thread(
            lambda: store.read_committed(self._view.target, self._scope, wall_now, keep)
        )
        ledger = self._ledger_of(stored)
        self._note_buckets(stored, load=False)
        self._view = take_snapshot(
            replace(self._view, lease_held=False),
            ledger,
            None,
            project_id=self._project_id,
            last_complete_poll=stored.last_complete_poll,
        )
        return self._view

    def _note_buckets(self, stored: StoredLedger, *, load: bool) -> None:
        """Each change once, however often the same is read."""
        if (read := (load, stored.buckets)) != self._buckets_read:
            self._buckets_read, self._bucket_changes = read, bucket_changes(stored, self.settings)

    def new_bucket_changes(self) -> tuple[BucketChange, ...]:
        """Histograms that start anew, or that this process does not show because their holder counts them
        with other buckets: those that this returns for the first time.
        """
        found, self._bucket_changes = self._bucket_changes, ()
        return found

    def set_project(self, project_id: str) -> None:
        """The target is in that project (R11). Raises ScopeChangedError when another one was counted."""
        check_project(self._view.target, self._project_id, project_id)
        self._project_id = project_id

    def drop(self) -> None:
        """Drop the ledger, and with it what is not committed."""
        self._ledger = None

    def poll_ended(self, outcome: str, milliseconds: int, wall_now: int) -> None:
        """Count a poll; the next commit stores it."""
        self._unsaved.append((outcome, milliseconds))
        if outcome == "complete":
            self._last_complete_poll = wall_now

    async def commit(self, now: int | None) -> None:
        """Write everything since the last commit, in one step. On an error the ledger is dropped."""
        ledger = self.ledger
        if now is not None:
            ledger.totals.reach(totals.AS_OF_MS, now)
        if now is None:  # the API's clock is not known: nothing is dropped by ours, which may be wrong (R3)
            now = ledger.watermarks.settled_until if ledger.started else 0
        try:
            unsaved = self._submitted = len(self._unsaved)
            for outcome, milliseconds in self._unsaved:
                ledger.totals.count_poll(outcome, milliseconds)
            commit = Commit(
                version=self._version,
                changes=ledger.changes(),
                project_id=self._project_id,
                last_complete_poll=self._last_complete_poll,
                buckets=configured_buckets(self.settings),
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
        keep = minutes_loaded(self.settings)
        ledger.minutes.prune(
            min(gauge_start(ledger, now), last_hour_start(now)), min(now, ledger.jobs.since(now)) - keep
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run in the store's thread. A cancelled caller leaves a commit to finish, whole, on its own."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def snapshot(self, now: int | None) -> TargetView:
        """What may be published of what is committed. ``now`` is on the API's clock, if it is known.

        While the ledger is not loaded: what was published last, with the polls since then; without them where
        another replica may go on, whose counters would seem to go back.
        """
        if self._ledger is not None:
            self._view = take_snapshot(
                self._view,
                self._ledger,
                now,
                project_id=self._project_id,
                last_complete_poll=self._last_complete_poll,
            )
        elif self._unsaved and not isinstance(self._store, SharedStore):
            polls = Counter(self._view.by_labels(totals.POLLS))
            polls.update(("", "", outcome) for outcome, _ in self._unsaved)
            return replace(self._view, totals={**self._view.totals, totals.POLLS: polls})
        return self._view
