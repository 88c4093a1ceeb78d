"""Exchanging targets, and what an exchange leaves alone. The cloud is a closed port: polls fail at once."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from exporter import log
from exporter.cloud.http.authorities import Authorities
from exporter.cloud.shared_limits import SharedLimits
from exporter.config import AkskAuth, Config, MetricsConfig, PollConfig, Secret, StorageConfig, TargetConfig
from exporter.errors import ReloadError
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.publisher import Publisher
from exporter.exposition.render import Exposition
from exporter.ledger import Changes, TargetView
from exporter.polling import Poller
from exporter.runtime.fleet import Fleet
from exporter.runtime.target import SharedResources
from exporter.store import LedgerRepository
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.processes import free_port
from tests.exposition.views import PROCESS, STARTED


def of_target(name: str, **changes: object) -> TargetConfig:
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = TargetConfig(
        name=name,
        region="cn-north-4",
        endpoint=endpoint,
        iam_endpoint=endpoint,
        project_id="p1",
        auth=AkskAuth(Secret("ak"), Secret("sk")),
    )
    return replace(settings, **changes)


class Stage:
    def __init__(self, fleet: Fleet, resources: SharedResources, exposition: Exposition) -> None:
        self.fleet = fleet
        self.resources = resources
        self.exposition = exposition

    @property
    def names(self) -> list[str]:
        return [view.target for view in self.exposition.published]

    async def committed(self) -> None:
        """Until every target has books in the store."""
        async with asyncio.timeout(20):
            while not all(view.polls for view in self.exposition.published):  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.02)

    async def committed_again(self) -> None:
        """Until every target has one more poll in the store."""
        before = {view.target: sum(view.polls.values()) for view in self.exposition.published}
        async with asyncio.timeout(20):
            while any(sum(view.polls.values()) <= before[view.target] for view in self.exposition.published):  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.02)

    @property
    def rate(self) -> float:
        """In force for the credentials that all targets share."""
        (limiter,) = self.resources.shared.limiters.values()
        return limiter.rate


@asynccontextmanager
async def running(tmp_path: Path, config: Config) -> AsyncIterator[Stage]:
    store = SqliteStore(tmp_path / "books.db")
    api = ApiMetrics(STARTED)
    exposition = Exposition(api, PROCESS, created_timestamps=False)
    publisher = Publisher(exposition)
    with closing(store), ThreadPoolExecutor(1) as executor:
        resources = SharedResources(
            store, executor, SharedLimits(claims=None), {}, api, {}, publisher.publish, log.Redactor(), None
        )
        fleet = Fleet(config, resources, publisher)
        await fleet.load()
        async with asyncio.TaskGroup() as tasks:
            fleet.start(tasks)
            try:
                yield Stage(fleet, resources, exposition)
            finally:
                fleet.stop()
        await fleet.close()


CONFIG = Config(storage=StorageConfig(url="sqlite:////books.db"), poll=PollConfig(interval=1.0))


def test_an_unchanged_target_is_not_disturbed(tmp_path: Path) -> None:
    """Its poller and its view are the same objects; the changed one's are new; order is the file's."""
    t, u, v = (of_target(name) for name in "tuv")

    async def scene() -> None:
        async with running(tmp_path, replace(CONFIG, targets=(t, u))) as stage:
            kept, changed = stage.fleet.targets["t"], stage.fleet.targets["u"]
            await stage.fleet.reconfigure(replace(CONFIG, targets=(v, t, replace(u, rate_limit=2.0))))
            assert stage.names == ["v", "t", "u"]
            assert stage.fleet.targets["t"] is kept
            assert stage.fleet.targets["u"] is not changed
            assert stage.rate == 2.0
            await stage.fleet.reconfigure(replace(CONFIG, targets=(t,)))
            assert stage.names == ["t"]
            assert [view.target for view in stage.resources.api.views()] == ["t"]
            assert stage.fleet.targets["t"] is kept
            assert stage.rate == 5.0

    asyncio.run(scene())


def test_others_have_turns_while_views_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of targets they take long; what is shown meanwhile is the old configuration."""
    targets = tuple(of_target(name) for name in "tuv")
    ticks, seen, shown = 0, list[int](), list[list[str]]()
    snapshot = LedgerRepository.snapshot

    def noting(repository: LedgerRepository, now: int | None) -> TargetView:
        seen.append(ticks)
        return snapshot(repository, now)

    async def scene() -> None:
        nonlocal ticks
        async with running(tmp_path, replace(CONFIG, targets=targets[:1])) as stage:
            monkeypatch.setattr(LedgerRepository, "snapshot", noting)
            exchange = asyncio.ensure_future(stage.fleet.reconfigure(replace(CONFIG, targets=targets[1:])))
            while not exchange.done():
                ticks += 1
                shown.append(stage.names)
                await asyncio.sleep(0)
            await exchange
            assert stage.names == ["u", "v"]

    asyncio.run(scene())
    assert len(seen) >= 2
    assert seen[0] < seen[1]
    assert {tuple(names) for names in shown} <= {("t",), ("u", "v")}


@pytest.mark.slow
def test_an_exchange_that_fails_in_the_middle_is_undone(tmp_path: Path) -> None:
    """A removed name comes back with another scope: the changed target polls on as before."""
    t, u = of_target("t"), of_target("u")

    async def scene() -> None:
        async with running(tmp_path, replace(CONFIG, targets=(t, u))) as stage:
            await stage.committed()
            await stage.fleet.reconfigure(replace(CONFIG, targets=(t,)))
            old = stage.fleet.targets["t"]
            wrong = (replace(t, rate_limit=1.0), replace(u, app_user_id="somebody"))
            with pytest.raises(ReloadError, match="use a new target name") as refused:
                await stage.fleet.reconfigure(replace(CONFIG, targets=wrong))
            assert len(refused.value.problems) == 1
            assert stage.fleet.targets == {"t": old}
            assert stage.fleet.config.targets == (t,)
            assert "poller of t" in {task.get_name() for task in asyncio.all_tasks()}
            assert stage.names == ["t"]
            assert [view.target for view in stage.resources.api.views()] == ["t"]
            assert stage.rate == 5.0

    asyncio.run(scene())


def test_certificate_authorities_are_read_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start and at a reload: a file system that hangs stops neither scrapes nor signals."""
    readers: list[threading.Thread] = []
    read = Authorities.read

    def noting_the_thread(self: Authorities) -> ssl.SSLContext:
        readers.append(threading.current_thread())
        return read(self)

    monkeypatch.setattr(Authorities, "read", noting_the_thread)
    t = of_target("t")

    async def scene() -> None:
        async with running(tmp_path, replace(CONFIG, targets=(t,))) as stage:
            await stage.fleet.reconfigure(replace(CONFIG, targets=(replace(t, rate_limit=2.0),)))

    asyncio.run(scene())
    assert len(readers) >= 2
    assert threading.main_thread() not in readers


def test_every_reason_to_refuse_is_reported_at_once(tmp_path: Path) -> None:
    """Storage and scope, each in its own line."""
    t = of_target("t")

    async def scene() -> None:
        async with running(tmp_path, replace(CONFIG, targets=(t,))) as stage:
            storage = StorageConfig(url="sqlite:////other.db", lease=1.0)
            with pytest.raises(ReloadError) as refused:
                await stage.fleet.reconfigure(Config(storage=storage, targets=(replace(t, region="x"),)))
            assert len(refused.value.problems) == 3

    asyncio.run(scene())


def test_a_reload_keeps_the_times_of_polls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No burst: a changed target goes on in its place, whole intervals after its first poll."""
    first_polls: list[tuple[str, float]] = []

    async def run(self: Poller, first_poll: float | None = None) -> None:
        first_polls.append((self._name, first_poll or 0.0))
        await asyncio.Event().wait()

    monkeypatch.setattr(Poller, "run", run)
    targets = tuple(of_target(f"customer-{number}") for number in range(20))
    changed = (targets[0], *(replace(target, rate_limit=2.0) for target in targets[1:]))

    async def scene() -> None:
        async with running(tmp_path, replace(CONFIG, targets=targets)) as stage:
            await asyncio.sleep(0)
            await stage.fleet.reconfigure(replace(CONFIG, targets=changed))
            await asyncio.sleep(0)

    asyncio.run(scene())
    started, resumed = dict(first_polls[:20]), dict(first_polls[20:])
    assert resumed.keys() == started.keys() - {"customer-0"}
    assert max(started.values()) - min(started.values()) > 0.7
    for name, time in resumed.items():
        intervals = time - started[name]
        assert intervals == pytest.approx(round(intervals), abs=1e-6)


def test_a_start_reports_every_target_that_cannot_go_on(tmp_path: Path) -> None:
    """Targets are loaded side by side; one line for each that was another region's, none for the others."""
    nothing = Changes(watermarks=None, jobs={}, evicted=(), totals={}, minutes={}, label_sets=())
    with closing(SqliteStore(tmp_path / "books.db")) as store:
        for name in "tuvwx":
            commit = Commit(
                version=0,
                changes=nothing,
                project_id="p1",
                last_complete_poll=None,
                buckets={},
                keep_minutes_since=0,
            )
            store.commit(name, "region=cn-east-3", commit)

    async def scene() -> None:
        async with running(tmp_path, replace(CONFIG, targets=tuple(map(of_target, "tuvwxyz")))):
            pass

    with pytest.raises(ReloadError) as refused:
        asyncio.run(scene())
    assert [line.split("'")[1] for line in refused.value.problems] == list("tuvwx")


def test_once_all_have_polled_searches_leave_out_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a reload; not once the end has begun."""
    config = replace(CONFIG, poll=replace(CONFIG.poll, interval=0.5))

    async def scene() -> None:
        t = of_target("t")
        frozen, freeze = asyncio.Event(), gc.freeze

        def noting() -> None:
            freeze()
            frozen.set()

        def call_later(seconds: float, callback: Any, *arguments: Any) -> asyncio.TimerHandle:
            timer = later(seconds, callback, *arguments)
            if callback is noting:
                timers.append(timer)
            return timer

        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []
        later = loop.call_later
        monkeypatch.setattr(gc, "freeze", noting)
        monkeypatch.setattr(loop, "call_later", call_later)
        async with running(tmp_path, replace(config, targets=(t,))) as stage:
            frozen.clear()
            await asyncio.wait_for(frozen.wait(), 20)
            await stage.fleet.reconfigure(replace(config, targets=(replace(t, rate_limit=2.0),)))
            frozen.clear()
            await asyncio.wait_for(frozen.wait(), 20)
            await stage.fleet.reconfigure(replace(config, targets=(t,)))
            frozen.clear()
        assert timers[-1].cancelled()
        assert all(timer.cancelled() for timer in timers if timer.when() > loop.time())
        assert not frozen.is_set()

    asyncio.run(scene())


def test_searches_for_cycles_leave_out_what_was_loaded(tmp_path: Path) -> None:
    """At a start and after a reload; at the end nothing is left out any more."""

    def collected(stage: Stage) -> bool:
        return any(found is stage.fleet.targets for found in gc.get_objects())

    async def scene() -> None:
        t = of_target("t")
        async with running(tmp_path, replace(CONFIG, targets=(t,))) as stage:
            assert not collected(stage)
            await stage.fleet.reconfigure(replace(CONFIG, targets=(replace(t, rate_limit=2.0),)))
            assert not collected(stage)
        assert collected(stage)

    asyncio.run(scene())


@pytest.mark.slow
def test_histograms_that_start_anew_are_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For all targets, at a start and at a reload; none while the buckets are the stored ones."""
    config = replace(CONFIG, targets=(of_target("t"), of_target("u")))
    shorter = replace(config, metrics=MetricsConfig(text_length_buckets=(100, 1000)))
    name = "exporter.runtime.bucket_changes"
    slower = replace(shorter, metrics=replace(shorter.metrics, duration_buckets=(0.5, 60.0)))

    def fields() -> list[object]:
        found = [record.__dict__["fields"] for record in caplog.records if record.name == name]
        caplog.clear()
        return found

    async def scene() -> None:
        async with running(tmp_path, config) as stage:
            await stage.committed()
            assert fields() == []
        async with running(tmp_path, shorter) as stage:
            (line,) = fields()
            assert line == {
                "setting": "metrics.text_length_buckets",
                "stored": "50 100 200 500 1000 2000 3000 5000 10000",
                "configured": "100 1000",
                "count": 2,
                "targets": "t u",
            }
            await stage.committed_again()
            await stage.fleet.reconfigure(slower)
            (line,) = fields()
            assert isinstance(line, dict)
            assert (line["setting"], line["configured"]) == ("metrics.duration_buckets", "0.5s 60s")
            await stage.committed_again()
        async with running(tmp_path, slower):
            assert fields() == []

    with caplog.at_level(logging.WARNING, name):
        asyncio.run(scene())
