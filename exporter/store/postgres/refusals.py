"""Why a server cannot be used: the configuration is wrong, or it is only out of reach, from here or for now.

Knows libpq's parameters and how to ask it; must not know the tables. libpq says of a connection that failed
only a text, in the server's language. So it is asked twice more: whether it takes the parameters and gets an
answer (``PQping``), and for the code of the answer, which its trace has.
"""

from __future__ import annotations

import os
import re
import select
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from exporter.errors import StoreError, StoreUnavailableError

_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_PRIVATE: Final = {"sslkey": 0o037, "passfile": 0o077}
"""Files that libpq does not use when others have these rights. (A key of root's may be read by its group.)"""
_NUMBERS: Final = (
    *("port", "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    "tcp_user_timeout",
)
_FOR_NOW: Final = (
    "08",  # connection: a pooler whose server is gone
    "53",  # resources: too many connections
    "57",  # a shutdown
    "58",  # files of the server
    "XX",  # defects of the server
)
"""SQLSTATEs (their beginnings) of a server that lets nobody in now."""
_REMEDIES: Final = {
    "28P01": "give the role's password in storage.password_file, PGPASSWORD or PGPASSFILE",
    "28": "see the role that storage.url names, and pg_hba.conf of the server",
    "3D": "create the database, or name another one in storage.url",
}
_NO_DATABASE: Final = "storage.url names no database, so that libpq takes the role's name: name one"
_TLS: Final = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslcrldir",
    "ssl_min_protocol_version",
)
ANSWER_SECONDS: Final = 5
_REQUIRE_AUTH: Final = 160000
"""The first libpq that knows this parameter."""


def check_parameters(address: str, parameters: Mapping[str, Any]) -> None:
    """Raises StoreError for what is wrong with any server: libpq itself passes over some of it silently."""
    if problems := [*_wrong_numbers(parameters), *_wrong_files(_with_environment(parameters))]:
        raise StoreError(f"{address}: {'; '.join(problems)}")


def _with_environment(parameters: Mapping[str, Any]) -> dict[str, str]:
    """And those that libpq takes from the environment."""
    known = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
    found = {name: os.environ.get(variable.decode(), "") for name, variable in known.items() if variable}
    return found | {name: str(value) for name, value in parameters.items()}


def _wrong_numbers(parameters: Mapping[str, Any]) -> Iterator[str]:
    for name in _NUMBERS:
        for value in str(parameters.get(name, "")).split(","):
            if value and not re.fullmatch(r"\s*-?\d+\s*", value):
                yield f"{name} must be a number, not {value!r}"
            elif value and name == "port" and not 0 < int(value) < 65536:
                yield f"port must be 1 to 65535, not {value}"


def _wrong_files(parameters: Mapping[str, str]) -> Iterator[str]:
    for name in _FILES:
        value = parameters.get(name, "")
        if not value or (name, value) == ("sslrootcert", "system") or (name == "sslkey" and ":" in value):
            continue
        try:
            with Path(value).open("rb") as file:
                state = os.fstat(file.fileno())
        except OSError as error:
            yield f"{name} {value}: cannot be read: {error.strerror}"
            continue
        others = _PRIVATE.get(name, 0) | (0o040 if name == "sslkey" and state.st_uid != 0 else 0)
        if not stat.S_ISREG(state.st_mode):
            yield f"{name} {value}: is no regular file"
        elif state.st_mode & others:
            yield f"{name} {value}: may be used by others than its owner: libpq does not use it; chmod 600"


def password_was_used(error: Exception) -> bool:
    """Whether a try to connect failed when, or after, the server asked for a password."""
    connection = error.pgconn if isinstance(error, psycopg.Error) else None
    return connection is not None and bool(connection.needs_password or connection.used_password)


def is_final(error: Exception, parameters: Mapping[str, Any]) -> bool:
    """Whether another try would fail in the same way: the parameters are wrong, or there is a server that
    answers, does not start or end just now, and is no standby, which may be promoted soon.
    """
    if isinstance(error, psycopg.errors.ConnectionTimeout) or "session is read-only" in str(error):
        return False
    return _ping({"connect_timeout": ANSWER_SECONDS, **parameters}) in (pq.Ping.OK, pq.Ping.NO_ATTEMPT)


def check_refusal(error: StoreUnavailableError, parameters: Mapping[str, Any]) -> None:
    """Raises StoreError in place of an error that another time or place would not cure."""
    given = {"connect_timeout": ANSWER_SECONDS, **parameters}
    match _ping(given):
        case pq.Ping.NO_ATTEMPT:
            raise StoreError(str(error)) from None
        case pq.Ping.OK:
            code = _sqlstate(given)
            if code is not None and not code.startswith(_FOR_NOW):
                raise StoreError(": ".join(filter(None, (str(error), _remedy(code, parameters))))) from None
        case pq.Ping.NO_RESPONSE if any(_with_environment(parameters).get(name) for name in _TLS):
            # No password is sent without TLS: the server is asked only whether it answers.
            plain = {**given, **dict.fromkeys(_TLS, ""), "sslmode": "disable", "require_auth": "none"}
            if _ping({**plain, "password": ""}) == pq.Ping.OK:
                raise StoreError(
                    f"{error}: the server answers, but not with this TLS: see sslmode and the files of"
                    " storage.url"
                ) from None


def _remedy(code: str, parameters: Mapping[str, Any]) -> str:
    """What to do, if that is known."""
    if code.startswith("3D") and "dbname" not in parameters and "PGDATABASE" not in os.environ:
        return _NO_DATABASE
    return next((remedy for begin, remedy in _REMEDIES.items() if code.startswith(begin)), "")


def _ping(parameters: Mapping[str, Any]) -> pq.Ping:
    """Without the password, where this libpq can do that: a wrong one may lock the role."""
    given = {**parameters}
    if pq.version() >= _REQUIRE_AUTH:
        given |= {"password": "", "require_auth": "none"}
    try:
        return pq.Ping(pq.PGconn.ping(make_conninfo("", **given).encode()))
    except psycopg.ProgrammingError:  # a name that this libpq does not know
        return pq.Ping.NO_ATTEMPT


def _sqlstate(parameters: Mapping[str, Any]) -> str | None:
    """Of the server's refusal; empty where there is none, or this libpq does not trace it. ``None`` when it
    refuses nothing any more, or does not answer.
    """
    if sys.platform != "linux":
        return ""
    connection = pq.PGconn.connect_start(make_conninfo("", **parameters).encode())
    trace = os.memfd_create("trace")  # in memory: it has what proves the password
    try:
        connection.trace(trace)
        while (status := connection.connect_poll()) in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
            reads = [connection.socket] if status == pq.PollingStatus.READING else []
            writes = [] if reads else [connection.socket]
            if not any(select.select(reads, writes, [], ANSWER_SECONDS)):
                break
        connection.untrace()
        if status != pq.PollingStatus.FAILED:
            return None
        if connection.needs_password:
            return "28P01"
        found = re.findall(rb'\tErrorResponse\t.* C "(\w{5})"', os.pread(trace, 1 << 20, 0))
    finally:
        connection.finish()
        os.close(trace)
    return found[-1].decode() if found else ""
