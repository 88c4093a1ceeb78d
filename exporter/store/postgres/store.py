"""The store for several replicas: the same books as in ``sqlite.py``, in a PostgreSQL database.

Each target has a holder, and a *fence*: a number that grows whenever somebody takes the target. ``load``
takes it, unless another live replica holds it; ``commit`` writes in one transaction with the check that the
fence is still the one of the load. So a process that was paused or cut off cannot write after another one
went on, and a commit that was given up cannot come after the next load. Each taking has a random word, too:
where a standby was promoted that lacks the latest ones, the same fence is given once more.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

import msgspec

from exporter import log
from exporter.errors import StoreConflictError, StoreCorruptError, StoreLockedError, StoreVersionError
from exporter.ledger import StoredLedger, Watermarks
from exporter.store.base import RENEWALS, Commit, lock_number
from exporter.store.leases import LeaseTable
from exporter.store.loading import check_scope
from exporter.store.postgres import schema
from exporter.store.postgres.database import Database, Transaction
from exporter.store.postgres.following import Followed, read_followed
from exporter.store.postgres.reading import find_target, read_ledger
from exporter.store.postgres.tables import check_version, make_tables
from exporter.units import MINUTE

logger = logging.getLogger(__name__)

CLAIM_SECONDS: Final = 60.0
"""How long a claim waits for a process that does not end it: longer than a request takes."""
LONGEST_CLAIM: Final = 600.0
"""Seconds: one that seems to last longer was made before the database's clock was set back."""
CLAIM_PAUSE: Final = 0.2
"""Seconds until a claim that another process has may be asked for again."""

_Row = tuple[Any, ...]


class _Held(NamedTuple):
    """A target that was taken."""

    key: int
    """The id of its row."""
    fence: int
    taking: str


class PostgresStore:
    """See ``base.Store``. Opening it makes the tables where there are none. Several threads may use it."""

    def __init__(self, url: str, password: Callable[[], str | None] = lambda: None) -> None:
        """Raises StoreError."""
        self.replica = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        """This process, among those that use the database."""
        self.database = Database(url, password, quiet=True)
        self.address = self.database.address
        self.fences: dict[str, _Held] = {}
        """By target: as it was at the last load."""
        self._followed: dict[str, Followed] = {}
        """By target: what was read of it last while others held it."""
        self._breakers: dict[str, str] = {}
        """Those that this process has read or written last."""
        self._outdated = False
        """Another replica, of a newer version, has upgraded the tables."""
        self._gate = threading.Lock()
        self._command_locks: frozenset[int] = frozenset()
        """By the last renewal."""
        try:
            make_tables(self.database)
        except BaseException:
            self.close()
            raise
        self.database.quiet = False  # what keeps it from starting is raised

    # --- ledgers ----------------------------------------------------------------------------------------

    def load(self, target: str, scope: str, now: int, keep: int) -> StoredLedger:
        """Takes the target. Raises StoreLockedError while another live replica holds it."""
        with self.database.transaction() as transaction:
            self._check_version(transaction)
            held, by_others = self.take(transaction, target, scope)
        self.fences[target] = held
        self._followed.pop(target, None)
        # Without locks, however long it takes: when somebody else takes the target, commits are refused.
        with self.database.transaction(snapshot=True) as transaction:
            stored = read_ledger(transaction, self.address, held.key, target, now, keep)
        return msgspec.structs.replace(stored, by_others=by_others)

    def read_committed(self, target: str, scope: str, now: int, keep: int) -> StoredLedger:
        """What is kept of a target that another process may hold, without the jobs that are not open."""
        with self.database.transaction(snapshot=True) as transaction:
            self._check_version(transaction)
            key = find_target(transaction, self.address, target, scope)
            if key is None:
                return StoredLedger()
            former = self._followed.get(target)
            followed = read_followed(transaction, self.address, key, target, now, keep, former)
        self._followed[target] = followed
        return followed.ledger

    def take(self, transaction: Transaction, target: str, scope: str) -> tuple[_Held, int]:
        """What is held from now on, and how many commits others made since this process held it last."""
        found = transaction.execute(schema.LOCK_TARGET, (target,)).fetchone()
        if found is None:
            transaction.execute(schema.ADD_TARGET, (target,))
            found = transaction.execute(schema.LOCK_TARGET, (target,)).fetchone()
        if found is None:
            raise StoreConflictError(f"{self.address}: target {target!r} was removed at the same time")
        key, fence, version, taken_version, stored_scope, holder, alive = found
        if alive and holder != self.replica:
            raise StoreLockedError(f"{self.address}: target {target!r} is held by replica {holder}")
        if version:
            check_scope(self.address, target, stored_scope, scope)
        # Whoever took it next after this process saw all that it had committed. Had it been taken once more,
        # that is not known any more.
        former = self.fences.get(target)
        by_others = version - taken_version if former and former[:2] == (key, fence - 1) else 0
        held = _Held(key, fence + 1, secrets.token_hex(8))
        transaction.execute(schema.TAKE_TARGET, (held.taking, self.replica, key))
        return held, by_others

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        held = self.fences.get(target)
        if held is None:
            if commit.version:
                raise StoreConflictError(
                    f"{self.address}: target {target!r} was committed before it was loaded"
                )
            with self.database.transaction() as transaction:
                held, _ = self.take(transaction, target, scope)
            self.fences[target] = held
        statement, parameters = _statement(commit, scope, held, self.replica)
        try:
            if self.database.execute(statement, parameters)[0][0] == 1:
                return
        except StoreCorruptError:  # a newer version has other tables
            self._read_version()
            raise
        self._read_version()
        raise StoreConflictError(
            f"{self.address}: somebody else committed to the books of target {target!r}, or took it over"
        )

    def _read_version(self) -> None:
        with self.database.transaction() as transaction:
            self._check_version(transaction)

    def _check_version(self, transaction: Transaction) -> None:
        """Raises StoreVersionError when the tables were upgraded; logs it once for all targets."""
        try:
            check_version(transaction, self.address)
        except StoreVersionError as error:
            with self._gate:
                news, self._outdated = not self._outdated, True
            if news:
                log.error(
                    logger,
                    "another replica has upgraded the tables: polling ends here, what was committed is still"
                    " served",
                    error=error,
                )
            raise
        with self._gate:
            over, self._outdated = self._outdated, False
        if over:
            log.info(logger, "the tables are those of this version again: polling goes on")

    # --- breakers ---------------------------------------------------------------------------------------

    def load_breakers(self) -> dict[str, str]:
        with self.database.transaction() as transaction:
            self._breakers = dict(transaction.execute(schema.GET_BREAKERS).fetchall())
        return dict(self._breakers)

    def save_breakers(self, breakers: dict[str, str]) -> None:
        """Only what changed since this process read or wrote them: others may have their own."""
        changed = dict(breakers.items() - self._breakers.items())
        gone = self._breakers.keys() - breakers.keys()
        with self.database.transaction() as transaction:
            transaction.execute(schema.DELETE_BREAKERS, (sorted(gone),))
            transaction.execute(schema.PUT_BREAKERS, (list(changed), list(changed.values())))
        self._breakers = dict(breakers)

    def take_claim(self, credentials: str) -> float:
        given = {
            "credentials": credentials,
            "replica": self.replica,
            "seconds": CLAIM_SECONDS,
            "longest": LONGEST_CLAIM,
        }
        with self.database.transaction() as transaction:
            if transaction.execute(schema.TAKE_CLAIM, given).fetchone() is not None:
                return 0.0
            refused = transaction.execute(schema.CLAIM_REFUSED, given).fetchone()
        return CLAIM_PAUSE if refused is None else max(CLAIM_PAUSE, refused[0])

    def end_claim(self, credentials: str, seconds: float) -> None:
        given = {"credentials": credentials, "replica": self.replica, "seconds": seconds}
        with self.database.transaction() as transaction:
            transaction.execute(schema.END_CLAIM, given)

    # --- leases -----------------------------------------------------------------------------------------

    def renew(self, targets: Collection[str], seconds: float) -> LeaseTable:
        """See ``base.SharedStore``."""
        for target in set(self._followed).difference(targets):
            self._followed.pop(target, None)
        given = {"replica": self.replica, "seconds": seconds, "targets": sorted(targets)}
        within = seconds / RENEWALS if seconds > 0 else math.inf  # 0 or less: a lease that is over
        with self.database.transaction(within=within) as transaction:
            self._check_version(transaction)
            # Targets before replicas, as everywhere: an upgrade locks the tables in this order.
            holders = transaction.execute(schema.GET_HOLDERS).fetchall()
            transaction.execute(schema.RENEW, given)
            replicas = transaction.execute(schema.GET_REPLICAS).fetchall()
        self._command_locks = frozenset(number for *_, numbers in replicas for number in numbers)
        return LeaseTable(
            {replica: frozenset(able) for replica, able, _ in replicas},
            {name: holder for name, holder, _ in holders if holder},
            {name: version for name, _, version in holders},
        )

    def release(self, targets: Collection[str]) -> None:
        """Others may take these at once. Commits of this process are refused from then on."""
        with self.database.transaction() as transaction:
            transaction.execute(schema.RELEASE, (self.replica, list(targets)))

    def resign(self) -> None:
        """Release all: this process ends."""
        with self.database.transaction() as transaction:
            transaction.execute(schema.RELEASE_ALL, (self.replica,))
            transaction.execute(schema.RESIGN, (self.replica,))

    def command_asks(self, credentials: str) -> bool:
        """By the last renewal."""
        return lock_number(credentials) in self._command_locks

    def close(self) -> None:
        self.database.close()


def _statement(commit: Commit, scope: str, held: _Held, replica: str) -> tuple[str, dict[str, Any]]:
    """What writes a commit, and its parameters. Each kind of rows that changed is a few arrays."""
    changes, first_minute = commit.changes, commit.keep_minutes_since // MINUTE
    # No row may be written twice: what would be deleted and put, or added and pruned, is decided here.
    put = {(job_id, job.created) for job_id, job in changes.jobs.items()}
    rows: dict[str, list[_Row]] = {
        "evicted": [(job_id.encode(), created) for job_id, created in set(changes.evicted) - put],
        "jobs": [(job_id.encode(), *msgspec.structs.astuple(job)) for job_id, job in changes.jobs.items()],
        "totals": [(*total, value) for total, value in changes.totals.items() if value is not None],
        "totals_deleted_version": [total for total, value in changes.totals.items() if value is None],
        "minutes": [
            (*key, *add, changes.minute_ids.get(key, 0))
            for key, add in changes.minutes.items()
            if key[0] >= first_minute
        ],
        "label_sets": list(changes.label_sets),
    }
    arrays = {
        f"{kind}_{number}": list(column)
        for kind, found in rows.items()
        for number, column in enumerate(zip(*found, strict=True))
    }
    stamps = dict.fromkeys(Watermarks.__struct_fields__)
    if changes.watermarks is not None:
        stamps = msgspec.structs.asdict(changes.watermarks)
    return schema.commit_statement(kind for kind, found in rows.items() if found), {
        **arrays,
        **stamps,
        "id": held.key,
        "fence": held.fence,
        "taking": held.taking,
        "holder": replica,
        "scope": scope,
        "version": commit.version,
        "format": schema.SCHEMA_VERSION,
        "project_id": commit.project_id,
        "last_complete_poll": commit.last_complete_poll,
        "buckets": msgspec.json.encode(commit.buckets).decode(),
        "first_minute": first_minute,
        "drops_totals": bool(rows["totals_deleted_version"]),
    }
