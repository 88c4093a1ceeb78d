"""The published state -> the bytes of one scrape.

Knows what is published now, and keeps its text: a target's lines are written again only when its view
changed, a table's body only when one of its lines did; process metrics change by the second and are
written at every scrape. Knows no HTTP, and no metric by name.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter import __version__, metrics
from exporter.apimetrics import ApiMetrics, ApiView
from exporter.metrics import Metric
from exporter.published import Published
from exporter.sampling import Books, ProcessView
from exporter.textformat import END, Block, Format, Source, select, write_block, write_family, write_registry

REVISION_VARIABLE: Final = "METASTUDIO_EXPORTER_REVISION"
"""Environment variable with the commit that an image was built from."""

S = TypeVar("S", bound=Source)


def process_view(environ: Mapping[str, str], *, loaded_at: float) -> ProcessView:
    """What runs here; ``loaded_at`` is when the configuration was read, Unix seconds."""
    return ProcessView(
        version=__version__,
        revision=environ.get(REVISION_VARIABLE, "")[:64] or "unknown",
        pythonversion=platform.python_version(),
        reload_success_timestamp=loaded_at,
    )


def self_registry() -> CollectorRegistry:
    """prometheus-client's metrics of this process and of Python, in a registry of their own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Exposition:
    """What ``/metrics`` shows. Fed by the poller and by reloads, read by every scrape."""

    def __init__(
        self,
        api: ApiMetrics,
        process: ProcessView,
        *,
        registry: CollectorRegistry | None = None,
        created_timestamps: bool = False,
    ) -> None:
        self._api = api
        self._process = process
        self._registry = self_registry() if registry is None else registry
        self._published = Published()
        self._books: tuple[Books, ...] = ()
        self._jobs_sheet = _Sheet[Books](metrics.JOBS, created_timestamps)
        self._api_sheet = _Sheet[ApiView](metrics.API, created_timestamps)
        self._polls_sheet = _Sheet[Books](metrics.POLLS, created_timestamps)
        self._process_sheet = _Sheet[ProcessView](metrics.PROCESS, created_timestamps)

    @property
    def published(self) -> Published:
        return self._published

    def publish(self, published: Published) -> None:
        """Replace what is shown. Views that did not change (the same objects) keep their text."""
        known = {id(books.view): books for books in self._books if books.classes == published.classes}
        self._books = tuple(
            known.get(id(view)) or Books(view, published.classes) for view in published.targets
        )
        self._published = published

    def config_loaded(self, successful: bool, at: float) -> None:
        """A reload of the configuration ended at this Unix time."""
        process = msgspec.structs.replace(self._process, reload_successful=successful)
        if successful:
            process = msgspec.structs.replace(process, reload_success_timestamp=at)
        self._process = process

    def render(self, form: Format, names: frozenset[str] = frozenset()) -> bytes:
        """One scrape's body; with ``names``, only those samples or families."""
        parts = (
            self._jobs_sheet.text(self._books, form),
            self._api_sheet.text(self._api.views(), form),
            self._polls_sheet.text(self._books, form),
            self._process_sheet.text((self._process,), form),
            write_registry(self._registry, form),
        )
        text = "".join(parts)
        if names:
            text = select(text, names)
        return (text + END if form is Format.OPENMETRICS else text).encode()


class _Sheet(Generic[S]):
    """The text of one table of metrics, with what was written before."""

    def __init__(self, table: Sequence[Metric[Any]], created_timestamps: bool) -> None:
        self._table = table
        self._created = created_timestamps
        self._written: dict[Format, tuple[tuple[S, ...], tuple[tuple[Block, ...], ...], str]] = {}

    def text(self, sources: tuple[S, ...], form: Format) -> str:
        """The families of all sources. Sources are immutable: the same object means the same lines."""
        before, blocks_before, text = self._written.get(form, ((), (), ""))
        if len(before) == len(sources) and all(map(_same, before, sources)):
            return text
        known = {id(source): blocks for source, blocks in zip(before, blocks_before, strict=True)}
        blocks = tuple(known.get(id(source)) or self._write(source, form) for source in sources)
        families = zip(self._table, zip(*blocks, strict=True), strict=False)
        text = "".join(write_family(metric, of_sources, form) for metric, of_sources in families)
        self._written[form] = (sources, blocks, text)
        return text

    def _write(self, source: S, form: Format) -> tuple[Block, ...]:
        return tuple(write_block(metric, source, form, created=self._created) for metric in self._table)


def _same(one: object, other: object) -> bool:
    return one is other
