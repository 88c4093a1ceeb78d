"""``check`` says of a store what a start would say, in the same words."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from exporter import log
from exporter.cloud import SharedLimits
from exporter.config import AkskAuth, Config, Filters, MetricsConfig, Secret, StorageConfig, TargetConfig
from exporter.errors import StoreError, StoreUnavailableError
from exporter.exposition import ApiMetrics
from exporter.ledger.changes import Changes
from exporter.ledger.totals import CREATED, TotalKey
from exporter.log import Redactor
from exporter.runtime.storage import examine_store, open_store
from exporter.runtime.target import SharedResources, classifier, ledger_scope, new_repository
from exporter.store import checksums
from exporter.store.base import Commit, SharedStore
from exporter.store.postgres.schema import SCHEMA
from exporter.store.schema import SCHEMA_VERSION as SQLITE_VERSION
from exporter.store.sqlite import SqliteStore
from testkit.postgres import NEEDS_PASSWORD, PostgresServer
from testkit.processes import free_port
from testkit.world import InlineExecutor
from tests.store.test_sqlite_upgrade import TO_FIRST_VERSION

replace = msgspec.structs.replace


def commit(
    config: Config,
    totals: dict[TotalKey, int | None],
    version: int,
    buckets: dict[str, tuple[int, ...]] | None = None,
) -> None:
    (target,) = config.targets
    with closing(open_store(config, log.Redactor())) as store:
        scope = ledger_scope(target)
        store.load(target.name, scope, 0, 0)
        changes = Changes(None, {}, (), totals, {}, ())
        store.commit(
            target.name,
            scope,
            Commit(
                version=version,
                changes=changes,
                project_id="p1",
                last_complete_poll=None,
                buckets=buckets or {},
                keep_minutes_since=0,
            ),
        )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """With a good store of one target, and a refusal of its credentials."""
    target = TargetConfig(
        name="t",
        region="r",
        endpoint="https://a.example",
        iam_endpoint="https://b.example",
        project_id="p1",
        auth=AkskAuth(Secret("AK"), Secret("SK")),
    )
    made = Config(storage=StorageConfig(url=f"sqlite:///{tmp_path}/books.db"), targets=(target,))
    commit(made, {}, 0)
    with closing(SqliteStore(made.storage.sqlite_file)) as store:
        store.save_breakers({"key": "refused"})
    return made


def unbalanced(config: Config) -> Config:
    commit(config, {(CREATED, "ASYNC_JOB", "TTS_LLM", ""): 5}, 1)
    return config


def buckets_that_are_no_json(config: Config) -> Config:
    with closing(sqlite3.connect(config.storage.sqlite_file)) as db:
        checksums.register(db)
        db.execute("UPDATE targets SET buckets = 'x'")
        db.execute(f"UPDATE targets SET crc = row_crc({checksums.COLUMNS['targets']})")  # noqa: S608 - our own words
        db.commit()
    return config


def another_scope(config: Config) -> Config:
    (target,) = config.targets
    return replace(config, targets=(replace(target, filters=Filters(job_type="PRELOAD")),))


def another_project(config: Config) -> Config:
    (target,) = config.targets
    return replace(config, targets=(replace(target, project_id="p2"),))


def a_breaker_gone(config: Config) -> Config:
    with closing(sqlite3.connect(config.storage.sqlite_file)) as db:
        db.execute("DELETE FROM breakers WHERE credentials = 'key'")
        db.commit()
    return config


def start(config: Config) -> str:
    """What a start says: the error, or nothing."""
    try:
        with closing(open_store(config, log.Redactor())) as store:
            store.load_breakers()
            resources = SharedResources(
                store,
                InlineExecutor(),
                SharedLimits(claims=None),
                {},
                ApiMetrics(0.0),
                {},
                lambda view: None,
                log.Redactor(),
                None,
            )
            for target in config.targets:
                repository = new_repository(config, target, resources, classifier(config))
                asyncio.run(repository.load(int(time.time() * 1000)))
    except StoreError as error:
        return str(error)
    return ""


def examined(config: Config) -> str:
    try:
        examine_store(config, log.Redactor())
    except StoreError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda config: config, "", id="good"),
        pytest.param(
            unbalanced, "{file}: the stored books of target 't' do not balance (by 5)", id="unbalanced"
        ),
        pytest.param(buckets_that_are_no_json, "{file}: the store is damaged", id="buckets"),
        pytest.param(another_scope, "{file}: target 't' was counted for ", id="scope"),
        pytest.param(another_project, "target 't' was counted for another project", id="project"),
        pytest.param(a_breaker_gone, "{file}: the store is damaged", id="breaker"),
    ],
)
def test_a_check_says_what_a_start_says(
    change: Callable[[Config], Config], said: str, config: Config
) -> None:
    """And changes no byte of the file."""
    changed = change(config)
    file = changed.storage.sqlite_file
    before = file.read_bytes()
    found = examined(changed)
    assert file.read_bytes() == before
    assert found == start(changed)
    assert found.startswith(said.format(file=file))
    assert bool(found) is bool(said)


@pytest.mark.e2e
def test_the_password_of_the_database_is_never_shown(
    config: Config, postgres: PostgresServer, tmp_path: Path
) -> None:
    """It is read from its file; the log's redactor knows it from then on."""
    database, user = postgres.empty_database(), NEEDS_PASSWORD
    postgres.execute(f"DROP ROLE IF EXISTS {user}")
    postgres.execute(f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD 'of-the-database'")
    file, redactor = tmp_path / "password", Redactor()
    file.write_text("of-the-database\n")
    storage = StorageConfig(url=postgres.tcp_url(database, user), password=file)
    with closing(open_store(replace(config, storage=storage), redactor)) as store:
        assert store.load("t", "s", 0, 0).version == 0
    assert redactor.redact("of-the-database") == "***"
    file.unlink()
    with pytest.raises(StoreError, match=r"storage\.password_file: .* cannot be read"):
        open_store(replace(config, storage=storage), redactor)


def test_what_postgresql_needs_is_said_where_it_is_missing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a start and by ``check``."""
    changed = replace(config, storage=StorageConfig(url="postgresql:///books"))
    monkeypatch.delitem(sys.modules, "exporter.store.postgres", raising=False)
    monkeypatch.delitem(sys.modules, "exporter.store.postgres.store", raising=False)
    monkeypatch.setitem(sys.modules, "exporter.store.postgres.database", None)
    for use in (open_store, examine_store):
        with pytest.raises(StoreError, match=r"pip install 'metastudio-tts-exporter\[postgres\]'"):
            use(changed, log.Redactor())


def test_a_check_says_what_a_start_changes(config: Config) -> None:
    """An upgrade, for which a backup is made first; histograms that start anew."""
    assert examine_store(config, log.Redactor()) == ()
    other = replace(config, metrics=MetricsConfig(text_length_buckets=(100, 1000)))
    stored = "50 100 200 500 1000 2000 3000 5000 10000"
    commit(config, {}, 1, {"text_length": tuple(map(int, stored.split()))})
    assert examine_store(other, log.Redactor()) == (
        f"metrics.text_length_buckets: 100 1000 is not what was counted with, {stored}: histograms of t start"
        " anew at zero",
    )
    with closing(sqlite3.connect(config.storage.sqlite_file)) as db:
        db.executescript(TO_FIRST_VERSION)
    (warning,) = examine_store(other, log.Redactor())
    assert f": a start brings the store from version 1 to {SQLITE_VERSION}, and there is no way" in warning


# --- a database -------------------------------------------------------------------------------------------


@pytest.fixture
def of_database(config: Config, postgres: PostgresServer) -> Config:
    """The same target in a database, with a commit."""
    changed = replace(config, storage=StorageConfig(url=postgres.url(postgres.empty_database())))
    commit(changed, {}, 0)
    return changed


def run(config: Config, statement: str) -> list[Any]:
    """As superuser."""
    with psycopg.connect(config.storage.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def changed_by(statement: str) -> Callable[[Config], Config]:
    def change(config: Config) -> Config:
        run(config, statement)
        return config

    return change


def state(config: Config) -> list[Any]:
    tables = run(config, f"SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text = '{SCHEMA}'")  # noqa: S608
    return [tables, run(config, f"SELECT * FROM {SCHEMA}.targets") if tables else None]  # noqa: S608


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda config: config, "", id="good"),
        pytest.param(changed_by(f"DROP SCHEMA {SCHEMA} CASCADE"), "", id="empty"),
        pytest.param(
            changed_by(f"UPDATE {SCHEMA}.format SET version = 9"),  # noqa: S608
            "{place}: written by a newer version of this exporter",
            id="newer",
        ),
        pytest.param(
            changed_by(f"DROP TABLE {SCHEMA}.minutes"), "{place}: the tables in schema", id="table-gone"
        ),
        pytest.param(
            unbalanced, "{place}: the stored books of target 't' do not balance (by 5)", id="unbalanced"
        ),
        pytest.param(another_scope, "{place}: target 't' was counted for ", id="scope"),
        pytest.param(another_project, "target 't' was counted for another project", id="project"),
    ],
)
def test_a_check_of_a_database_says_what_a_start_says(
    change: Callable[[Config], Config], said: str, of_database: Config
) -> None:
    """And changes nothing: it takes no target, and makes no tables."""
    changed = change(of_database)
    before = state(changed)
    found = examined(changed)
    assert state(changed) == before
    assert found == start(changed)
    assert found.startswith(said.format(place="postgresql://postgres@/books"))
    assert bool(found) is bool(said)


def test_a_check_runs_beside_a_replica(of_database: Config) -> None:
    """Which keeps its targets: what is committed is read."""
    with closing(open_store(of_database, log.Redactor())) as store:
        assert isinstance(store, SharedStore)
        store.renew(["t"], 3600)
        store.load("t", ledger_scope(of_database.targets[0]), 0, 0)
        before = state(of_database)
        assert examined(of_database) == ""
        assert "target 't' was counted for " in examined(another_scope(of_database))
        assert state(of_database) == before


def test_a_check_says_that_a_start_upgrades_the_tables(of_database: Config) -> None:
    """And what becomes of the replicas that run."""
    run(of_database, f"UPDATE {SCHEMA}.format SET version = 1")  # noqa: S608 - our own words
    (warning,) = examine_store(of_database, log.Redactor())
    assert "/books: a start brings the store from version 1 to 2, and there is no way back but a" in warning
    assert warning.endswith(": replicas of the former one stop polling until they are updated")
    run(of_database, f"DROP SCHEMA {SCHEMA} CASCADE")
    assert examine_store(of_database, log.Redactor()) == ()


def test_a_check_finds_missing_rights(of_database: Config) -> None:
    """Of a role that may read some, before a start or an hour after it fails for the others."""
    url = of_database.storage.url.replace("postgres@", "limited@")
    limited = replace(of_database, storage=StorageConfig(url=url))
    if run(of_database, "SELECT 1 FROM pg_roles WHERE rolname = 'limited'"):
        run(of_database, "DROP OWNED BY limited; DROP ROLE limited")
    run(of_database, "CREATE ROLE limited LOGIN")
    rows = f"ON ALL TABLES IN SCHEMA {SCHEMA} TO limited"
    incomplete = "the role may not read and write every table: grant the exporter's role what docs/"
    for right, said in (
        ("SELECT 1", "permission denied for schema"),
        (f"GRANT USAGE ON SCHEMA {SCHEMA} TO limited", "permission denied for table format"),
        (f"GRANT SELECT {rows}", incomplete),
        (f"GRANT INSERT, UPDATE, DELETE {rows}", ""),
        (f"REVOKE DELETE ON {SCHEMA}.minutes FROM limited", incomplete),
        (f"DROP SCHEMA {SCHEMA} CASCADE", "the role may not make the tables: grant the exporter's role"),
        ("GRANT CREATE ON DATABASE books TO limited", ""),
        (f"REVOKE CREATE ON DATABASE books FROM limited; CREATE SCHEMA {SCHEMA}", "may not make the tables"),
        (f"ALTER SCHEMA {SCHEMA} OWNER TO limited", ""),
    ):
        run(of_database, right)
        found = examined(limited)
        assert (said in found) if said else not found, (right, found)
    run(of_database, "DROP OWNED BY limited; DROP ROLE limited")


def test_a_database_out_of_reach_is_told_apart(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check then only warns: it may be reached from where the exporter will run."""
    monkeypatch.setattr("exporter.store.postgres.database.CONNECT_SECONDS", 0.5)
    url = f"postgresql://u@127.0.0.1:{free_port()}/d"
    with pytest.raises(StoreUnavailableError, match="connection failed"):
        examine_store(replace(config, storage=StorageConfig(url=url)), log.Redactor())
