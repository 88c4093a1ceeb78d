"""Who gets in, and how: TLS as libpq has it, client certificates, and where a password comes from."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from exporter.config import store_url
from exporter.errors import StoreError, StoreUnavailableError
from exporter.store.postgres import PostgresStore, database, examine_postgres
from exporter.store.postgres.schema import SCHEMA
from testkit.certificates import Authority
from testkit.postgres import NEEDS_PASSWORD, PostgresServer
from testkit.processes import wait_for
from tests.conftest import Tool
from tests.fake_api import PollerHarness
from tests.paths import ROOT
from tests.store.postgres.test_store import commit, load
from tests.store.support import SCOPE, polls

pytestmark = pytest.mark.program

ONLY_TLS, BY_CERTIFICATE = "only_tls", "by_certificate"


class TlsServer(NamedTuple):
    """A server with a certificate for ``localhost``, not for 127.0.0.1."""

    server: PostgresServer
    files: dict[str, str]
    """By name, for the parameters of a URL."""

    def url(self, parameters: str, user: str = ONLY_TLS, host: str = "localhost") -> str:
        given = parameters.format(**self.files)
        return f"postgresql://{user}@{host}:{self.server.port}/books?hostaddr=127.0.0.1&{given}"


@pytest.fixture(scope="module")
def certificates(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    ours, others = (Authority(tool("openssl"), folder, name) for name in ("ours", "others"))
    pairs = {
        "server": ours.issue("localhost", "DNS:localhost"),
        "client": ours.issue(BY_CERTIFICATE, "DNS:client", usage="clientAuth"),
        "stranger": others.issue("stranger", "DNS:client", usage="clientAuth"),
    }
    shutil.copy(pairs["client"].key, folder / "open.key")
    (folder / "open.key").chmod(0o644)
    return {
        "ours": ours.pair.cert,
        "others": others.pair.cert,
        "missing": folder / "missing.pem",
        "open_key": folder / "open.key",
        **{name: pair.cert for name, pair in pairs.items()},
        **{f"{name}_key": pair.key for name, pair in pairs.items()},
    }


@pytest.fixture(scope="module")
def tls(postgres: PostgresServer, certificates: dict[str, Path]) -> Iterator[TlsServer]:
    """The server of the other tests, with TLS for as long as these take."""
    data = postgres.folder / "data"
    for name in ("ours", "server", "server_key"):
        shutil.copy(certificates[name], data / name)
        (data / name).chmod(0o600)
        if postgres.user is not None:
            os.chown(data / name, postgres.user.pw_uid, postgres.user.pw_gid)
    rules = data / "pg_hba.conf"
    former = rules.read_text()
    rules.write_text(
        f"hostssl all {ONLY_TLS} 127.0.0.1/32 trust\nhostssl all {BY_CERTIFICATE} 127.0.0.1/32 cert\n"
        f"host all {ONLY_TLS},{BY_CERTIFICATE} all reject\n{former}"
    )
    for name, value in (("ssl_cert_file", "server"), ("ssl_key_file", "server_key"), ("ssl_ca_file", "ours")):
        postgres.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    postgres.execute("ALTER SYSTEM SET ssl = on")
    for role in (ONLY_TLS, BY_CERTIFICATE):
        postgres.execute(f"CREATE ROLE {role} SUPERUSER LOGIN")
    postgres.execute("SELECT pg_reload_conf()")
    wait_for("TLS", lambda: postgres.execute("SHOW ssl") == [("on",)] or None)
    yield TlsServer(postgres, {name: str(path) for name, path in certificates.items()})
    rules.write_text(former)
    postgres.execute("ALTER SYSTEM RESET ALL")
    postgres.execute("SELECT pg_reload_conf()")
    wait_for("no TLS", lambda: postgres.execute("SHOW ssl") == [("off",)] or None)
    for role in (ONLY_TLS, BY_CERTIFICATE):
        postgres.execute(f"DROP OWNED BY {role} CASCADE", "books")
        postgres.execute(f"DROP ROLE {role}")


@pytest.fixture(autouse=True)
def _empty(postgres: PostgresServer) -> None:
    postgres.empty_database()


@pytest.mark.parametrize(
    ("parameters", "host", "user"),
    [
        ("sslmode=verify-full&sslrootcert={ours}", "localhost", ONLY_TLS),
        ("sslmode=verify-ca&sslrootcert={ours}", "127.0.0.1", ONLY_TLS),
        ("sslmode=require", "localhost", ONLY_TLS),
        ("sslmode=prefer", "localhost", ONLY_TLS),
        ("sslmode=verify-full&sslrootcert={ours}&ssl_min_protocol_version=TLSv1.3", "localhost", ONLY_TLS),
        (
            "sslmode=verify-full&sslrootcert={ours}&sslcert={client}&sslkey={client_key}",
            "localhost",
            BY_CERTIFICATE,
        ),
    ],
    ids=["verify-full", "verify-ca", "require", "prefer", "tls-1.3", "client-certificate"],
)
def test_books_are_kept_over_tls(tls: TlsServer, parameters: str, host: str, user: str) -> None:
    """With parameters that the configuration takes."""
    store = PostgresStore(store_url(tls.url(parameters, user, host)))
    commit(store, 0, 3)
    assert load(store) == (1, 3)
    sessions = f"SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = '{user}'"  # noqa: S608
    assert set(tls.server.execute(sessions)) == {(True,)}
    store.close()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("parameters", "host", "user", "said"),
    [
        (
            "sslmode=verify-full&sslrootcert={ours}",
            "127.0.0.1",
            ONLY_TLS,
            'server certificate for "localhost".* does not match host name "127.0.0.1"',
        ),
        ("sslmode=verify-full&sslrootcert={others}", "localhost", ONLY_TLS, "certificate verify failed"),
        ("sslmode=verify-ca&sslrootcert={others}", "localhost", ONLY_TLS, "certificate verify failed"),
        ("sslmode=verify-full&sslrootcert={missing}", "localhost", ONLY_TLS, "missing.pem"),
        ("sslmode=disable", "localhost", ONLY_TLS, "no encryption"),
        ("sslmode=require", "localhost", BY_CERTIFICATE, "requires a valid client certificate"),
        (
            "sslmode=require&sslcert={stranger}&sslkey={stranger_key}",
            "localhost",
            BY_CERTIFICATE,
            "alert unknown ca",
        ),
        (
            "sslmode=require&sslcert={client}&sslkey={open_key}",
            "localhost",
            BY_CERTIFICATE,
            "private key file .* has group or world access",
        ),
        (
            "sslmode=require&sslcert={client}&sslkey={stranger_key}",
            "localhost",
            BY_CERTIFICATE,
            "key values mismatch",
        ),
    ],
    ids=[
        *("name", "authority", "authority-only", "no-authority", "no-tls"),
        *("no-client-certificate", "of-a-stranger", "open-key", "wrong-key"),
    ],
)
def test_a_connection_that_is_not_trusted_is_one_line(
    tls: TlsServer, monkeypatch: pytest.MonkeyPatch, parameters: str, host: str, user: str, said: str
) -> None:
    """On either side."""
    monkeypatch.setattr(database, "CONNECT_SECONDS", 2.0)
    with pytest.raises(StoreUnavailableError, match=said) as caught:
        PostgresStore(store_url(tls.url(parameters, user, host)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"postgresql://{user}@{host}:{tls.server.port}/books: ")


# --- passwords --------------------------------------------------------------------------------------------


@pytest.fixture
def with_password(postgres: PostgresServer) -> str:
    """The address of a database whose role has the password ``right:one``."""
    postgres.execute(f"DROP ROLE IF EXISTS {NEEDS_PASSWORD}")
    postgres.execute(f"CREATE ROLE {NEEDS_PASSWORD} SUPERUSER LOGIN PASSWORD 'right:one'")
    return postgres.tcp_url("books", NEEDS_PASSWORD)


@pytest.mark.parametrize("way", ["PGPASSWORD", "PGPASSFILE", "passfile", ".pgpass", "file-before-PGPASSWORD"])
def test_a_password_comes_from_where_libpq_looks(
    way: str, with_password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or from ``storage.password_file``, which comes first."""
    url, password = with_password, None
    (tmp_path / ".pgpass").write_text("127.0.0.1:*:books:" + NEEDS_PASSWORD + r":right\:one" + "\n")
    (tmp_path / ".pgpass").chmod(0o600)
    match way:
        case "PGPASSWORD":
            monkeypatch.setenv("PGPASSWORD", "right:one")
        case "PGPASSFILE":
            monkeypatch.setenv("PGPASSFILE", str(tmp_path / ".pgpass"))
        case "passfile":
            url = store_url(f"{url}?passfile={tmp_path / '.pgpass'}")
        case ".pgpass":
            monkeypatch.setenv("HOME", str(tmp_path))
        case _:
            monkeypatch.setenv("PGPASSWORD", "wrong-one")
            password = "right:one"
    store = PostgresStore(url, lambda: password)
    commit(store, 0, 3)
    store.close()


@pytest.mark.e2e
def test_no_password_is_said(with_password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 2.0)
    with pytest.raises(StoreUnavailableError, match="no password supplied"):
        PostgresStore(with_password)


# --- least rights -----------------------------------------------------------------------------------------


@pytest.fixture
def exporter_role(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """What docs/high-availability.md says an administrator does, is done."""
    text = (ROOT / "docs/high-availability.md").read_text()
    (block,) = re.findall(r"Least rights.*?```sql\n(.*?)```", text, re.DOTALL)
    postgres.execute("DROP ROLE IF EXISTS exporter")
    postgres.execute(block, "books")
    yield postgres
    postgres.execute("DROP OWNED BY exporter CASCADE; DROP ROLE exporter", "books")


def work(store: PostgresStore) -> None:
    """All that a replica does."""
    store.renew(["t"], 3600)
    harness = PollerHarness(store)
    polls(harness, rounds=2)
    store.read_committed("t", SCOPE, harness.clock.ms, 0)
    store.save_breakers({"key": "refused"})
    store.save_breakers(store.load_breakers() and {})
    store.release(["t"])
    store.resign()


def test_the_documented_rights_are_enough(exporter_role: PostgresServer) -> None:
    """As the page has them: a role, and a schema of its own."""
    with closing(PostgresStore(exporter_role.url("books", "exporter"))) as store:
        work(store)
    others = (
        "SELECT 1 FROM pg_roles WHERE rolname = 'exporter'"
        " AND (rolsuper OR rolcreatedb OR rolcreaterole"
        " OR has_database_privilege('exporter', 'books', 'CREATE'))"
    )
    assert not exporter_role.execute(others)


@pytest.mark.parametrize("missing", ["", "USAGE", "SELECT", "INSERT", "UPDATE", "DELETE"])
def test_the_rights_to_rows_are_enough_and_needed(postgres: PostgresServer, missing: str) -> None:
    """Where another role has made the tables. Without one of them, it is said that one is missing."""
    PostgresStore(postgres.url("books")).close()
    rights = [right for right in ("SELECT", "INSERT", "UPDATE", "DELETE") if right != missing]
    postgres.execute("DROP ROLE IF EXISTS rows; CREATE ROLE rows LOGIN", "books")
    postgres.execute(f"GRANT {', '.join(rights)} ON ALL TABLES IN SCHEMA {SCHEMA} TO rows", "books")
    if missing != "USAGE":
        postgres.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO rows", "books")
    try:
        if missing:
            with pytest.raises(
                StoreError, match=r"permission denied .*: grant the exporter's role what docs/"
            ):
                PostgresStore(postgres.url("books", "rows")).renew(["t"], 3600)
        else:
            with closing(PostgresStore(postgres.url("books", "rows"))) as store:
                work(store)
    finally:
        postgres.execute("DROP OWNED BY rows; DROP ROLE rows", "books")


# --- tries ------------------------------------------------------------------------------------------------


NO_TLS = "?sslmode=disable"
"""Without it libpq sends a refused password again without TLS, where the server has that."""


class ServerLog:
    """What the server has logged since."""

    def __init__(self, server: PostgresServer) -> None:
        self._file = server.folder / "server.log"
        self._begin = self._file.stat().st_size

    def count(self, text: str) -> int:
        return self._file.read_bytes()[self._begin :].decode(errors="replace").count(text)


@pytest.mark.parametrize(
    ("name", "user", "said"),
    [
        ("books", NEEDS_PASSWORD, "password authentication failed"),
        ("none", NEEDS_PASSWORD, 'database "none" does not exist'),
        ("none", "postgres", 'database "none" does not exist'),
        ("books", "nobody", 'role "nobody" does not exist'),
    ],
)
def test_a_final_answer_is_asked_for_once(
    postgres: PostgresServer, with_password: str, name: str, user: str, said: str
) -> None:
    """By a start, or a command: an account that is locked after some wrong passwords is not locked by it."""
    assert with_password
    log, password = ServerLog(postgres), "right:one" if name == "none" else "wrong"
    with pytest.raises(StoreUnavailableError, match=said):
        PostgresStore(postgres.tcp_url(name, user) + NO_TLS, lambda: password)
    assert log.count(said) == (1 if user == NEEDS_PASSWORD else 2)  # the second is a ping


def test_a_check_tries_a_password_twice(postgres: PostgresServer, with_password: str) -> None:
    """The second time for the code of the answer, which says what to do."""
    log = ServerLog(postgres)
    with pytest.raises(StoreError, match="give the role's password"):
        list(examine_postgres(with_password + NO_TLS, lambda: "wrong", {}, 0, 0))
    assert log.count("password authentication failed") == 2


def test_a_changed_password_is_tried_every_five_seconds(
    postgres: PostgresServer, with_password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many targets ask, and however often: a server may lock the role. The right one is used then."""
    monkeypatch.setattr(database, "LONGEST_PAUSE", 3600.0)  # that they do not pass here
    password = "right:one"
    with closing(PostgresStore(with_password + NO_TLS, lambda: password)) as store:
        commit(store, 0, 1)
        postgres.execute(f"ALTER ROLE {NEEDS_PASSWORD} PASSWORD 'changed'")
        log = ServerLog(postgres)
        postgres.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{NEEDS_PASSWORD}'"  # noqa: S608 - our own words
        )
        for _ in range(10):
            with pytest.raises(StoreUnavailableError):
                load(store)
            store.database.next_try = 0.0  # as if it were the next caller's turn
        assert log.count("password authentication failed") == 1
        password = "changed"
        store.database.next_connect = 0.0
        assert load(store) == (1, 1)
