"""``check`` where the store is a PostgreSQL database: what is wrong, and what is only out of reach."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import log
from exporter.commands.check import check
from exporter.store.postgres import database, refusals
from testkit.postgres import NEEDS_PASSWORD, PostgresServer
from testkit.processes import free_port

pytestmark = pytest.mark.program

SECRET = "not-the-right-one"
LIMITED = "limited"


@pytest.fixture(autouse=True)
def _roles(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And no long waits."""
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(refusals, "ANSWER_SECONDS", 2)
    postgres.empty_database()
    for role, what in ((NEEDS_PASSWORD, "PASSWORD 'right'"), (LIMITED, "CONNECTION LIMIT 0")):
        postgres.execute(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN {what}")
    yield
    postgres.execute(f"DROP ROLE {NEEDS_PASSWORD}; DROP ROLE {LIMITED}")


NO_FILE = "storage: {{url: '{url}'}}"
WITH_FILE = "storage: {{url: '{url}', password_file: password}}"


def checked(folder: Path, url: str, password: str | None, storage: str = WITH_FILE) -> tuple[int, str]:
    """Exit code, and the line about the store. ``password`` is in a file, if it is not ``None``."""
    path, out = folder / "exporter.yaml", io.StringIO()
    if password is not None:
        (folder / "password").write_text(password)
    targets = "targets: [{name: a, region: r, auth: {agency: {}}}]"
    path.write_text(f"{storage.format(url=url)}\n{targets}\n")
    code = check(path, environ={}, out=out, redactor=log.Redactor())
    (line,) = (line for line in out.getvalue().splitlines() if ": valid" not in line)
    return code, line.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("database_name", "user", "parameters", "said"),
    [
        ("books", "postgres", "sslmode=foo", 'invalid sslmode value: "foo"'),
        ("books", "postgres", "target_session_attrs=foo", 'invalid target_session_attrs value: "foo"'),
        ("books", "postgres", "connect_timeout=soon", "bad value for connect_timeout: 'soon'"),
        ("books", "postgres", "keepalives_idle=soon", "keepalives_idle must be a number, not 'soon'"),
        ("none", "postgres", "", 'database "none" does not exist: create the database, or name another one'),
        ("", "limitless", "", 'role "limitless" does not exist: see the role that storage.url names'),
        ("books", NEEDS_PASSWORD, "", "password authentication failed"),
        ("books", "postgres", "sslmode=require", "but not with this TLS: see sslmode and the files"),
        (
            "books",
            "postgres",
            "sslmode=verify-full&sslrootcert=/no/ca.pem",
            "sslrootcert /no/ca.pem: cannot be",
        ),
        (
            "books",
            "postgres",
            "sslrootcert=/no/ca.pem",
            "sslrootcert /no/ca.pem: cannot be read: No such file",
        ),
        ("books", "postgres", "sslcert=/etc&sslkey=/no/key", "sslcert /etc: cannot be read: Is a directory"),
        ("books", "postgres", "passfile=/no/passfile", "passfile /no/passfile: cannot be read: No such file"),
        ("books", "postgres", "passfile=/etc/passwd", "passfile /etc/passwd: may be used by others"),
        ("books", "postgres", "target_session_attrs=standby", "server is not in hot standby mode"),
    ],
)
def test_what_is_wrong_is_a_problem(
    postgres: PostgresServer, tmp_path: Path, database_name: str, user: str, parameters: str, said: str
) -> None:
    """One line, and never the password."""
    url = postgres.tcp_url(database_name, user) + (f"?{parameters}" if parameters else "")
    code, line = checked(tmp_path, url, SECRET)
    assert line.startswith("storage.url: ")
    assert said in line
    assert code == 1
    assert SECRET not in line


def test_no_name_of_a_database_is_said(postgres: PostgresServer, tmp_path: Path) -> None:
    """The role's is taken then: the message would speak of a database that nobody has named."""
    postgres.execute("ALTER ROLE limited CONNECTION LIMIT 5")
    code, line = checked(tmp_path, postgres.tcp_url("", LIMITED).rstrip("/"), SECRET)
    assert code == 1
    assert 'database "limited" does not exist: storage.url names no database' in line


def test_no_password_is_a_problem(postgres: PostgresServer, tmp_path: Path) -> None:
    code, line = checked(tmp_path, postgres.tcp_url("books", NEEDS_PASSWORD), None, NO_FILE)
    assert code == 1
    assert "no password supplied: give the role's password in storage.password_file, PGPASSWORD or" in line
    assert line.endswith("PGPASSFILE")


@pytest.mark.parametrize("text", [None, ""], ids=["missing", "empty"])
def test_a_password_file_without_a_password_is_a_problem(
    postgres: PostgresServer, tmp_path: Path, text: str | None
) -> None:
    """Whether the server asks for one or not."""
    code, line = checked(tmp_path, postgres.tcp_url("books"), text)
    assert code == 1
    assert "storage.password_file: " in line
    assert "storage.url" not in line


@pytest.mark.parametrize("how", ["closed", "no-host", "silent", "full"])
def test_what_is_out_of_reach_is_a_warning(postgres: PostgresServer, tmp_path: Path, how: str) -> None:
    """From here, or for now: the configuration may be right."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = {
            "closed": f"postgresql://u@127.0.0.1:{free_port()}/books?sslmode=require",
            "no-host": "postgresql://u@database.invalid/books",
            "silent": f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/books",
            "full": postgres.tcp_url("books", LIMITED),
        }[how]
        code, line = checked(tmp_path, url, SECRET)
    assert code == 0
    assert line.startswith("warning: storage.url: postgresql://")
    assert SECRET not in line
