"""``check`` says of a store what a start would say, in the same words."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from exporter import log
from exporter.cloud import SharedLimits
from exporter.config import AkskAuth, Config, Filters, Secret, StorageConfig, TargetConfig
from exporter.errors import StoreError
from exporter.exposition import ApiMetrics
from exporter.ledger.changes import Changes
from exporter.ledger.totals import CREATED, TotalKey
from exporter.runtime.storage import examine_store, open_store
from exporter.runtime.target import SharedResources, classifier, ledger_scope, new_repository
from exporter.store import checksums
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.world import InlineExecutor

replace = msgspec.structs.replace


def commit(config: Config, totals: dict[TotalKey, int | None], version: int) -> None:
    (target,) = config.targets
    with closing(SqliteStore(config.storage.sqlite_file)) as store:
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
                buckets={},
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
        with closing(open_store(config)) as store:
            store.load_breakers()
            resources = SharedResources(
                store,
                InlineExecutor(),
                SharedLimits(),
                {},
                ApiMetrics(0.0),
                {},
                lambda view: None,
                log.Redactor(),
            )
            for target in config.targets:
                repository = new_repository(config, target, resources, classifier(config))
                asyncio.run(repository.load(int(time.time() * 1000)))
    except StoreError as error:
        return str(error)
    return ""


def examined(config: Config) -> str:
    try:
        examine_store(config)
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
