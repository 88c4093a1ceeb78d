"""Start reading here: how the exporter is put together, how it runs, how it stops.

What happens to a job's record, package by package:

    cloud       asks the API for a page of records and decodes it
    polling     decides what to ask for, and what the answers prove
    ledger      counts each job once
    store       commits what was counted; only that is published
    exposition  writes it as metrics
    web         serves them

``runtime.fleet`` starts and stops the targets; ``runtime.target`` puts cloud, polling, ledger and store
together for one of them. ``App`` has what all targets share, and ``App.run`` is the life of the program:
load, then poll and serve until a signal comes, then close. Counting and serving are one event loop. What may
take long or hang has a thread: the store, compression, passwords, name lookups, files, the output of the log.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec.structs import replace

from exporter import log
from exporter.background import in_background
from exporter.cloud import SharedLimits
from exporter.config import Config, show_config
from exporter.errors import ExporterError, ReloadError
from exporter.exposition import ApiMetrics, Exposition, Publisher, process_view
from exporter.log import dropped_lines
from exporter.runtime import (
    AskingCommands,
    Fleet,
    ReloadProblems,
    ReloadQueue,
    Replica,
    SavedBreakers,
    SharedResources,
    garbage,
    open_store,
    stored_claims,
    systemd,
)
from exporter.status import Reload, Status, build_status
from exporter.store import SharedStore
from exporter.web import Limits, Server, WebConfigReloader, create_app

logger = logging.getLogger(__name__)

SWITCH_SECONDS: Final = 0.0005
"""How long another thread may keep the interpreter lock while the event loop wants it. A scrape releases
the lock at each system call, and with Python's 5 ms it would wait that long every time."""
READ_CONFIG_SECONDS: Final = 10.0
"""How long a reload waits for the configuration: its file may be a FIFO, or lie on a disk that hangs."""
LAST_COMMIT_SECONDS: Final = 1.0
"""How long shutdown waits for a commit under way."""
DATABASE_THREADS: Final = 3
"""Of a database, where one call may wait for another's answer: ledgers to load or to follow, which may be
long, commits, and claims of credentials. Renewals of leases have a thread of their own, so that these are as
many as the store's connections (``store.postgres.database.CONNECTIONS``), and none waits for another's. A
SQLite file has one.
"""


class App:
    """The exporter. Making one opens the store and the listening addresses, or raises ExporterError."""

    def __init__(
        self,
        config: Config,
        *,
        listen_addresses: Sequence[str],
        telemetry_path: str = "/metrics",
        environ: Mapping[str, str],
        redactor: log.Redactor,
        read_config: Callable[[], Config] | None = None,
        lifecycle: bool = False,
        max_requests: int = Limits().requests,
        web_config: WebConfigReloader | None = None,
    ) -> None:
        """``read_config`` reads the configuration again, for a reload (in a thread). ``lifecycle`` enables
        ``/-/reload``. ``web_config`` says who gets an answer. ``redactor`` learns every secret in use.
        """
        self.environ = environ
        self.ready = False
        self._started = started = time.time()
        self._process = process_view(environ, loaded_at=started)
        self._read_config = read_config
        self._last_reload = Reload(loaded=started, last_attempt=started, problems=())
        self.reloads = ReloadQueue(self._reload)

        self.api = ApiMetrics(started)
        self.exposition = Exposition(
            self.api, self._process, created_timestamps=config.metrics.created_timestamps
        )
        web_app = create_app(
            exposition=self.exposition,
            ready=lambda: self.ready,
            reload=self.reloads.reload if lifecycle else None,
            status=self._status,
            telemetry_path=telemetry_path,
        )
        self.store = open_store(config, redactor)
        self._replica, threads = None, 1
        if isinstance(self.store, SharedStore):
            self._replica, threads = Replica(self.store, config.storage.lease), DATABASE_THREADS
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self.shared = SharedLimits(
            claims=stored_claims(self.store, self.executor),
            command_asks=AskingCommands(self.store, self.executor),
        )
        try:
            limits = Limits(requests=max_requests)
            self.server = Server(web_app, listen_addresses, web_config=web_config, limits=limits)
        except BaseException:
            self.store.close()
            raise
        refresh = None if self._replica is None else self._replica.interval
        self._breakers = SavedBreakers(self.shared, self.store, self.executor, refresh)
        publisher = Publisher(self.exposition)
        resources = SharedResources(
            store=self.store,
            executor=self.executor,
            shared=self.shared,
            budgets={},
            api=self.api,
            environ=environ,
            publish=publisher.publish,
            redactor=redactor,
            replica=self._replica,
        )
        self.fleet = Fleet(config, resources, publisher)

    async def run(self, stop: asyncio.Event) -> None:
        """Load the counts and publish them, then poll and serve until ``stop`` is set. Raises StoreError."""
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            if await self._load(stop):
                self.ready = True
                log.info(logger, "listening", addresses=" ".join(self.server.urls))
                systemd.notify(self.environ, systemd.READY)
                await self._poll_and_serve(stop)
        finally:
            self.ready = False
            await self._close()

    async def _load(self, stop: asyncio.Event) -> bool:
        """Read the store. Says whether that was done before ``stop`` was set: a disk may hang."""
        loading = asyncio.ensure_future(self._read_store())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            return False
        await loading
        return True

    async def _read_store(self) -> None:
        await self._breakers.restore()
        await self.fleet.load()

    async def _poll_and_serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            self.fleet.start(tasks)
            serving = tasks.create_task(self.server.serve(stop))
            others = [
                tasks.create_task(work)
                for work in (
                    self.exposition.run(),
                    self.reloads.run(),
                    self._breakers.run(),
                    self._count_dropped_log_lines(),
                    self.fleet.keep_leases(),
                    garbage.collect_regularly(),
                )
            ]
            await stop.wait()
            log.info(logger, "stopping")
            systemd.notify(self.environ, systemd.STOPPING)
            self.ready = False
            self.fleet.stop()
            for task in others:
                task.cancel()
            await serving

    async def _close(self) -> None:
        """Let a commit under way finish; what was not committed will be read again after the next start."""
        self.server.close()
        try:
            async with asyncio.timeout(LAST_COMMIT_SECONDS):
                await self._breakers.save()
                if self._replica is not None:
                    await self._replica.resign()
                await asyncio.get_running_loop().run_in_executor(self.executor, self.store.close)
        except TimeoutError:
            log.warn(
                logger, "the last commit did not finish in time: it will be done again after the next start"
            )
        self.executor.shutdown(wait=False)
        if self._replica is not None:
            self._replica.close()
        await self.fleet.close()

    async def _reload(self) -> ReloadProblems:
        """Put the configuration file as it is now in force, or say why the old one stays."""
        systemd.reloading(self.environ)
        try:
            if self._read_config is None:
                raise ReloadError(("this exporter was started without a configuration file",))
            await self.fleet.reconfigure(await self._read_config_again(self._read_config))
        except ExporterError as error:
            problems = tuple(str(error).splitlines())
            for problem in problems:
                log.error(logger, "reload failed, the old configuration stays in force", problem=problem)
            now = time.time()
            self.exposition.config_loaded(False, now)
            self._last_reload = replace(self._last_reload, last_attempt=now, problems=problems)
            return problems
        finally:
            systemd.notify(self.environ, systemd.READY)
        now = time.time()
        self.exposition.config_loaded(True, now)
        self._last_reload = Reload(loaded=now, last_attempt=now, problems=())
        return ()

    @staticmethod
    async def _read_config_again(read: Callable[[], Config]) -> Config:
        try:
            async with asyncio.timeout(READ_CONFIG_SECONDS):
                return await in_background(read, name="configuration")
        except TimeoutError:
            seconds = f"{READ_CONFIG_SECONDS:g}"
            raise ReloadError((f"the configuration could not be read within {seconds} s",)) from None

    async def _count_dropped_log_lines(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.exposition.log_lines_dropped(dropped_lines())

    def _status(self) -> Status:
        """The facts of the status page."""
        config = self.fleet.config
        return build_status(
            now=time.time(),
            started=self._started,
            ready=self.ready,
            process=self._process,
            reload=self._last_reload,
            published=self.exposition.published,
            api=self.api.views(),
            config=config,
            configuration=show_config(config),
        )
