"""One replica among those that share a database: which targets it polls, and how it learns of the others'.

Knows leases and versions; must not know what is counted. Renewals have a thread of their own: a lease must
not end because a ledger takes long to load. When they fail for as long as the lease lasts, polling ends, by
the monotonic clock. Should two replicas poll a target all the same, the store refuses the commits of one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, NoReturn, TypeVar

from exporter import log
from exporter.errors import StoreError, StoreLockedError, StoreUnavailableError, StoreVersionError
from exporter.ledger import TargetView
from exporter.process import exhausted
from exporter.store import RENEWALS, LeaseTable, LedgerRepository, SharedStore, spread
from exporter.units import SECOND

logger = logging.getLogger(__name__)

T = TypeVar("T")

NAMES_LOGGED: Final = 20
"""Targets that a log line names; of further ones it has the number."""


class Replica:
    """See the module. ``Fleet`` asks it which of its targets it may poll."""

    def __init__(
        self, store: SharedStore, lease: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``lease`` in seconds."""
        self._store = store
        self._lease = lease
        self._monotonic = monotonic
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="leases")
        self.table: LeaseTable | None = None
        """What the last renewal found."""
        self._asked = 0.0
        """When it was asked for: what was taken since then is not in it."""
        self._taken: dict[str, float] = {}
        """By target: when it was taken."""
        self._valid_until = float("-inf")
        """When the lease ends, unless it is renewed: on the monotonic clock, from before it was asked for."""
        self.held: set[str] = set()
        """Targets that are loaded here, to be polled."""
        self._seen: dict[str, int] = {}
        """By target that another replica polls: the version that is published."""
        self._news: dict[str, str | None] = {}
        """By target that was taken and not logged yet: its holder before, empty when that one released it,
        and ``None`` when nobody ever held it.
        """
        self._problems: dict[str, str] = {}
        """By target: why it could not be taken or read, the last time; of the leases: by an empty name."""
        self._logged: set[str] = set()
        """Of these a line says that there is a problem, and none yet that it is over."""

    @property
    def interval(self) -> float:
        """Seconds between two renewals."""
        return self._lease / RENEWALS

    @property
    def seconds_left(self) -> float:
        """Until the leases are over; 0 when they are."""
        return max(0.0, self._valid_until - self._monotonic())

    async def renew(self, names: Collection[str]) -> LeaseTable:
        """Renew this replica's lease, and see what the others do. Raises StoreError."""
        asked = self._monotonic()
        self.table = table = await self._in_thread(lambda: self._store.renew(names, self._lease))
        self._asked, self._valid_until = asked, asked + self._lease
        return table

    async def renew_regularly(self, renew: Callable[[], Awaitable[None]]) -> NoReturn:
        """The next time at once, after one that waited for as long as it may."""
        due = self._monotonic()
        while True:
            due = max(due + self.interval, self._monotonic())
            await asyncio.sleep(due - self._monotonic())
            await renew()

    @asynccontextmanager
    async def renewing(self, renew: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Renew regularly while the block runs: it may take longer than a lease lasts."""
        renewals = asyncio.create_task(self.renew_regularly(renew))
        try:
            yield
        finally:
            renewals.cancel()

    def own(self, table: LeaseTable, names: Collection[str]) -> set[str]:
        """Those that this replica shall hold, as far as nobody else does yet."""
        placed = spread(table)
        me = self._store.replica
        return {name for name in names if placed.get(name) == me and table.holder(name) in (None, me)}

    def own_first(self, names: Collection[str]) -> list[str]:
        """In the order to open them: nobody polls its own until then, and what others poll can wait."""
        own = set() if self.table is None else self.own(self.table, names)
        return sorted(names, key=lambda name: name not in own)

    async def open(self, name: str, repository: LedgerRepository) -> TargetView:
        """Take the target if it is this replica's, or read what another one commits. Raises StoreError."""
        table = self.table
        if table is not None and name in self.own(table, [name]):
            try:
                await repository.load(int(time.time() * SECOND))
            except StoreLockedError:
                pass  # another replica was quicker
            else:
                if name not in self.held:  # or else it is loaded again, for a reload
                    self._news[name] = table.holders.get(name, "" if name in table.versions else None)
                self.held.add(name)
                self._taken[name] = self._monotonic()
                return repository.snapshot(None)
        self.held.discard(name)
        view = await repository.follow(self._store, int(time.time() * SECOND))
        self._seen[name] = 0 if table is None else table.versions.get(name, 0)
        return view

    def to_leave(self, table: LeaseTable) -> tuple[set[str], set[str]]:
        """Targets that are lost, and those that another replica shall have."""
        me, placed = self._store.replica, spread(table)
        mine = {name for name, holder in table.holders.items() if holder == me}
        later = {name for name in self.held if self._taken.get(name, 0.0) >= self._asked}
        # Of the others' also what is not held here any more: to release it may have failed.
        return self.held - later - mine, {name for name in mine - later if placed.get(name, me) != me}

    def to_open(self, table: LeaseTable, names: Collection[str]) -> list[str]:
        """Targets to take now, and those of others with something new."""
        own = self.own(table, names)
        return [
            name
            for name in names
            if name not in self.held and (name in own or table.versions.get(name, 0) != self._seen.get(name))
        ]

    async def release(self, names: Collection[str]) -> None:
        """Let others have them. Where that fails, they wait until the lease is over."""
        self.held.difference_update(names)
        try:
            await self._in_thread(lambda: self._store.release(names))
        except StoreError as error:
            log.error(logger, "targets were not released: others wait until the lease is over", error=error)
        else:
            placed = {} if self.table is None else spread(self.table)
            self._log("targets released", names, to={placed.get(name, "") for name in names})

    async def resign(self) -> None:
        """The end: others go on at once."""
        try:
            await self._in_thread(self._store.resign)
        except StoreError as error:
            if self.table is not None:  # or else a start failed before there was anything to release
                log.warn(
                    logger, "the leases could not be released: others go on when they are over", error=error
                )
        else:
            self._log("targets released", self.held)

    def log_taken(self, *, start: bool = False) -> None:
        """One line for all targets taken since the last line: from whom. At the start also for none."""
        if not self._news and not start:
            return
        kinds: dict[str, list[str]] = {}
        for name, former in sorted(self._news.items()):
            match former:
                case None:
                    kind = "first_time"
                case "":
                    kind = "released"
                case self._store.replica:
                    kind = "again"
                case _:
                    kind = "expired"
            kinds.setdefault(kind, []).append(name)
        found = {kind: listed(names) for kind, names in kinds.items()}
        if "expired" in kinds:
            found["former_holder"] = _joined({self._news[name] or "" for name in kinds["expired"]})
        log.info(logger, "targets taken", replica=self._store.replica, count=len(self._news), **found)
        self._news = {}

    def log_lost(self, names: Collection[str]) -> None:
        """By the last renewal other replicas have them; or the lease is over, and nobody does yet."""
        if self.table is None or not self.seconds_left:
            self._log("the lease is over: polling ends until it is renewed", names)
        else:
            self._log("targets lost", names, to={self.table.holders.get(name, "") for name in names})

    def _log(self, message: str, names: Collection[str], to: Collection[str] = ()) -> None:
        if names:
            known = {"to": others} if (others := _joined(to)) else {}
            fields = {"replica": self._store.replica, "count": len(names), "targets": listed(names)}
            log.info(logger, message, **fields, **known)

    def close(self) -> None:
        self._executor.shutdown(wait=False)

    def note_problem(self, error: Exception | None, target: str = "") -> None:
        """Log a problem with a target, or with the leases, once until it changes, and when it is over.

        That nothing answers, or that the tables are those of a newer version, is logged by the store.
        """
        text = "" if error is None else exhausted(error) or str(error)
        fields = {"target": target} if target else {}
        known, self._problems[target] = self._problems.get(target, ""), text
        if error is None:
            if target in self._logged:
                self._logged.discard(target)
                what = "the target can be taken or read again" if target else "the leases are renewed again"
                log.info(logger, what, **fields)
        elif text != known and not isinstance(error, StoreUnavailableError | StoreVersionError):
            self._logged.add(target)
            what = "a target could not be taken or read" if target else "the leases could not be renewed"
            log.error(logger, what, error=text, **fields)

    def forget(self, names: Collection[str]) -> None:
        """These are not loaded any more: the configuration changed, or the lease is over."""
        for name in names:
            self.held.discard(name)
            self._seen.pop(name, None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def listed(names: Collection[str]) -> str:
    """For a log line."""
    shown = " ".join(sorted(names)[:NAMES_LOGGED])
    return shown if len(names) <= NAMES_LOGGED else f"{shown} and {len(names) - NAMES_LOGGED} more"


def _joined(replicas: Collection[str]) -> str:
    return " ".join(sorted(filter(None, replicas)))
