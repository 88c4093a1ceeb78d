"""The lock by which a command tells the replicas that share a database that it asks the API."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from typing import Final

from exporter.errors import StoreError
from exporter.store.base import RENEWALS, lock_number
from exporter.store.postgres import schema
from exporter.store.postgres.database import Database
from exporter.store.postgres.errors import translated

_ANSWER_SECONDS: Final = 2.0
"""Until what a renewal found is known to those who ask, beside the wait until it is due."""


class PostgresCommandLock:
    """See ``base.CommandLock``: an advisory lock of a transaction that changes nothing and keeps nothing in
    view, so that no grant is needed, no vacuum is held up, and no pooler keeps it for others.

    When the database ends the connection, as at a restart, the lock is gone: nobody takes it again.
    """

    def __init__(self, url: str, password: Callable[[], str | None], names: Collection[str]) -> None:
        """Raises StoreError."""
        self._numbers = sorted({lock_number(name) for name in names})
        self._opened = ExitStack()
        self._database = Database(url, password, size=1, quiet=True)
        self._opened.callback(self._database.close)

    def take(self) -> float | None:
        """What the replicas know of it: each looks when it renews its lease."""
        with ExitStack() as opened:
            connection = opened.enter_context(self._database.long_transaction())
            with translated(self._database.address):
                for number in self._numbers:
                    found = connection.execute(schema.TAKE_COMMAND_LOCK, (schema.LOCK, number)).fetchone()
                    if found is None or not found[0]:
                        return None
                has_tables = connection.execute(schema.HAS_TABLES).fetchone()
                seconds = 0.0
                if has_tables and has_tables[0]:
                    longest = connection.execute(schema.GET_LONGEST_LEASE).fetchone()
                    seconds = longest[0] if longest else 0.0
            self._opened.push(opened.pop_all())
        return seconds / RENEWALS + _ANSWER_SECONDS if seconds else 0.0

    def close(self) -> None:
        with suppress(StoreError):  # the connection may be gone, and the lock with it
            self._opened.close()
