"""Two fleets on one database, in one process. The cloud is a closed port: polls fail at once."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import Any, NoReturn

import pytest
from msgspec.structs import replace

from exporter.cloud.shared_limits import SharedLimits
from exporter.config import Config, MetricsConfig, StorageConfig
from exporter.errors import StoreError
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.publisher import Publisher
from exporter.exposition.render import Exposition
from exporter.ledger import StoredLedger, TargetView, totals
from exporter.log import Redactor
from exporter.polling import Budget
from exporter.runtime.fleet import Fleet
from exporter.runtime.replica import Replica
from exporter.runtime.target import SharedResources
from exporter.store import LeaseTable
from exporter.store.postgres import PostgresStore
from testkit.postgres import PostgresServer
from tests.exposition.views import PROCESS, STARTED
from tests.runtime.test_fleet import of_target

pytestmark = pytest.mark.program

LEASE = 3600.0
"""The tests renew when they want to."""
NAMES = {"t", "u", "v", "w"}
CONFIG = Config(
    storage=StorageConfig(url="postgresql:///books", lease=1.0),
    targets=tuple(of_target(name) for name in sorted(NAMES)),
)


class OneOfTwo:
    """A fleet with its part in the leases."""

    def __init__(
        self, url: str, executor: ThreadPoolExecutor, config: Config = CONFIG, lease: float = LEASE
    ) -> None:
        self.store = PostgresStore(url)
        self.offset = 0.0
        """Seconds by which the monotonic clock is ahead."""
        self.replica = Replica(
            self.store, lease, monotonic=lambda: asyncio.get_running_loop().time() + self.offset
        )
        self.exposition = Exposition(ApiMetrics(STARTED), PROCESS, created_timestamps=False)
        publisher = Publisher(self.exposition)
        self.api = ApiMetrics(STARTED)
        self.budgets: dict[str, Budget] = {}
        resources = SharedResources(
            self.store, executor, SharedLimits(claims=None), self.budgets, self.api, {}, publisher.publish,
            Redactor(), replica=self.replica,
        )  # fmt: skip
        self.fleet = Fleet(config, resources, publisher)

    def _monotonic(self) -> float:
        return time.monotonic() + self.offset

    @property
    def held(self) -> set[str]:
        return {view.target for view in self.exposition.published if view.lease_held}

    @property
    def polling(self) -> set[str]:
        names = {task.get_name() for task in asyncio.all_tasks() if not task.done()}
        return {name for name in NAMES if f"poller of {name}" in names}


@asynccontextmanager
async def running(server: PostgresServer, config: Config = CONFIG) -> AsyncIterator[OneOfTwo]:
    with ThreadPoolExecutor(2) as executor:
        one = OneOfTwo(server.url("books"), executor, config)
        with closing(one.store), closing(one.replica):
            await one.fleet.load()
            async with asyncio.TaskGroup() as tasks:
                one.fleet.start(tasks)
                leases = tasks.create_task(one.fleet.keep_leases())
                try:
                    yield one
                finally:
                    one.fleet.stop()
                    leases.cancel()
            await one.fleet.close()
            await one.replica.resign()


async def reached(what: str, *others: OneOfTwo, **wanted: set[str]) -> None:
    """Until the first of them shows that; all of them renew meanwhile."""
    async with asyncio.timeout(30):
        while any(getattr(others[0], key) != value for key, value in wanted.items()):
            for one in others:
                await one.fleet.renew_now()
            await asyncio.sleep(0.02)


def failed_polls(view: TargetView) -> int:
    return view.by_labels(totals.POLLS).get(("", "", "failed"), 0)


async def shown(one: OneOfTwo, wanted: Callable[[TargetView], bool]) -> dict[str, TargetView]:
    """By target: what it publishes once that is so of all."""
    async with asyncio.timeout(30):
        while not all(map(wanted, one.exposition.published)):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)
    return {view.target: view for view in one.exposition.published}


def test_a_second_replica_gets_half(postgres: PostgresServer) -> None:
    """And the first one all again, at once when the other ends: it releases what it held."""
    postgres.empty_database()

    async def scene() -> None:
        async with running(postgres) as one:
            assert one.held == NAMES
            async with running(postgres) as other:
                assert other.held == set()
                await reached("half", one, other, held={"t", "u"})
                await reached("the other half", other, one, held={"v", "w"})
            await reached("all", one, held=NAMES, polling=NAMES)

    asyncio.run(scene())


def test_the_log_says_who_polls_what(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """Since when, and from whom it was taken: one line for all of a start, of a change, of an end."""
    postgres.empty_database()

    def lines() -> list[tuple[str, dict[str, object]]]:
        found = [record for record in caplog.records if record.name == "exporter.runtime.replica"]
        caplog.clear()
        return [(record.message, record.__dict__["fields"]) for record in found]

    async def scene() -> None:
        with (
            ThreadPoolExecutor(1) as executor,
            closing(OneOfTwo(postgres.url("books"), executor).store) as gone,
        ):
            gone.renew(["w"], 3600)
            gone.load("w", "", 0, 0)
            gone.renew(["w"], -1)
        caplog.clear()
        async with running(postgres) as one:
            me = one.store.replica
            taken = {"first_time": "t u v", "expired": "w", "former_holder": gone.replica}
            assert lines() == [("targets taken", {"replica": me, "count": 4, **taken})]
            async with running(postgres) as other:
                assert lines() == [("targets taken", {"replica": other.store.replica, "count": 0})]
                await reached("the other half", other, one, held={"v", "w"})
                left = {"replica": me, "count": 2, "targets": "v w", "to": other.store.replica}
                assert lines() == [
                    ("targets released", left),
                    ("targets taken", {"replica": other.store.replica, "count": 2, "released": "v w"}),
                ]
            assert lines() == [
                ("targets released", {"replica": other.store.replica, "count": 2, "targets": "v w"})
            ]
            await reached("all", one, held=NAMES)
            assert lines() == [("targets taken", {"replica": me, "count": 2, "released": "v w"})]

    with caplog.at_level(logging.INFO, "exporter.runtime.replica"):
        asyncio.run(scene())


def test_requests_are_divided_by_replicas_and_then_by_targets(postgres: PostgresServer) -> None:
    """A poll's part is that of the targets which this replica still polls, of half the requests."""
    postgres.empty_database()

    async def scene() -> None:
        async with running(postgres) as one:
            (budget,) = one.budgets.values()
            assert budget.grant("t") == 75 // 4
            async with running(postgres) as other:
                await reached("half", one, other, held={"t", "u"})
                assert budget.grant("t") == 75 // 2 // 2

    asyncio.run(scene())


def test_leases_are_renewed_while_much_is_loaded(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a load that takes longer than the lease loses what it loads."""
    postgres.empty_database()

    async def scene(one: OneOfTwo) -> None:
        renew, load, times, renewed = one.store.renew, one.store.load, itertools.count(1), threading.Event()

        def counted(names: Collection[str], seconds: float) -> LeaseTable:
            if next(times) > 3:
                renewed.set()
            assert set(names) == NAMES
            return renew(names, seconds)

        def slow(*given: Any) -> StoredLedger:
            assert renewed.wait(30)
            return load(*given)

        monkeypatch.setattr(one.store, "renew", counted)
        monkeypatch.setattr(one.store, "load", slow)
        await one.fleet.load()
        await one.fleet.close()

    with ThreadPoolExecutor(4) as executor:
        one = OneOfTwo(postgres.url("books"), executor, lease=1.0)
        with closing(one.store), closing(one.replica):
            asyncio.run(scene(one))


def test_a_replica_opens_its_own_targets_first(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its start, and when it takes some: nobody polls them until then."""
    postgres.empty_database()
    opened: list[str] = []

    async def scene(one: OneOfTwo, other: PostgresStore) -> None:
        other.renew(["t", "u"], 3600)
        for name in ("t", "u"):
            other.load(name, "", 0, 0)
        for call in ("load", "read_committed"):
            original = getattr(one.store, call)

            def noted(name: str, *given: Any, original: Any = original) -> StoredLedger:
                opened.append(name)
                found: StoredLedger = original(name, *given)
                return found

            monkeypatch.setattr(one.store, call, noted)
        await one.fleet.load()
        await one.fleet.close()

    with ThreadPoolExecutor(1) as executor:
        one, other = OneOfTwo(postgres.url("books"), executor), PostgresStore(postgres.url("books"))
        with closing(one.store), closing(one.replica), closing(other):
            asyncio.run(scene(one, other))
    assert opened == ["v", "w", "t", "u"]


def test_each_time_that_renewals_fail_is_logged(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once while they go on to fail, and again after one that worked; the line is about leases."""
    postgres.empty_database()

    def refuse(*_: object) -> NoReturn:
        raise StoreError("no rights")

    async def scene() -> None:
        async with running(postgres) as one:
            for _ in range(2):
                with monkeypatch.context() as patch:
                    patch.setattr(one.store, "renew", refuse)
                    await one.fleet.renew_now()
                    await one.fleet.renew_now()
                await one.fleet.renew_now()

    name = "exporter.runtime.replica"
    with caplog.at_level(logging.ERROR, name):
        asyncio.run(scene())
    lines = [record.message for record in caplog.records if record.name == name]
    assert lines == ["the leases could not be renewed"] * 2


def test_tables_of_a_newer_version_are_one_line(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Another replica was upgraded: whatever the number of targets, polling ends here, and what was committed
    is served on.
    """
    postgres.empty_database()

    async def scene() -> None:
        async with running(postgres) as one:
            await one.fleet.reconfigure(replace(CONFIG, poll=replace(CONFIG.poll, interval=0.2, timeout=0.2)))
            views = await shown(one, lambda view: failed_polls(view) > 0)
            postgres.execute("UPDATE metastudio_tts_exporter.format SET version = version + 7", "books")
            await shown(one, lambda view: "this one knows" in view.last_poll.problem)
            for _ in range(2):
                await one.fleet.renew_now()
            after = await shown(one, lambda view: not view.lease_held)
            assert one.polling == set()
            assert all(failed_polls(after[name]) >= failed_polls(views[name]) for name in NAMES)
            postgres.execute("UPDATE metastudio_tts_exporter.format SET version = version - 7", "books")
            await reached("all again", one, held=NAMES, polling=NAMES)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scene())
    (line,) = caplog.records
    assert line.message.startswith("another replica has upgraded the tables: polling ends here")
    assert "upgrade the exporter of this replica" in str(line.__dict__["fields"]["error"])


def test_only_who_polls_says_how_it_goes(postgres: PostgresServer) -> None:
    """A rate limit, refused credentials: what a replica knows of a target of another one may be old."""
    postgres.empty_database()

    def limited(one: OneOfTwo) -> set[str]:
        return {view.target for view in one.api.views() if view.rate_limit is not None}

    async def scene() -> None:
        async with running(postgres) as one:
            for name in NAMES:
                one.api.target(name).credentials_rejected(True)
            assert limited(one) == NAMES
            async with running(postgres) as other:
                assert limited(other) == set()
                await reached("half", one, other, held={"t", "u"})
                await reached("the other half", other, one, held={"v", "w"})
                assert (limited(one), limited(other)) == ({"t", "u"}, {"v", "w"})
                refused = {view.target for view in one.api.views() if view.credentials_rejected}
                assert refused <= {"t", "u"}

    asyncio.run(scene())


def test_polling_ends_with_the_lease_and_goes_on(postgres: PostgresServer) -> None:
    """It was over while a ledger was loaded, or the process was stopped; nobody else took the targets."""
    postgres.empty_database()

    async def scene() -> None:
        async with running(postgres) as one:
            one.offset += 2 * LEASE
            async with asyncio.timeout(10):
                while one.held:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.02)
            assert one.polling == set()
            await reached("all again", one, held=NAMES, polling=NAMES)

    asyncio.run(scene())


def test_a_reload_takes_only_what_is_its_own(postgres: PostgresServer) -> None:
    """A setting of all targets changed: those that another replica polls stay with it."""
    postgres.empty_database()

    async def scene() -> None:
        async with running(postgres) as one, running(postgres) as other:
            await reached("half", one, other, held={"t", "u"})
            await reached("the other half", other, one, held={"v", "w"})
            await one.fleet.reconfigure(replace(CONFIG, poll=replace(CONFIG.poll, window=1800.0)))
            assert (one.held, one.replica.held) == ({"t", "u"}, {"t", "u"})
            await other.fleet.reconfigure(replace(CONFIG, targets=CONFIG.targets[:3]))
            assert other.held == {"v"}
            await reached("what the other one cannot poll any more", one, other, held={"t", "w"})
            await reached("as many for the other", other, one, held={"u", "v"})

    asyncio.run(scene())


def test_other_buckets_of_a_replica_are_said_on_both_sides(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """By who does not show the histograms of the other one, and by who takes targets over: each once, for
    all of them, with the bounds of both.
    """
    postgres.empty_database()
    name, anew = "exporter.runtime.bucket_changes", "buckets differ from those that were stored"
    follows = "another replica counts with other buckets"
    other_config = replace(CONFIG, metrics=MetricsConfig(text_length_buckets=(100, 1000)))

    def lines() -> list[tuple[str, str, str, str]]:
        found = [record for record in caplog.records if record.name == name]
        fields = [record.__dict__["fields"] for record in found]
        caplog.clear()
        return [
            (record.message.partition(":")[0], it["targets"], it["stored"][:6], it["configured"][:6])
            for record, it in zip(found, fields, strict=True)
        ]

    async def scene() -> None:
        async with running(postgres) as one:
            await shown(one, lambda view: failed_polls(view) > 0)
            async with running(postgres, other_config) as other:
                assert lines() == [(follows, "t u v w", "50 100", "100 10")]
                await reached("the other half", other, one, held={"v", "w"})
                assert lines() == [(anew, "v w", "50 100", "100 10")]
                await reached("half", one, other, held={"t", "u"})
                said: list[tuple[str, str, str, str]] = []
                async with asyncio.timeout(30):
                    while not said:
                        await one.fleet.renew_now()
                        await asyncio.sleep(0.02)
                        said = lines()
                assert {line[0] for line in said} == {follows}
            await reached("all", one, held=NAMES)
            assert lines()[-1][0] == anew

    with caplog.at_level(logging.WARNING, name):
        asyncio.run(scene())
