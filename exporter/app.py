"""Start reading here: how the exporter is put together, how it runs, how it stops.

    cloud.Client -> Reader -> Poller -> Books (Ledger + Store) -> Publisher -> Exposition -> web.Server

One event loop; the store's blocking work has a thread of its own. ``App.run`` is the life of the program.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from exporter import __version__, log
from exporter.apimetrics import ApiMetrics
from exporter.books import Books
from exporter.budget import Budget
from exporter.cloud.client import Client
from exporter.cloud.connect import Shared, connect
from exporter.cloud.credentials import credentials_key
from exporter.cloud.limits import Refused
from exporter.config import Config, TargetConfig
from exporter.errors import StoreError
from exporter.exposition import Exposition, process_view
from exporter.ledger.classify import BUILTIN_RULES, Classifier
from exporter.ledger.facts import Rules
from exporter.ledger.reading import PageMemory
from exporter.poller import Poller, PollSettings
from exporter.published import Published, TargetView
from exporter.reader import Reader
from exporter.store.base import Store
from exporter.store.sqlite import SqliteStore
from exporter.web.app import create_app
from exporter.web.server import Server

logger = logging.getLogger(__name__)

SECOND: Final = 1000
LAST_COMMIT_SECONDS: Final = 1.0
"""How long shutdown waits for a commit under way."""


class Publisher:
    """Collects the targets' views and hands them, all together, to the exposition."""

    def __init__(self, exposition: Exposition, classes: tuple[str, ...], names: Sequence[str]) -> None:
        self._exposition = exposition
        self._classes = classes
        self._views: dict[str, TargetView | None] = dict.fromkeys(names)

    def publish(self, view: TargetView) -> None:
        self._views[view.target] = view
        views = tuple(view for view in self._views.values() if view is not None)
        self._exposition.publish(Published(targets=views, classes=self._classes))


class Target:
    """One configured target: its client, its books and its poller."""

    def __init__(self, app: App, config: TargetConfig) -> None:
        self.client: Client = connect(
            config, events=app.api.target(config.name), shared=app.shared, environ=app.environ
        )
        identity = TargetView(
            target=config.name,
            region=config.region,
            project_id=config.project_id or "",
            api_endpoint=config.endpoint,
        )
        self.books = Books(
            identity,
            scope=scope(config),
            job_type=config.filters.job_type,
            service=config.filters.tts_service_enum,
            rules=rules(app.config, app.classifier),
            retention=int(app.config.storage.retention * SECOND),
            store=app.store,
            executor=app.executor,
        )
        trust_count = {"auto": None, "true": True, "false": False}[config.trust_count]
        poll = app.config.poll
        self.poller = Poller(
            config.name,
            PollSettings(
                interval=poll.interval,
                timeout=poll.timeout,
                budget=max(10, int(config.rate_limit * poll.interval)),
                time_filters=config.time_filters,
            ),
            source=self.client,
            reader=Reader(
                self.client, PageMemory(trust_count), split_by_type=config.filters.job_type is None
            ),
            books=self.books,
            budget=app.budgets.setdefault(credentials_key(config.auth, app.environ), Budget()),
            publish=app.publisher.publish,
            monotonic=time.monotonic,
            wall=time.time,
            sleep=asyncio.sleep,
        )


class App:
    """The exporter. Opening it takes the store and the listening addresses, or raises ExporterError."""

    def __init__(
        self,
        config: Config,
        *,
        listen_addresses: Sequence[str],
        telemetry_path: str = "/metrics",
        environ: Mapping[str, str],
    ) -> None:
        self.config = config
        self.environ = environ
        self.ready = False
        self.shared = Shared()
        self.budgets: dict[str, Budget] = {}
        """By credentials: targets with the same ones share a rate limit."""
        self.api = ApiMetrics(time.time())
        self.classifier = classifier(config)
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self.exposition = Exposition(
            self.api,
            process_view(environ, loaded_at=time.time()),
            created_timestamps=config.metrics.created_timestamps,
        )
        names = [target.name for target in config.targets]
        self.publisher = Publisher(self.exposition, self.classifier.classes, names)
        web = create_app(
            exposition=self.exposition,
            ready=lambda: self.ready,
            telemetry_path=telemetry_path,
            version=__version__,
        )
        self.store: Store = open_store(config)
        try:
            self.server = Server(web, listen_addresses)
        except BaseException:
            self.store.close()
            raise
        self._saved_breakers: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Load the books, publish them, then poll and serve until ``stop`` is set. Raises StoreError."""
        targets = [Target(self, config) for config in self.config.targets]
        try:
            self._restore_breakers()
            for target in targets:
                await target.books.load(int(time.time() * SECOND))
                self.publisher.publish(target.books.view(now=None, up=False, skew_ms=None))
            self.ready = True
            log.info(logger, "listening", addresses=" ".join(self.server.urls))
            await self._poll_and_serve(targets, stop)
        finally:
            self.ready = False
            await self._close(targets)

    async def _poll_and_serve(self, targets: Sequence[Target], stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            polling = [tasks.create_task(target.poller.run()) for target in targets]
            polling.append(tasks.create_task(self._keep_breakers()))
            serving = tasks.create_task(self.server.serve(stop))
            await stop.wait()
            log.info(logger, "stopping")
            self.ready = False
            for task in polling:
                task.cancel()
            await serving

    async def _close(self, targets: Sequence[Target]) -> None:
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
        for target in targets:
            await target.client.aclose()

    # --- refused credentials outlive a restart --------------------------------------------------------

    def _restore_breakers(self) -> None:
        self._saved_breakers = self.store.load_breakers()
        self.shared.restore(
            {
                key: msgspec.json.decode(text, type=tuple[Refused, ...])
                for key, text in self._saved_breakers.items()
            }
        )

    async def _keep_breakers(self) -> None:
        """Store refusals soon after they happen: five bad signatures lock a key, whoever sends them."""
        while True:
            await asyncio.sleep(1.0)
            states = {key: msgspec.json.encode(state).decode() for key, state in self.shared.states().items()}
            if states != self._saved_breakers:
                try:
                    await asyncio.get_running_loop().run_in_executor(
                        self.executor, self.store.save_breakers, states
                    )
                    self._saved_breakers = states
                except StoreError as error:
                    log.error(logger, "refused credentials could not be stored", error=error)


# --- from configuration to parts ------------------------------------------------------------------------


def open_store(config: Config) -> Store:
    """The store that ``storage.url`` names. Raises StoreError."""
    if not config.storage.url.startswith("sqlite:///"):
        raise StoreError("storage.url: only sqlite:///FILE is available in this version")
    return SqliteStore(Path(config.storage.url.removeprefix("sqlite:///")))


def classifier(config: Config) -> Classifier:
    """The configured rules for ``fail_msg``, then the built-in ones unless they are switched off."""
    own = tuple((rule.class_name, rule.match) for rule in config.fail_msg_classes)
    return Classifier((*own, *(BUILTIN_RULES if config.builtin_fail_msg_classes else ())))


def rules(config: Config, classes: Classifier) -> Rules:
    """The settings that the counting depends on, in milliseconds."""
    poll, metrics = config.poll, config.metrics
    return Rules(
        interval=int(poll.interval * SECOND),
        overlap=int(poll.overlap * SECOND),
        window=int(poll.window * SECOND),
        max_job_age=int(poll.max_job_age * SECOND),
        max_catch_up=int(poll.max_catch_up * SECOND),
        text_length_buckets=metrics.text_length_buckets,
        duration_buckets=tuple(int(bucket * SECOND) for bucket in metrics.duration_buckets),
        max_label_sets=metrics.max_label_sets,
        classify=classes.classify,
    )


def scope(target: TargetConfig) -> str:
    """What the books of a target belong to, the project excepted: it may have to be looked up (R11)."""
    filters = msgspec.structs.asdict(target.filters)
    parts = {"region": target.region, "app_user_id": target.app_user_id, **filters}
    return " ".join(f"{name}={value}" for name, value in parts.items() if value)
