"""A few connections to a PostgreSQL server, and a bound for every wait on them.

Knows psycopg; must not know the tables. Works behind a pooler in transaction mode: nothing is set for a
session, no statement is prepared, no lock outlives its transaction.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from exporter import log
from exporter.errors import StoreError, StoreUnavailableError
from exporter.store.postgres.errors import translated

logger = logging.getLogger(__name__)

DatabaseConnection = psycopg.Connection[TupleRow]

CONNECT_SECONDS: Final = 5.0
"""How long a connection may take to come about."""
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
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
"""Seconds for which nothing is tried after a try that failed: the first time, and at most."""

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
    "connect_timeout": int(CONNECT_SECONDS),
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
        size: int = 4,
        *,
        quiet: bool = False,
    ) -> None:
        """``password`` is asked for at each connection: it may have changed. ``quiet``: what fails is raised,
        and not logged. Raises StoreError.
        """
        self._quiet = quiet
        with translated("storage.url"):
            given = conninfo_to_dict(url)
        self.address = _address_of(url)
        self._parameters = {**_DEFAULTS, **given}
        self._password = password
        self._refused: psycopg.Error | None = None
        """Why the last try to connect failed."""
        self._gate = threading.Lock()
        self._problem: StoreError | None = None
        """While the database cannot be used: why."""
        self._pause = 0.0
        self.next_try = 0.0
        # It logs each try of the pool, and what a broken connection says to a rollback: here it is one line.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        self.pool = ConnectionPool(
            "",
            connection_class=self._connection_class(),
            kwargs=self._connect_parameters,
            min_size=0,
            max_size=size,
            open=True,
            check=_check_open,
            timeout=CONNECT_SECONDS,
            reconnect_timeout=CONNECT_SECONDS,
            num_workers=1,
        )

    def _connection_class(self) -> type[DatabaseConnection]:
        """One that remembers why it could not connect: the pool does not report it."""
        outer = self

        class Remembering(psycopg.Connection[TupleRow]):
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - psycopg's own overload
                try:
                    return super().connect(*args, **kwargs)
                except psycopg.Error as error:
                    outer._refused = error
                    raise

        return Remembering

    def _connect_parameters(self) -> dict[str, Any]:
        try:
            password = self._password()
        except StoreError as error:
            self._refused = psycopg.OperationalError(str(error))
            raise self._refused from None
        secret = {} if password is None else {"password": password}
        return {**self._parameters, **secret, "autocommit": True, "prepare_threshold": None}

    @contextmanager
    def transaction(self, *, snapshot: bool = False) -> Iterator[Transaction]:
        """One transaction, committed at the end. Raises StoreError.

        ``snapshot``: it only reads, and all its statements see the same.
        """
        with self._watched() as (connection, watch), connection.transaction():
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
    def _watched(self) -> Iterator[tuple[DatabaseConnection, _Watch]]:
        """A connection with no transaction, that is cut if no answer comes."""
        self._refuse_while_paused()
        try:
            with translated(self.address), self.connection() as connection, _Watch(connection) as watch:
                yield connection, watch
        except StoreUnavailableError as error:
            self._failed(error)
            raise
        except StoreError:  # it answered
            self._worked()
            raise
        self._worked()

    @contextmanager
    def connection(self) -> Iterator[DatabaseConnection]:
        self._refused = None
        try:
            connection = self.pool.getconn()
        except PoolTimeout:
            if self._refused is not None:
                raise self._refused from None
            raise psycopg.OperationalError("every connection is in use for too long") from None
        try:
            yield connection
        finally:
            self.pool.putconn(connection)

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

    def _failed(self, error: StoreError) -> None:
        with self._gate:
            news = self._problem is None or str(self._problem) != str(error)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
            self.next_try = time.monotonic() + self._pause
            self._problem = error
        if news and not self._quiet:
            log.error(
                logger, "the database cannot be used: what was committed is still served", error=str(error)
            )

    def _worked(self) -> None:
        with self._gate:
            was, self._problem, self._pause = self._problem, None, 0.0
        if was is not None and not self._quiet:
            log.info(logger, "the database can be used again")

    def close(self) -> None:
        self.pool.close(timeout=1.0)


class Transaction:
    """An open transaction."""

    def __init__(self, connection: DatabaseConnection, watch: _Watch) -> None:
        self.connection = connection
        self._watch = watch

    def execute(self, query: str, parameters: Any = ()) -> psycopg.Cursor[TupleRow]:  # noqa: ANN401 - as psycopg has it
        self._watch.restart()
        return self.connection.execute(query, parameters, binary=True)

    def stream(self, query: str, parameters: Any, rows: int) -> Iterator[list[TupleRow]]:  # noqa: ANN401
        """The result, so many rows at a time."""
        with self.connection.cursor("rows", binary=True) as cursor:
            self._watch.restart()
            cursor.execute(query, parameters)
            while step := cursor.fetchmany(rows):
                yield step
                self._watch.restart()


class _Watch:
    """Cuts a connection whose server does not answer: a network may drop packets without an error.

    The kernel notices that (``tcp_user_timeout``) only where nothing acknowledges them.
    """

    def __init__(self, connection: DatabaseConnection) -> None:
        # A descriptor of its own: that of the connection may belong to another one by the time of the cut.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="store watch", daemon=True)
        self.cut = False

    def __enter__(self) -> _Watch:
        self.restart()
        self._thread.start()
        return self

    def restart(self) -> None:
        """A new statement begins."""
        self._deadline = time.monotonic() + ANSWER_SECONDS

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self.cut = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()
        if self.cut and isinstance(error, psycopg.OperationalError):
            raise psycopg.OperationalError(f"no answer within {ANSWER_SECONDS:g} s") from None


def _milliseconds(*seconds: float) -> list[str]:
    return [str(round(1000 * value)) for value in seconds]


def _check_open(connection: DatabaseConnection) -> None:
    """A connection that lay idle: raises psycopg.OperationalError when the server has closed it meanwhile.

    Without a round trip. An idle server sends only the notice that it closes the connection.
    """
    readable = select.poll()
    readable.register(connection.fileno(), select.POLLIN)
    if readable.poll(0):
        connection.close()
        raise psycopg.OperationalError("the server closed the connection")


def _address_of(url: str) -> str:
    """The server and database, for messages: no options, no password."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1@", url.partition("?")[0])
