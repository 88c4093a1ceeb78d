"""Start reading here: how the exporter is put together, how it runs, how it stops.

    cloud.Client -> Reader -> Poller -> Books (Ledger + Store) -> Publisher -> Exposition -> web.Server

One event loop; the store's blocking work has a thread of its own. ``App.run`` is the life of the program.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from exporter import log
from exporter.background import in_background
from exporter.cloud.connect import Shared
from exporter.config.dump import show
from exporter.config.load import Config
from exporter.errors import ExporterError, ReloadError, StoreError
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.publisher import Publisher
from exporter.exposition.render import Exposition, process_view
from exporter.log import writer as logwriter
from exporter.runtime import systemd
from exporter.runtime.fleet import Fleet
from exporter.runtime.reload import Problems, Reloads
from exporter.runtime.target import SharedResources
from exporter.status.model import Reload, Status, status
from exporter.store import sqlite
from exporter.store.base import Store
from exporter.store.sqlite import SqliteStore
from exporter.web.access.reloader import WebConfigReloader
from exporter.web.app import create_app
from exporter.web.connections import Limits
from exporter.web.server import Application, Server

logger = logging.getLogger(__name__)

SWITCH_SECONDS: Final = 0.0005
"""How long the store's thread may go on while the event loop wants to. A scrape lets go of the interpreter at
each system call, and with Python's 5 ms it would wait that long every time."""
LAST_COMMIT_SECONDS: Final = 1.0
"""How long shutdown waits for a commit under way."""


class App:
    """The exporter. Opening it takes the store and the listening addresses, or raises ExporterError."""

    def __init__(
        self,
        config: Config,
        *,
        listen_addresses: Sequence[str],
        telemetry_path: str = "/metrics",
        environ: Mapping[str, str],
        read_config: Callable[[], Config] | None = None,
        lifecycle: bool = False,
        max_requests: int = Limits().requests,
        web_config: WebConfigReloader | None = None,
        redactor: log.Redactor | None = None,
    ) -> None:
        """``read_config`` reads the file again (in a thread); ``lifecycle`` opens ``/-/reload``.

        ``doors`` decide who may connect; ``masks`` learns every secret that comes into use.
        """
        self.environ = environ
        self.ready = False
        self.shared = Shared()
        self.api = ApiMetrics(time.time())
        self.reloads = Reloads(self._reload)
        self._read_config = read_config
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        started = time.time()
        self._process = process_view(environ, loaded_at=started)
        self._last_reload = Reload(loaded=started, last_attempt=started, problems=())
        created_timestamps = config.metrics.created_timestamps
        self.exposition = Exposition(self.api, self._process, created_timestamps=created_timestamps)
        web = self._web(telemetry_path, lifecycle)
        self.store: Store = open_store(config)
        try:
            self.server = Server(
                web, listen_addresses, web_config=web_config, limits=Limits(requests=max_requests)
            )
        except BaseException:
            self.store.close()
            raise
        publish = (publisher := Publisher(self.exposition)).publish
        resources = SharedResources(
            self.store, self.executor, self.shared, {}, self.api, environ, publish, redactor
        )
        self.fleet = Fleet(config, resources, publisher)
        self._saved_breakers: dict[str, str] = {}

    def _web(self, telemetry_path: str, lifecycle: bool) -> Application:
        """What is served. Raises ExporterError."""
        return create_app(
            exposition=self.exposition,
            ready=lambda: self.ready,
            reload=self.reloads.asked if lifecycle else None,
            status=self._status,
            telemetry_path=telemetry_path,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Load the books, publish them, then poll and serve until ``stop`` is set. Raises StoreError."""
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
        """Read the store, unless ``stop`` is set before that is done: a disk may hang. Raises StoreError."""
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
        self._saved_breakers = await asyncio.get_running_loop().run_in_executor(
            self.executor, self.store.load_breakers
        )
        self.shared.restore(self._saved_breakers)
        await self.fleet.load()

    async def _poll_and_serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            self.fleet.start(tasks)
            background = [tasks.create_task(self._keep_breakers()), tasks.create_task(self.reloads.run())]
            serving = tasks.create_task(self.server.serve(stop))
            await stop.wait()
            log.info(logger, "stopping")
            systemd.notify(self.environ, systemd.STOPPING)
            self.ready = False
            self.fleet.stop()
            for task in background:
                task.cancel()
            await serving

    async def _close(self) -> None:
        """Let a commit under way finish; what was not committed will be read again."""
        self.server.close()
        try:
            async with asyncio.timeout(LAST_COMMIT_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self.executor, self.store.close)
        except TimeoutError:
            log.warn(
                logger, "the last commit did not finish in time: it will be done again after the next start"
            )
        self.executor.shutdown(wait=False)
        await self.fleet.close()

    async def _reload(self) -> Problems:
        """Put the configuration file as it is now in force, or say why the old one stays."""
        systemd.reloading(self.environ)
        try:
            if self._read_config is None:
                raise ReloadError(("this exporter was started without a configuration file",))
            before = self.fleet.config.metrics
            await self.fleet.exchange(await in_background(self._read_config, name="configuration"))
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
        if self.fleet.config.metrics != before:
            self.exposition.show_created(self.fleet.config.metrics.created_timestamps)
        self._last_reload = Reload(loaded=now, last_attempt=now, problems=())
        return ()

    def _status(self) -> Status:
        config = self.fleet.config
        return status(
            now=time.time(),
            started=self._process.reload_success_timestamp,
            ready=self.ready,
            process=self._process,
            reload=self._last_reload,
            published=self.exposition.published,
            api=self.api.views(),
            config=config,
            configuration=show(config),
        )

    # --- refused credentials outlive a restart --------------------------------------------------------

    async def _keep_breakers(self) -> None:
        """Store refusals soon after they happen: five bad signatures lock a key, whoever sends them."""
        said = ""
        while True:
            await asyncio.sleep(1.0)
            self.exposition.log_lines_dropped(logwriter.dropped_lines())
            states = self.shared.states()
            if states != self._saved_breakers:
                try:
                    await asyncio.get_running_loop().run_in_executor(
                        self.executor, self.store.save_breakers, states
                    )
                    self._saved_breakers, said = states, ""
                except StoreError as error:
                    if str(error) != said:  # once until it changes: it is tried every second
                        said = str(error)
                        log.error(logger, "refused credentials could not be stored", error=error)


def open_store(config: Config) -> Store:
    """The store that ``storage.url`` names. Raises StoreError."""
    return SqliteStore(_store_file(config))


def examine_store(config: Config) -> None:
    """Raises StoreError when it could not be opened; changes nothing."""
    sqlite.examine(_store_file(config))


def _store_file(config: Config) -> Path:
    if (path := config.storage.sqlite_file) is None:
        raise StoreError("storage.url: only sqlite:///FILE is available in this version")
    return path
