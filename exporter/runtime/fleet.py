"""All targets that run: loaded and started together, changed by a reload, stopped.

Must not know what is counted. A reload takes effect as a whole or not at all: one that fails leaves the old
targets polling. The ledger of a changed target is loaded anew from the store, so that no count is lost;
targets that did not change are not disturbed. Where replicas share the store, only those run whose lease this
process has (``replica.py``).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Final

import msgspec

from exporter import log
from exporter.cloud import Client, Network
from exporter.config import Config, TargetConfig
from exporter.errors import ExporterError, ReloadError, StoreError, StoreVersionError
from exporter.exposition import Publisher
from exporter.failures import Classifier
from exporter.ledger import LastPoll, TargetView
from exporter.runtime.bucket_changes import log_bucket_changes
from exporter.runtime.changes import TargetChanges, storage_problems, target_changes
from exporter.runtime.poll_times import LONGEST_SPREAD, PollTimes
from exporter.runtime.replica import Replica
from exporter.runtime.target import (
    SharedResources,
    Target,
    classifier,
    ledger_scope,
    new_client,
    new_repository,
    read_shared_network,
    share_rate,
)
from exporter.store import LedgerRepository
from exporter.units import SECOND

logger = logging.getLogger(__name__)

LOADS_AT_ONCE: Final = 4
"""Targets that are read at a time: while the store reads one, the ledger of another is made. More would only
have their rows wait in memory."""
SHORTEST_WAIT: Final = 0.1
"""Seconds between two checks of a lease that is over."""


class Fleet:
    """See the module. The caller sees to it that one reload runs at a time."""

    def __init__(self, config: Config, resources: SharedResources, publisher: Publisher) -> None:
        self.config = config
        self._resources = resources
        self._publisher = publisher
        self.targets: dict[str, Target] = {}
        """By name."""
        self._polling: dict[str, asyncio.Task[None]] = {}
        self._poll_times = PollTimes(time.monotonic, time.time)
        self._tasks: asyncio.TaskGroup | None = None
        """Where pollers run; ``None`` before the start and once the end has begun."""
        self._replica = resources.replica
        self._changing = asyncio.Lock()
        """A reload, or the change of leases."""
        self._renewed = asyncio.Event()
        self._freezing: asyncio.TimerHandle | None = None
        """When all targets have polled."""

    # --- life -----------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Load and publish the counts of every target. Raises ExporterError."""
        config, resources = self.config, self._resources
        network = await read_shared_network(config.targets, resources)
        if self._replica is not None:
            await self._replica.renew([settings.name for settings in config.targets])
        async with nullcontext() if self._replica is None else self._replica.renewing(self.renew_now):
            repositories = await self._load_all(config, config.targets, classifier(config))
        if self._replica is not None:
            self._replica.log_taken(start=True)
        for settings in config.targets:
            name = settings.name
            client = new_client(settings, network, resources)
            self.targets[name] = Target(config, settings, resources, repositories[name], client)
            if not self._polls(name):
                self.targets[name].end_polling()
        self._divide()
        self._log_bucket_changes()
        views = [repository.snapshot(None) for repository in repositories.values()]
        self._publisher.exchange(list(self.targets), views)
        gc.freeze()  # it lives as long as the program: see _poll

    def start(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._poll(self._poll_times.start(self.targets, self.config.poll.interval))

    def stop(self) -> None:
        """End all polling. What is not committed will be read again after the next start."""
        self._tasks = None
        if self._freezing is not None:
            self._freezing.cancel()
        for task in self._polling.values():
            task.cancel()

    async def close(self) -> None:
        gc.unfreeze()
        for target in self.targets.values():
            await target.client.aclose()

    # --- reload ---------------------------------------------------------------------------------------

    async def reconfigure(self, config: Config) -> None:
        """Run the targets of ``config`` from now on, or raise ExporterError with nothing changed."""
        async with self._changing:
            await self._reconfigure(config)

    async def _reconfigure(self, config: Config) -> None:
        if problems := (*storage_problems(self.config, config), *self._scope_problems(config)):
            raise ReloadError(problems)
        classes, change = classifier(config), target_changes(self.config, config)
        network = await read_shared_network(change.opened, self._resources)
        stopped = [self.targets[name] for name in change.stopped]
        held = {name for name in change.stopped if self._polls(name)}
        try:
            await self._pause(change.stopped)
            if self._replica is not None:
                await self._replica.renew([target.name for target in config.targets])
            repositories = await self._load_all(config, change.opened, classes)
            views = await self._first_views(repositories)
            self._swap(config, change, repositories, self._connect(change, network), views)
        except BaseException:
            if self._replica is not None:
                self._replica.held |= held
            self._resume(change.stopped)
            raise
        self._log_bucket_changes()
        if self._replica is not None:
            self._replica.log_taken()
            if gone := held - self.targets.keys():
                await self._replica.release(gone)
        for target in stopped:
            await target.client.aclose()
        names = {target.settings.name for target in stopped}
        if stopped:
            del stopped, target
            # Of a request that was cut off, an exception of the HTTP client's and its stack frames refer to
            # each other, and to poller and client. Python looks for such cycles only after some hundred
            # reloads.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        log.info(
            logger,
            "configuration exchanged",
            added=sum(settings.name not in names for settings in change.opened),
            changed=sum(settings.name in names for settings in change.opened),
            removed=sum(name not in self.targets for name in names),
        )

    async def _load_all(
        self, config: Config, targets: Iterable[TargetConfig], classes: Classifier
    ) -> dict[str, LedgerRepository]:
        """The ledgers of these targets, loaded. Raises ReloadError with every problem."""
        opened: dict[str, LedgerRepository] = {}
        for settings in targets:
            repository = new_repository(config, settings, self._resources, classes)
            if (old := self.targets.get(settings.name)) is not None:
                repository.take_over(old.repository)
            opened[settings.name] = repository
        turns, problems = asyncio.Semaphore(LOADS_AT_ONCE), dict[str, None]()

        async def load(name: str, repository: LedgerRepository) -> None:
            async with turns:
                try:
                    if self._replica is None:
                        await repository.load(int(time.time() * SECOND))
                    else:
                        await self._replica.open(name, repository)
                except ExporterError as error:
                    problems[str(error)] = None

        async with asyncio.TaskGroup() as loading:
            for name in list(opened) if self._replica is None else self._replica.own_first(opened):
                loading.create_task(load(name, opened[name]))
        if problems:
            raise ReloadError(tuple(problems))
        return opened

    def _connect(self, change: TargetChanges, network: Network) -> dict[str, Client]:
        """The clients of the opened targets. On failure the old targets share the rate limits as before."""
        resources = self._resources
        resources.shared.keep(frozenset(self.targets) - frozenset(change.stopped))
        try:
            return {settings.name: new_client(settings, network, resources) for settings in change.opened}
        except ExporterError:
            resources.shared.keep(frozenset(self.targets) - frozenset(change.stopped))
            for name in change.stopped:
                share_rate(self.targets[name].settings, resources)
            for settings in change.opened:
                if settings.name not in self.targets:
                    resources.api.remove(settings.name)
            raise

    def _swap(
        self,
        config: Config,
        change: TargetChanges,
        repositories: dict[str, LedgerRepository],
        clients: dict[str, Client],
        views: list[TargetView],
    ) -> None:
        """Nothing in here waits or fails, so that each scrape sees either the old targets or the new ones."""
        for name in change.stopped:
            self.targets.pop(name).end_polling()
            if name not in repositories:
                self._resources.api.remove(name)
        for settings in change.opened:
            name = settings.name
            self.targets[name] = Target(config, settings, self._resources, repositories[name], clients[name])
            if not self._polls(name):
                self.targets[name].end_polling()
        names = [target.name for target in config.targets]
        self._publisher.exchange(names, views, created_timestamps=config.metrics.created_timestamps)
        self.config = config
        self._divide()
        self._resume(repositories)

    async def _first_views(self, repositories: Mapping[str, LedgerRepository]) -> list[TargetView]:
        """In turns with others: of hundreds of targets they take a tenth of a second."""
        views = []
        for name, repository in repositories.items():
            views.append(self._first_view(name, repository))
            await asyncio.sleep(0)
        return views

    def _first_view(self, name: str, repository: LedgerRepository) -> TargetView:
        """What a changed target shows until its next poll: what its last poll found out."""
        old, before = self.targets.get(name), self._publisher.view(name)
        if old is None or before is None:
            return repository.snapshot(None)
        snapshot = repository.snapshot(old.client.clock.now_ms())
        return msgspec.structs.replace(snapshot, last_poll=before.last_poll)

    def _scope_problems(self, config: Config) -> Iterator[str]:
        for settings in config.targets:
            if (old := self.targets.get(settings.name)) is None:
                continue
            view = self._publisher.view(settings.name)
            project = (view.project_id if view else "") or settings.project_id
            same_project = not settings.project_id or settings.project_id == project
            if ledger_scope(old.settings) != ledger_scope(settings) or not same_project:
                yield (
                    f"target {settings.name!r}: its region, project, app user or filters changed: use a new"
                    " target name, so that different things are not added up"
                )

    # --- pollers --------------------------------------------------------------------------------------

    def _resume(self, names: Iterable[str]) -> None:
        self._poll(self._poll_times.resume(names, self.config.poll.interval))

    def _poll(self, first_polls: Mapping[str, float]) -> None:
        """Start the pollers of those that this process polls, each with its first poll at that time.

        When all have polled, most of what there is lives as long as they do. Python need not walk through it
        whenever it searches for cycles: that holds everything up, for 30 ms with 200 targets. A cycle that is
        frozen before it ends is found after the next reload only.
        """
        if self._tasks is None:
            return
        for name, first_poll in first_polls.items():
            if not self._polls(name):
                continue
            self.targets[name].begin_polling()
            polling = self.targets[name].poller.run(first_poll)
            self._polling[name] = self._tasks.create_task(polling, name=f"poller of {name}")
        if self._freezing is not None:
            self._freezing.cancel()
        polled = 2 * min(self.config.poll.interval, LONGEST_SPREAD)
        self._freezing = asyncio.get_running_loop().call_later(polled, gc.freeze)

    async def _pause(self, names: Iterable[str]) -> None:
        """End these pollers wherever they are: what they have not committed will be read again."""
        tasks = [self._polling.pop(name) for name in names if name in self._polling]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _polls(self, name: str) -> bool:
        """Is it for this process to poll it?"""
        return self._replica is None or name in self._replica.held

    def _log_bucket_changes(self) -> None:
        repositories = {name: target.repository for name, target in self.targets.items()}
        log_bucket_changes(repositories, {name for name in repositories if self._polls(name)})

    # --- replicas -------------------------------------------------------------------------------------

    async def keep_leases(self) -> None:
        """Renew them until cancelled. Without other replicas there is nothing to do."""
        if (replica := self._replica) is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_leases(replica))
            tasks.create_task(self._end_leases(replica))
            await replica.renew_regularly(self.renew_now)

    async def renew_now(self) -> None:
        """Renew the leases; what the others did meanwhile is taken into account soon after."""
        if (replica := self._replica) is None:
            return
        try:
            await replica.renew([target.name for target in self.config.targets])
        except (StoreError, RuntimeError, MemoryError) as error:
            replica.note_problem(error)
            if isinstance(error, StoreVersionError):  # nothing can be committed until this one is upgraded
                await self._leave(replica, set(replica.held))
        else:
            replica.note_problem(None)
            self._renewed.set()

    async def _end_leases(self, replica: Replica) -> None:
        """When they are over, polling ends, even while a renewal waits for the database."""
        while True:
            await asyncio.sleep(max(replica.seconds_left, SHORTEST_WAIT))
            if not replica.seconds_left and replica.held:
                replica.log_lost(replica.held)
                await self._leave(replica, set(replica.held))

    async def _follow_leases(self, replica: Replica) -> None:
        """After each renewal: leave targets that others shall have, take free ones, read the rest."""
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            async with self._changing:
                if (table := replica.table) is None or not replica.seconds_left:
                    continue
                lost, surplus = replica.to_leave(table)
                replica.log_lost(lost)
                await self._leave(replica, lost | surplus)
                if surplus:
                    await replica.release(surplus)
                for name in replica.own_first(replica.to_open(table, self.targets)):
                    await self._open(replica, name)
                    self._poll_held(replica)
                replica.log_taken()
                self._log_bucket_changes()
                self._poll_held(replica)  # also where the lease was over for a moment while one was loaded

    def _divide(self) -> None:
        """All replicas together make as many requests as one alone would."""
        if self._replica is not None and self._replica.table is not None:
            replicas = max(1, len(self._replica.table.replicas))
            self._resources.shared.divide(replicas, frozenset(self._replica.held))

    async def _open(self, replica: Replica, name: str) -> None:
        """Take a target, or show what another replica committed."""
        try:
            view = await replica.open(name, self.targets[name].repository)
        except (ExporterError, RuntimeError, MemoryError) as error:  # RuntimeError: no thread to read in
            replica.note_problem(error, name)
            return
        replica.note_problem(None, name)
        self._publisher.publish(view)

    def _poll_held(self, replica: Replica) -> None:
        """At once, and then each in its place: the polls before were another replica's."""
        self._divide()
        interval = self.config.poll.interval
        if replica.seconds_left and (waiting := replica.held & self.targets.keys() - self._polling.keys()):
            times = self._poll_times.resume(waiting, interval)
            self._poll({name: time - interval for name, time in times.items()})

    async def _leave(self, replica: Replica, names: set[str]) -> None:
        """These are not polled here any more."""
        replica.forget(names)
        await self._pause(names)
        for name in (names & self.targets.keys()) - replica.held:  # it may have been taken again meanwhile
            target, view = self.targets[name], self._publisher.view(name)
            target.repository.drop()
            target.end_polling()
            if view is not None:
                self._publisher.publish(msgspec.structs.replace(view, lease_held=False, last_poll=LastPoll()))
        self._divide()
