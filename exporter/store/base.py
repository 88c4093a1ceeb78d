"""What a store must be able to do. Knows nothing of how it is done."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol, runtime_checkable
from zlib import crc32

import msgspec

from exporter.ledger import Changes, StoredLedger
from exporter.store.leases import LeaseTable

RENEWALS: Final = 3
"""Of a lease, within the time that it lasts: one that is late or fails costs nothing."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction writes of one target."""

    version: int
    """The version that these changes build on; the commit makes it ``version + 1``."""
    changes: Changes
    project_id: str
    last_complete_poll: int | None
    buckets: dict[str, tuple[int, ...]]
    keep_minutes_since: int
    """Minute counts older than this (milliseconds) may be dropped."""


class Store(Protocol):
    """Keeps ledgers. Blocking: call it from a thread. Its methods raise StoreError and its children only."""

    address: str
    """Where it is, for messages: the path of its file, or the address of its database."""

    def load(self, target: str, scope: str, now: int, keep: int) -> StoredLedger:
        """What is kept of ``target``, with the minute counts of the last ``keep`` milliseconds before
        ``now``, or if that is earlier, before "settled until" or the creation of the oldest remembered job.

        From then on only this process may commit to it. Raises ScopeChangedError when it was counted for
        another scope, StoreLockedError while another process holds it.
        """

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        """All or nothing. Raises StoreConflictError when ``commit.version`` is not the stored one."""

    def load_breakers(self) -> dict[str, str]:
        """Credentials that must not be tried for now: what ``save_breakers`` was given last."""

    def save_breakers(self, breakers: dict[str, str]) -> None:
        """Replace those that this process read or saved last: credentials key -> state as text."""

    def command_asks(self, credentials: str) -> bool:
        """Has a command taken its ``CommandLock`` for credentials of this name?"""

    def close(self) -> None:
        """Close everything; may be called again."""


class CommandLock(Protocol):
    """A command holds it while it asks the API with some credentials: exporters with the same store use half
    of their rate meanwhile. It is gone with the process, however that ends.
    """

    def take(self) -> float | None:
        """Seconds after which all exporters know. ``None``: another command has it. Raises StoreError."""

    def close(self) -> None:
        """Let go of it. May be called again."""


def lock_number(credentials: str) -> int:
    """By which the lock of these credentials is known: 0 to 2**31 - 1. Two that share one do no harm."""
    return crc32(credentials.encode()) >> 1


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that several processes, the replicas, use at the same time. Each target has one holder."""

    replica: str
    """This process, among the others."""

    def renew(self, targets: Collection[str], seconds: float) -> LeaseTable:
        """Renew this replica's lease; it can poll these targets. Says what the others do.

        Waits for a third of ``seconds`` (``RENEWALS``) at most, so that another try is left.
        """

    def release(self, targets: Collection[str]) -> None:
        """Others may take these at once. Commits of this process are refused from then on."""

    def resign(self) -> None:
        """Release all: this process ends."""

    def take_claim(self, credentials: str) -> float:
        """Of all replicas one may send one more signature with them, however many were refused. 0: this one.

        Otherwise seconds after which it may ask again.
        """

    def end_claim(self, credentials: str, seconds: float) -> None:
        """It was sent and answered. Nobody has the claim for so long: 0, unless it was refused."""

    def read_committed(self, target: str, scope: str, now: int, keep: int) -> StoredLedger:
        """What is kept of a target that another process may hold, without the jobs that are not open.

        Raises ScopeChangedError.
        """
