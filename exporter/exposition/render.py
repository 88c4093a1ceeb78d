"""The published state -> the bytes of one scrape.

Knows what is published now, and keeps its text, plain and compressed: a target's lines are written again only
when its view changed, and compressed again only where they did; process metrics change by the second and are
written at every scrape. What was asked for once is made when something is published, so that no later scrape
waits for it. Knows no HTTP, and no metric by name.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from prometheus_client import CollectorRegistry

from exporter import __version__
from exporter.exposition import catalog
from exporter.exposition.api_stats import ApiMetrics, ApiView
from exporter.exposition.catalog import Metric
from exporter.exposition.gzip import ChunkedText, EncodedBody, Parts
from exporter.exposition.process import SelfMetrics, self_registry
from exporter.exposition.samples import ProcessView
from exporter.exposition.text import END, Block, Format, select, write_block, write_family
from exporter.ledger import TargetView
from exporter.units import SECOND

REVISION_VARIABLE: Final = "METASTUDIO_EXPORTER_REVISION"
"""Environment variable with the commit that an image was built from."""

WANTED_SECONDS: Final = 300.0
"""How long after a scrape its format is still made ahead of the next one."""

S = TypeVar("S", TargetView, ApiView, ProcessView)


def process_view(environ: Mapping[str, str], *, loaded_at: float) -> ProcessView:
    """What runs here; ``loaded_at`` is when the configuration was read, Unix seconds."""
    return ProcessView(
        version=__version__,
        revision=environ.get(REVISION_VARIABLE, "")[:64] or "unknown",
        pythonversion=platform.python_version(),
        reload_success_timestamp=loaded_at,
    )


class Exposition:
    """What ``/metrics`` shows. Fed by the poller and by reloads, read by every scrape."""

    def __init__(
        self,
        api: ApiMetrics,
        process: ProcessView,
        *,
        registry: CollectorRegistry | None = None,
        created_timestamps: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._process = process
        self._self = SelfMetrics(self_registry() if registry is None else registry)
        self._published: tuple[TargetView, ...] = ()
        self.show_created(created_timestamps)
        self._bodies: dict[Format, EncodedBody] = {}
        self._monotonic = monotonic
        self._wanted: dict[tuple[Format, bool], float] = {}
        """What was asked for, (form, compressed), and when last: it is made at publication from then on."""

    def show_created(self, wanted: bool) -> None:
        """Whether there are ``_created`` series, from now on: a reload may change it."""
        self._job_families = _FamilyCache(catalog.JOB_METRICS, wanted, _counting_since)
        self._api_families = _FamilyCache(catalog.API_METRICS, wanted, _api_created)
        self._poll_families = _FamilyCache(catalog.POLL_METRICS, wanted, _counting_since)
        self._process_families = _FamilyCache(catalog.PROCESS_METRICS, wanted, _process_created)

    @property
    def published(self) -> tuple[TargetView, ...]:
        return self._published

    def publish(self, views: tuple[TargetView, ...]) -> None:
        """Replace what is shown: all targets that have been loaded. The same objects keep their text."""
        self._published = views
        self._prepare()

    def config_loaded(self, successful: bool, at: float) -> None:
        """A reload of the configuration ended at this Unix time."""
        process = msgspec.structs.replace(self._process, reload_successful=successful)
        if successful:
            process = msgspec.structs.replace(process, reload_success_timestamp=at)
        self._process = process

    def log_lines_dropped(self, number: int) -> None:
        """So many since the start."""
        if number != self._process.log_lines_dropped:
            self._process = msgspec.structs.replace(self._process, log_lines_dropped=number)

    def render(self, form: Format, names: frozenset[str] = frozenset(), *, compressed: bool = False) -> bytes:
        """One scrape's body, plain or one gzip member; with ``names``, only those samples or families."""
        parts = self.parts(form, names, compressed=compressed)
        return b"".join((*parts.shared, parts.fresh))

    def parts(self, form: Format, names: frozenset[str] = frozenset(), *, compressed: bool = False) -> Parts:
        """The same in parts; with ``names`` nothing of it is shared."""
        fresh = self._self.text(form)
        if names:
            chosen = "".join(cache.select(sources, form, names) for cache, sources in self._families())
            fresh, body = chosen + select(fresh, names), EncodedBody(())
        else:
            self._wanted[form, compressed] = self._monotonic()
            body = self.body(form)
        end = (fresh + END if form is Format.OPENMETRICS else fresh).encode()
        return body.gzip(end) if compressed else body.plain(end)

    def _families(self) -> tuple[tuple[_FamilyCache[Any], tuple[Any, ...]], ...]:
        """Every table and its sources, in the order of the text."""
        return (
            (self._job_families, self._published),
            (self._api_families, self._api.views()),
            (self._poll_families, self._published),
            (self._process_families, (self._process,)),
        )

    def body(self, form: Format) -> EncodedBody:
        """The text of everything but the fresh part; the same object until something changes."""
        texts = tuple(cache.text(sources, form) for cache, sources in self._families())
        body = self._bodies.get(form)
        if body is None or not _all_same(body.texts, texts):
            body = EncodedBody(texts)
            self._replace(form, body)
        return body

    def _replace(self, form: Format, body: EncodedBody) -> None:
        """Chunks that are no longer current are kept, compressed, for clients that are still reading them."""
        before = self._bodies.pop(form, None)
        replaced = [] if before is None else before.replaced_by(body)
        del before
        self._bodies[form] = body
        for chunk in replaced:
            if (being_read := chunk()) is not None:
                being_read.keep_compressed()

    def _prepare(self) -> None:
        since = self._monotonic() - WANTED_SECONDS
        self._wanted = {wanted: at for wanted, at in self._wanted.items() if at >= since}
        for form, compressed in self._wanted:
            self.body(form).prepare(compressed=compressed)


class _Written(NamedTuple, Generic[S]):
    """What a table's sources became."""

    sources: tuple[S, ...] = ()
    blocks: tuple[tuple[Block, ...], ...] = ()
    """Per source, per metric."""
    text: ChunkedText = ChunkedText()


class _FamilyCache(Generic[S]):
    """The text of one table of metrics, with what was written before."""

    def __init__(
        self, table: Sequence[Metric[S]], show_created: bool, created: Callable[[S], float | None]
    ) -> None:
        """``created``: when a source's counters began (Unix seconds), as far as that is known."""
        self._table: Sequence[Metric[S]] = table
        self._show_created = show_created
        self._created: Callable[[S], float | None] = created
        self._written: dict[Format, _Written[S]] = {}

    def text(self, sources: tuple[S, ...], form: Format) -> ChunkedText:
        """The families of all sources. Sources are immutable: the same object means the same lines."""
        return self._write(sources, form).text

    def select(self, sources: tuple[S, ...], form: Format, names: frozenset[str]) -> str:
        """Only the samples or families of these names; no other family is searched."""
        blocks = self._write(sources, form).blocks
        families = (
            write_family(metric, of_sources, form)
            for metric, of_sources in zip(self._table, zip(*blocks, strict=True), strict=False)
            if any(name.startswith(metric.family) for name in names)
        )
        return "".join(select("".join(family), names) for family in families)

    def _write(self, sources: tuple[S, ...], form: Format) -> _Written[S]:
        before = self._written.get(form) or _Written[S]()
        if _all_same(before.sources, sources):
            return before
        known = {id(source): blocks for source, blocks in zip(before.sources, before.blocks, strict=True)}
        blocks = tuple(known.get(id(source)) or self._blocks(source, form) for source in sources)
        families = zip(self._table, zip(*blocks, strict=True), strict=False)
        text = ChunkedText(
            (write_family(metric, of_sources, form) for metric, of_sources in families), before.text
        )
        written = self._written[form] = _Written(sources, blocks, text)
        return written

    def _blocks(self, source: S, form: Format) -> tuple[Block, ...]:
        created = self._created(source) if self._show_created else None
        return tuple(write_block(metric, source, form, created) for metric in self._table)


def _counting_since(view: TargetView) -> float | None:
    return None if view.counting_since is None else view.counting_since / SECOND


def _api_created(api: ApiView) -> float:
    return api.created


def _process_created(process: ProcessView) -> None:
    """Its one counter begins with the process, whose start is a metric of its own."""


def _all_same(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))
