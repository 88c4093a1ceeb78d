"""PostgreSQL's faults as one line each that says what to do.

Knows SQLSTATE codes; must not know what is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from exporter.errors import StoreCorruptError, StoreError, StoreUnavailableError
from exporter.process import exhausted, reason
from exporter.store.postgres.schema import SCHEMA

_OUTSIDE: Final = (
    "08",  # connection
    "28",  # who may log in
    "3D",  # no such database
    "53",  # resources: connections, disk, memory
    "57P",  # shut down, starts
)
"""SQLSTATEs (their beginnings) of a database that nothing can be asked of now."""

_READ_ONLY: Final = "25006"
REMEDIES: Final = {  # by SQLSTATE: what to do
    "42501": f"grant the exporter's role what docs/high-availability.md lists for the schema {SCHEMA}",
    _READ_ONLY: "this server is read-only (a standby?): name the primary, or all servers, in storage.url",
    "53100": "no space left on the database's disk: nothing was changed, free some",
    "57014": "the database took too long, and nothing was changed",
    "55P03": "another session holds a lock for too long, and nothing was changed",
    "40P01": "nothing was changed; it is tried again",
}
_NONE_OF_THEM: Final = "see that one of them runs, can be reached from here, and is no standby"
_SEVERAL: Final = "Multiple connection attempts failed. All failures were: - "
"""What psycopg puts before each host and address that it tried, and after what it says of the last one."""
_DAMAGE: Final = (
    "XX",  # data or index corrupted
    "42P01",  # no such table
    "42703",  # no such column
)


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raises StoreError and its children in place of psycopg's errors, and of those of the system: where it
    has no more files or threads, the database cannot be reached for now.
    """
    try:
        yield
    except psycopg.Error as error:
        raise store_error(address, error) from None
    except OSError as error:
        raise StoreUnavailableError(f"{address}: {reason(error)}") from None
    except RuntimeError as error:
        if (missing := exhausted(error)) is None:
            raise
        raise StoreUnavailableError(f"{address}: {missing}") from None


def store_error(address: str, error: psycopg.Error) -> StoreError:
    code, said = error.sqlstate or "", _one_line(error)
    if code.startswith(_DAMAGE):
        return StoreCorruptError(
            f"{address}: the tables in schema {SCHEMA} are damaged or were changed from outside ({said}):"
            f" restore a backup, or rename the schema to start new books (an honest reset)"
        )
    if _SEVERAL in said:
        tried = said.partition(_SEVERAL)[2].replace(" - host: ", "; host: ")
        said = f"no server can be used: {tried}: {_NONE_OF_THEM}"
    elif "session is read-only" in said:  # libpq finds that out by itself, before anything is asked
        said = f"{said}: {REMEDIES[_READ_ONLY]}"
    elif code in REMEDIES:
        said = f"{said}: {REMEDIES[code]}"
    unreachable = isinstance(error, psycopg.OperationalError) and not code
    kind = StoreUnavailableError if unreachable or code.startswith(_OUTSIDE) else StoreError
    return kind(f"{address}: {said}" + (f" ({code})" if code else ""))


def _one_line(error: psycopg.Error) -> str:
    """What the server said, or libpq of each of its tries. Neither ever quotes a password."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(text.split())
