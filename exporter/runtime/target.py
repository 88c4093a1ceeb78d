"""One configured target, put together: its client, its ledger, its poller.

Knows which part gets which setting; must not know when targets start, change or stop. A key of ``poll`` or
``metrics`` reaches ``PollSettings``, ``LedgerSettings`` and ``TargetView`` by its name, where they have such
a field. Configured durations are seconds; this is the one place where they become the ledger's milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import msgspec

from exporter import log
from exporter.background import in_background
from exporter.cloud import Client, Network, SharedLimits, build_client, credentials_key, network_of
from exporter.config import Config, TargetConfig, keys_of, longest_repeat, values
from exporter.exposition import ApiMetrics
from exporter.failures import Classifier
from exporter.ledger import LedgerSettings, TargetView
from exporter.polling import Budget, JobSource, PageMemory, Poller, PollSettings, Reader
from exporter.runtime.replica import Replica
from exporter.runtime.uptime import uptime
from exporter.store import LedgerRepository, Store
from exporter.units import milliseconds


class SharedResources(NamedTuple):
    """What all targets share. It outlives every reload."""

    store: Store
    executor: Executor
    """The store's own thread."""
    shared: SharedLimits
    budgets: dict[str, Budget]
    """By credentials: targets with the same ones share the requests of a poll."""
    api: ApiMetrics
    environ: Mapping[str, str]
    publish: Callable[[TargetView], None]
    redactor: log.Redactor
    """Learns every secret that comes into use."""
    replica: Replica | None
    """This process among those that share the store; ``None`` where it is alone."""


class Target:
    """One target as it runs: its settings, its client, its ledger in the store and its poller."""

    def __init__(
        self,
        config: Config,
        settings: TargetConfig,
        resources: SharedResources,
        repository: LedgerRepository,
        client: Client,
    ) -> None:
        self.settings = settings
        self.repository = repository
        self.client = client
        key = credentials_key(settings.auth, resources.environ)
        self._budget = resources.budgets.setdefault(key, Budget(partial(resources.shared.part, key)))
        self._api = resources.api.target(settings.name)
        self.poller = Poller(
            settings.name,
            poll_settings(config, settings),
            source=client,
            reader=new_reader(client, settings),
            repository=repository,
            budget=self._budget,
            publish=resources.publish,
            monotonic=time.monotonic,
            wall=time.time,
            uptime=uptime,
            sleep=asyncio.sleep,
        )

    def begin_polling(self) -> None:
        """It is for this process to poll it."""
        self._api.polling(True)

    def end_polling(self) -> None:
        """It polls no longer: other targets may have its share of the requests."""
        self._budget.leave(self.settings.name)
        self._api.polling(False)


async def read_shared_network(targets: Iterable[TargetConfig], resources: SharedResources) -> Network:
    """The proxies and certificate authorities of these targets: one object, whose files are checked once for
    all of them. Not in the event loop, as they may be on a disk that hangs. Raises NetworkSettingsError.
    """
    read = partial(network_of, targets, resources.environ, resources.redactor)
    return await in_background(read, name="network")


def new_client(settings: TargetConfig, network: Network, resources: SharedResources) -> Client:
    """The target's client. From now on the target counts in its credentials' rate limit. Raises ApiError."""
    return build_client(
        settings,
        events=resources.api.target(settings.name),
        shared=resources.shared,
        environ=resources.environ,
        network=network,
        redactor=resources.redactor,
    )


def new_reader(source: JobSource, settings: TargetConfig) -> Reader:
    """What reads whole windows of the target's jobs, page by page."""
    trust_count = {"auto": None, "true": True, "false": False}[settings.trust_count]
    return Reader(source, PageMemory(trust_count), split_by_type=settings.filters.job_type is None)


def share_rate(settings: TargetConfig, resources: SharedResources) -> None:
    """Count the target in the rate limit of its credentials again, after a reload that failed."""
    key = credentials_key(settings.auth, resources.environ)
    resources.shared.limiter(key, settings.name, settings.rate_limit)


def new_repository(
    config: Config, settings: TargetConfig, resources: SharedResources, classes: Classifier
) -> LedgerRepository:
    """The target's ledger in the store, not yet loaded."""
    return LedgerRepository(
        target_view(config, settings, classes),
        scope=ledger_scope(settings),
        job_type=settings.filters.job_type,
        service=settings.filters.tts_service_enum,
        settings=ledger_settings(config, settings, classes),
        retention=milliseconds(config.storage.retention),
        store=resources.store,
        executor=resources.executor,
    )


def target_view(config: Config, settings: TargetConfig, classes: Classifier) -> TargetView:
    """What is published of the target before its ledger is loaded."""
    return TargetView(
        target=settings.name,
        region=settings.region,
        project_id=settings.project_id or "",
        api_endpoint=settings.endpoint,
        classes=classes.classes,
        **_named_as_in(TargetView, msgspec.structs.asdict(config.metrics)),
    )


def classifier(config: Config) -> Classifier:
    return Classifier(config.failure_rules)


def poll_settings(config: Config, settings: TargetConfig) -> PollSettings:
    """The settings that polling depends on; times in seconds."""
    return PollSettings(
        **_named_as_in(PollSettings, msgspec.structs.asdict(config.poll)),
        budget=max(10, int(settings.rate_limit * config.poll.interval)),
        time_filters=settings.time_filters,
    )


def ledger_settings(config: Config, settings: TargetConfig, classes: Classifier) -> LedgerSettings:
    """The settings that counting depends on; times in milliseconds."""
    given = {**_in_milliseconds(config.poll), **_in_milliseconds(config.metrics)}
    return LedgerSettings(
        **_named_as_in(LedgerSettings, given),
        classify=classes.classify,
        time_may_repeat=0 if settings.time_filters else milliseconds(longest_repeat(settings.time_zone)),
    )


def _named_as_in(part: type[msgspec.Struct], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those keys that the part has a field for."""
    return {name: given[name] for name in part.__struct_fields__ if name in given}


def _in_milliseconds(section: msgspec.Struct) -> dict[str, Any]:
    """By key: its value, a duration or each of a list of them in milliseconds."""
    found = {}
    for key in keys_of(type(section)):
        value = getattr(section, key.field)
        match key.type:
            case values.Duration():
                value = milliseconds(value)
            case values.Ascending(values.Duration(), _):
                value = tuple(map(milliseconds, value))
        found[key.field] = value
    return found


def ledger_scope(target: TargetConfig) -> str:
    """What a target's counts belong to (R11, docs/counting.md), except its project: that may be looked up."""
    filters = msgspec.structs.asdict(target.filters)
    parts = {"region": target.region, "app_user_id": target.app_user_id, **filters}
    return " ".join(f"{name}={value}" for name, value in parts.items() if value)
