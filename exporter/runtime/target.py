"""One configured target, put together: its client, its books, its poller.

Knows how a configuration becomes parts; must not know when targets start, stop or are exchanged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final, NamedTuple

import msgspec

from exporter import log
from exporter.cloud.auth.sources import credentials_key
from exporter.cloud.client import Client
from exporter.cloud.connect import Shared, connect
from exporter.cloud.times import longest_repeat
from exporter.config.load import Config, TargetConfig
from exporter.exposition.api_stats import ApiMetrics
from exporter.failures.classify import BUILTIN_RULES, Classifier
from exporter.ledger.changes import Rules
from exporter.ledger.snapshot import TargetView
from exporter.polling.budget import Budget
from exporter.polling.paging import PageMemory
from exporter.polling.poller import Poller, PollSettings
from exporter.polling.windows import Reader
from exporter.store.base import Store
from exporter.store.repository import LedgerRepository

SECOND: Final = 1000


class SharedResources(NamedTuple):
    """What all targets share; it outlives every reload."""

    store: Store
    executor: Executor
    """The store's own thread."""
    shared: Shared
    budgets: dict[str, Budget]
    """By credentials: targets with the same ones share a rate limit."""
    api: ApiMetrics
    environ: Mapping[str, str]
    publish: Callable[[TargetView], None]
    redactor: log.Redactor | None = None
    """Learns every secret that comes into use."""


class Target:
    """One target as it runs: what it was made from, its client, its books and its poller."""

    def __init__(
        self,
        config: Config,
        settings: TargetConfig,
        resources: SharedResources,
        books: LedgerRepository,
        client: Client,
    ) -> None:
        self.settings = settings
        self.books = books
        self.client = client
        key = credentials_key(settings.auth, resources.environ)
        self._budget = resources.budgets.setdefault(key, Budget())
        trust_count = {"auto": None, "true": True, "false": False}[settings.trust_count]
        self.poller = Poller(
            settings.name,
            PollSettings(
                interval=config.poll.interval,
                timeout=config.poll.timeout,
                budget=max(10, int(settings.rate_limit * config.poll.interval)),
                time_filters=settings.time_filters,
            ),
            source=client,
            reader=Reader(client, PageMemory(trust_count), split_by_type=settings.filters.job_type is None),
            books=books,
            budget=self._budget,
            publish=resources.publish,
            monotonic=time.monotonic,
            wall=time.time,
            sleep=asyncio.sleep,
        )

    def leave(self) -> None:
        """It polls no longer: what it was granted is there for the others."""
        self._budget.leave(self.settings.name)


def new_client(settings: TargetConfig, resources: SharedResources) -> Client:
    """The target's client; it counts in the target's rate limit from now on. Raises ApiError."""
    return connect(
        settings,
        events=resources.api.target(settings.name),
        shared=resources.shared,
        environ=resources.environ,
        redactor=resources.redactor,
    )


def share_rate(settings: TargetConfig, resources: SharedResources) -> None:
    """Count in the target's rate limit again, after an exchange that failed."""
    key = credentials_key(settings.auth, resources.environ)
    resources.shared.limiter(key, settings.name, settings.rate_limit)


def new_books(
    config: Config, settings: TargetConfig, resources: SharedResources, classes: Classifier
) -> LedgerRepository:
    """The target's books, not yet loaded."""
    return LedgerRepository(
        TargetView(
            target=settings.name,
            region=settings.region,
            project_id=settings.project_id or "",
            api_endpoint=settings.endpoint,
        ),
        scope=scope(settings),
        job_type=settings.filters.job_type,
        service=settings.filters.tts_service_enum,
        rules=rules(config, settings, classes),
        retention=int(config.storage.retention * SECOND),
        store=resources.store,
        executor=resources.executor,
    )


def classifier(config: Config) -> Classifier:
    """The configured rules for ``fail_msg``, then the built-in ones unless they are switched off."""
    own = tuple((rule.class_name, rule.match) for rule in config.fail_msg_classes)
    return Classifier((*own, *(BUILTIN_RULES if config.builtin_fail_msg_classes else ())))


def rules(config: Config, settings: TargetConfig, classes: Classifier) -> Rules:
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
        time_may_repeat=0 if settings.time_filters else int(longest_repeat(settings.time_zone) * SECOND),
    )


def scope(target: TargetConfig) -> str:
    """What the books of a target belong to, the project excepted: it may have to be looked up (R11)."""
    filters = msgspec.structs.asdict(target.filters)
    parts = {"region": target.region, "app_user_id": target.app_user_id, **filters}
    return " ".join(f"{name}={value}" for name, value in parts.items() if value)
