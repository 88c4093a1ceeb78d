"""A few connections to a PostgreSQL server, and a bound for every wait on them.

Knows psycopg; must not know the tables. Works behind a pooler in transaction mode: nothing is set for a
session, no statement is prepared, no lock outlives its transaction.
"""

from __future__ import annotations

import logging
import math
import re
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_attempts, conninfo_to_dict, timeout_from_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from exporter import log
from exporter.errors import StoreError, StoreUnavailableError
from exporter.store.postgres.answer_watch import AnswerWatch
from exporter.store.postgres.errors import translated
from exporter.store.postgres.refusals import is_final, password_was_used

logger = logging.getLogger(__name__)

DatabaseConnection = psycopg.Connection[TupleRow]

CONNECTIONS: Final = 4
"""At most: one of them for renewals of leases, as ``app.DATABASE_THREADS`` has it."""
CONNECT_SECONDS: Final = 5.0
"""How long a connection may take to come about, with each host of the URL, unless that says how long."""
LONGEST_CONNECT: Final = 20.0
"""How long a connection may take to come about, however many hosts and addresses are tried."""
SHORTEST_CONNECT: Final = 2
"""With each address: libpq waits no less."""
STATEMENT_SECONDS: Final = 10.0
"""How long the server may work on one statement."""
LOCK_SECONDS: Final = 5.0
"""How long a statement may wait for a lock of another session."""
UPGRADE_SECONDS: Final = 600.0
"""How long a start waits for another one that upgrades the tables."""
IDLE_SECONDS: Final = 5.0
"""How long a transaction may be idle: the server ends that of a stopped process, and frees its locks."""
ANSWER_SECONDS: Final = 15.0
"""How long a statement may take as a whole. Longer than the server's own bounds, which say what was wrong."""
SPARE_SECONDS: Final = 1.0
"""How much longer a call waits for a connection than one may take to come about: then it says why."""
FIRST_PAUSE: Final = 0.5
LASTING_SECONDS: Final = 20.0
"""An outage that lasts so long is logged once more, if its reason is another one by then."""
LONGEST_PAUSE: Final = 5.0
"""Seconds for which nothing is tried after a try that failed: the first time, and at most. After a password
was refused always the longest: accounts may be locked.
"""
STEP_SECONDS: Final = 0.1
"""How often a call that waits for a connection sees whether a try to connect has failed for good."""

_SETTINGS: Final = """
SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),
    set_config('idle_in_transaction_session_timeout', %s, true)
"""
"""``true``: for this transaction only."""

_LONG: Final = """
SELECT set_config('statement_timeout', '0', true),
    set_config('idle_in_transaction_session_timeout', '0', true), set_config('lock_timeout', %s, true),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)
"""

_DEFAULTS: Final[Mapping[str, Any]] = {
    "application_name": "metastudio-tts-exporter",
    "client_encoding": "UTF8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": int(ANSWER_SECONDS * 1000),
    "target_session_attrs": "read-write",
}
"""Of libpq's parameters, unless the URL has them."""


class Database:
    """See the module. May be used by several threads; ``size`` is how many connections there are at most."""

    def __init__(
        self,
        url: str,
        password: Callable[[], str | None] = lambda: None,
        size: int = CONNECTIONS,
        *,
        quiet: bool = False,
    ) -> None:
        """``password`` is asked for at each connection: it may have changed. ``quiet``: what fails is raised,
        and not logged. Raises StoreError.
        """
        self.quiet = quiet
        with translated("storage.url"):
            given = conninfo_to_dict(url)
            seconds = timeout_from_conninfo(given) if "connect_timeout" in given else CONNECT_SECONDS
        self.address = _address_of(url)
        self._parameters = {**_DEFAULTS, **given}
        hosts = str(given.get("host") or given.get("hostaddr") or "").count(",") + 1
        self._connect_seconds = min(seconds * hosts, LONGEST_CONNECT)
        """Until all that may be connected to were tried, one after the other."""
        self._password = password
        self._refused: psycopg.Error | OSError | None = None
        """Why the last try to connect failed; ``None`` when it did not."""
        self._final = False
        """Another try would fail in the same way."""
        self._tries = 0
        self._connect_pause = 0.0
        self.next_connect = -math.inf
        """Nothing is connected to before then."""
        self._connecting = False
        self._gate = threading.Lock()
        self._problem: StoreError | None = None
        """While the database cannot be used: why."""
        self._logged = ""
        """Of that problem: the reason that was logged; empty once that was so for a second one."""
        self._within = math.inf
        """In how many seconds it was to answer then: only one that is as quick ends the problem."""
        self._changed = -math.inf
        """Since when it can be used, or cannot: what was begun before tells nothing of now."""
        self._pause = 0.0
        self.next_try = 0.0
        # It logs each try of the pool, and what a broken connection says to a rollback: here it is one line.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        self.pool = ConnectionPool(
            "",
            connection_class=self._connection_class(),
            kwargs=self._connection_arguments,
            min_size=0,
            max_size=size,
            open=True,
            timeout=self._connect_seconds + SPARE_SECONDS,
            reconnect_timeout=0.0,  # it tries once more at once: that one does not reach the network
            num_workers=1,
        )

    def _connection_class(self) -> type[DatabaseConnection]:
        """One that remembers why it could not connect, which the pool does not report, and that does not try
        again before it is time, however often the pool does.
        """
        outer = self

        class Remembering(psycopg.Connection[TupleRow]):
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - psycopg's own overload
                if outer._refused is not None and time.monotonic() < outer.next_connect:
                    raise outer._refused
                outer._connecting = True
                try:
                    addresses = len(conninfo_attempts(kwargs))
                    each = max(SHORTEST_CONNECT, int(outer._connect_seconds / addresses))
                    connection = super().connect(*args, **{**kwargs, "connect_timeout": each})
                except (psycopg.Error, OSError) as error:
                    outer._connect_failed(error)
                    raise
                finally:
                    outer._connecting = False
                outer._refused, outer._final, outer._connect_pause = None, False, 0.0
                return connection

        return Remembering

    def _connect_failed(self, error: psycopg.Error | OSError) -> None:
        """In the one thread of the pool. Whether the error is final is asked once more for those only who
        do not go on without the database (``quiet``).
        """
        used = password_was_used(error)
        pause = LONGEST_PAUSE if used else min(LONGEST_PAUSE, 2 * self._connect_pause or FIRST_PAUSE)
        self._connect_pause, self.next_connect = pause, time.monotonic() + pause
        self._refuse(error, final=used or (self.quiet and is_final(error, self._parameters)))

    def _refuse(self, error: psycopg.Error | OSError, *, final: bool) -> None:
        self._refused, self._final = error, final
        self._tries += 1

    def connect_parameters(self) -> dict[str, Any]:
        """As libpq names them. Raises StoreError when the password cannot be read."""
        password = self._password()
        return self._parameters if password is None else {**self._parameters, "password": password}

    def _connection_arguments(self) -> dict[str, Any]:
        try:
            parameters = self.connect_parameters()
        except StoreError as error:
            refused = psycopg.OperationalError(str(error))
            self._refuse(refused, final=True)
            raise refused from None
        return {**parameters, "autocommit": True, "prepare_threshold": None}

    @contextmanager
    def transaction(self, *, snapshot: bool = False, within: float = math.inf) -> Iterator[Transaction]:
        """One transaction, committed at the end. Raises StoreError.

        ``snapshot``: it only reads, and all its statements see the same. ``within``: so many seconds it may
        take as a whole, with the wait for a connection.
        """
        with self._watched(within) as (connection, watch), connection.transaction():
            if snapshot:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute(_SETTINGS, _milliseconds(STATEMENT_SECONDS, LOCK_SECONDS, IDLE_SECONDS))
            yield Transaction(connection, watch)

    @contextmanager
    def long_transaction(self, lock: int | None = None) -> Iterator[DatabaseConnection]:
        """For what takes its time, and is done once: its bounds are the connection's own (keepalives), and
        that of each wait for a lock. What it commits survives a crash of the server. Raises StoreError.

        ``lock``: with this advisory lock, for which it waits as long as ``UPGRADE_SECONDS``.
        """
        with translated(self.address), self.connection() as connection, connection.transaction():
            connection.execute(_LONG, _milliseconds(UPGRADE_SECONDS))
            if lock is not None:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
            connection.execute(_LONG, _milliseconds(LOCK_SECONDS))
            yield connection

    def execute(self, statement: str, parameters: Mapping[str, Any]) -> list[TupleRow]:
        """One statement that is a transaction by itself. Raises StoreError."""
        with self._watched() as (connection, _):
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def _watched(self, within: float = math.inf) -> Iterator[tuple[DatabaseConnection, AnswerWatch]]:
        """A connection with no transaction, that is cut if no answer comes."""
        begun = time.monotonic()
        self._refuse_while_paused()
        try:
            with (
                translated(self.address),
                self.connection(within) as connection,
                AnswerWatch(connection, ANSWER_SECONDS, begun, within) as watch,
            ):
                yield connection, watch
        except StoreUnavailableError as error:
            self._failed(error, begun, within)
            raise
        except StoreError:  # it answered
            self._worked(begun, within)
            raise
        self._worked(begun, within)

    @contextmanager
    def connection(self, within: float = math.inf) -> Iterator[DatabaseConnection]:
        """One that the server has not closed. Raises psycopg.Error, OSError."""
        deadline = time.monotonic() + min(self.pool.timeout, within)
        connection = self._take(deadline)
        # After a restart of the server all that lay idle are closed. The pool's own check pauses after each.
        while _closed_by_server(connection):
            self.pool.putconn(connection)
            connection = self._take(deadline)
        try:
            yield connection
        finally:
            self.pool.putconn(connection)

    def _take(self, deadline: float) -> DatabaseConnection:
        tries = self._tries
        while True:
            left = deadline - time.monotonic()
            try:
                return self.pool.getconn(min(left, STEP_SECONDS))
            except PoolTimeout:
                refused = self._refused
                known = self._tries != tries or time.monotonic() < self.next_connect
                if refused and self._final and known and not self.pool.get_stats()["pool_size"]:
                    raise refused from None
                if left > STEP_SECONDS:
                    continue
                if refused:
                    raise refused from None
                if self._connecting:
                    raise psycopg.OperationalError(
                        "no server of storage.url was connected to in time: see that one of them runs, and"
                        " that the network lets this machine reach it"
                    ) from None
                raise psycopg.OperationalError("every connection is in use for too long") from None

    # --- while the database fails -----------------------------------------------------------------------

    def _refuse_while_paused(self) -> None:
        """Raises StoreUnavailableError while no new try is due: of many targets only one tries."""
        with self._gate:
            if self._problem is None:
                return
            now = time.monotonic()
            if now < self.next_try:
                raise StoreUnavailableError(str(self._problem))
            self.next_try = now + self._pause

    def _failed(self, error: StoreError, begun: float, within: float) -> None:
        """One line, whatever else fails until it can be used again: a restart has several errors."""
        with self._gate:
            if begun < self._changed:
                return
            now, news, self._problem = time.monotonic(), self._problem is None, error
            self._changed = now if news else self._changed
            self._within = within if news else min(within, self._within)
            # An outage begins with a connection that breaks. If it lasts, why none can be made says more.
            other_reason = not news and self._logged not in ("", str(error))
            lasts = other_reason and now - self._changed >= LASTING_SECONDS
            if news or lasts:
                self._logged = str(error) if news else ""
            self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
            self.next_try = now + self._pause
        if (news or lasts) and not self.quiet:
            what = "the database cannot be used" if news else "the database still cannot be used"
            log.error(logger, f"{what}: what was committed is still served", error=str(error))

    def _worked(self, begun: float, within: float) -> None:
        with self._gate:
            if begun < self._changed or self._problem is None:
                return
            if within > self._within:  # a renewal was too slow, and the next one may be, too
                self.next_try, self._pause = begun, 0.0
                return
            self._problem, self._pause, self._changed = None, 0.0, time.monotonic()
        if not self.quiet:
            log.info(logger, "the database can be used again")

    def close(self) -> None:
        self.quiet = True  # what is cut off now is no news
        self.pool.close(timeout=1.0)


class Transaction:
    """An open transaction."""

    def __init__(self, connection: DatabaseConnection, watch: AnswerWatch) -> None:
        self.connection = connection
        self._watch = watch

    def execute(self, query: str, parameters: Any = ()) -> psycopg.Cursor[TupleRow]:  # noqa: ANN401 - as psycopg has it
        self._watch.restart()
        return self.connection.execute(query, parameters, binary=True)

    def stream(self, query: str, parameters: Any, rows: int) -> Iterator[list[TupleRow]]:  # noqa: ANN401
        """The result, so many rows at a time."""
        # Not by a cursor of psycopg's, which complains in its own end when the connection broke.
        self.execute(f"DECLARE rows NO SCROLL CURSOR FOR {query}", parameters)
        while step := self.execute(f"FETCH {rows} FROM rows").fetchall():
            yield step
        self.execute("CLOSE rows")


def _milliseconds(*seconds: float) -> list[str]:
    return [str(round(1000 * value)) for value in seconds]


def _closed_by_server(connection: DatabaseConnection) -> bool:
    """Whether one that lay idle cannot be used: it is closed then.

    Without a round trip. An idle server sends only the notice that it closes the connection.
    """
    if not connection.closed:
        readable = select.poll()
        readable.register(connection.fileno(), select.POLLIN)
        if readable.poll(0):
            connection.close()
    return connection.closed


def _address_of(url: str) -> str:
    """The server and database, for messages: no options, no password."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1@", url.partition("?")[0])
