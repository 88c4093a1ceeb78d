"""The published state -> the bytes of one scrape.

Knows what is published now and which forms of it scrapes ask for, and shows the last complete edition of it.
What was asked for once is made ahead from then on, so that hardly any scrape waits for it. Process metrics
change by the second and are written at every scrape. Knows no HTTP, and no metric by name.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import msgspec
from prometheus_client import CollectorRegistry

from exporter import __version__
from exporter.exposition.api_stats import ApiMetrics
from exporter.exposition.edition import Edition, Sources, Wanted
from exporter.exposition.gzip import NO_BODY, Chunk, EncodedBody, Parts
from exporter.exposition.process import SelfMetrics, self_registry
from exporter.exposition.refresh import Refresher
from exporter.exposition.samples import ProcessView
from exporter.exposition.text import END, Format, select
from exporter.ledger import TargetView
from exporter.process import give_memory_back

REVISION_VARIABLE: Final = "METASTUDIO_EXPORTER_REVISION"
"""Environment variable with the commit that an image was built from."""

WANTED_SECONDS: Final = 300.0
"""How long after a scrape its format is still made ahead of the next one."""

TURN_SECONDS: Final = 0.002
"""How long text is written before others on the event loop have their turn."""

MANY_SOURCES: Final = 50
"""Of an edition that wrote so many, and most of what there is, the text took megabytes for a moment. The C
library would keep them: with hundreds of targets about 0.2 MiB for each."""

T = TypeVar("T")


def process_view(environ: Mapping[str, str], *, loaded_at: float) -> ProcessView:
    """What runs here; ``loaded_at`` is when the configuration was read, Unix seconds."""
    return ProcessView(
        version=__version__,
        revision=environ.get(REVISION_VARIABLE, "")[:64] or "unknown",
        pythonversion=platform.python_version(),
        reload_success_timestamp=loaded_at,
    )


class Exposition:
    """What ``/metrics`` shows. Fed by the poller and by reloads, read by every scrape.

    While ``run`` runs, publishing only marks what changed; without it, everything is made at once.
    """

    def __init__(
        self,
        api: ApiMetrics,
        process: ProcessView,
        *,
        registry: CollectorRegistry | None = None,
        created_timestamps: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._process = process
        self._self = SelfMetrics(self_registry() if registry is None else registry)
        self._views: dict[str, TargetView] = {}
        self._show_created = created_timestamps
        self._shown = Edition(show_created=created_timestamps)
        """The last complete one."""
        self._begun = 0
        """Editions so far."""
        self._monotonic = monotonic
        self._wanted: dict[Wanted, float] = {}
        """What was asked for, and when last: it is made at publication from then on."""
        self._refresher: Refresher | None = None
        """While ``run`` runs."""
        self._making = _Thread("exposition")
        """Completes editions."""
        self._selecting = _Thread("selection")
        """For ``name[]``: however many ask for that, no edition waits for them."""

    # --- what is shown --------------------------------------------------------------------------------

    @property
    def published(self) -> tuple[TargetView, ...]:
        return tuple(self._views.values())

    def publish(self, views: Iterable[TargetView]) -> None:
        """Replace what is shown: all targets that have been loaded. The same objects keep their text."""
        self._views = {view.target: view for view in views}
        self._changed(at_once=True)

    def replace(self, view: TargetView) -> None:
        """Replace what is shown of one target that is shown already."""
        self._views[view.target] = view
        self._changed()

    def show_created(self, wanted: bool) -> None:
        """Whether there are ``_created`` series, from the next publication on."""
        self._show_created = wanted

    def config_loaded(self, successful: bool, at: float) -> None:
        """A reload of the configuration ended at this Unix time."""
        process = msgspec.structs.replace(self._process, reload_successful=successful)
        if successful:
            process = msgspec.structs.replace(process, reload_success_timestamp=at)
        self._process = process
        self._changed(at_once=True)

    def log_lines_dropped(self, number: int) -> None:
        """So many since the start."""
        if number != self._process.log_lines_dropped:
            self._process = msgspec.structs.replace(self._process, log_lines_dropped=number)

    def _changed(self, *, at_once: bool = False) -> None:
        """``at_once``: the next scrape shows it, even if that is early for another refresh."""
        if self._refresher is None:
            self._forget_unwanted()
            if self._wanted:
                self._make_now()
        elif at_once:
            self._refresher.end_rest()
        else:
            self._refresher.changed()

    # --- scrapes --------------------------------------------------------------------------------------

    async def scrape(
        self, form: Format, names: frozenset[str] = frozenset(), *, compressed: bool = False
    ) -> Parts:
        """One scrape: of what is published now, or of the last complete edition, where that would take long.

        No scrape shows an older edition than a scrape before it. Raises OldMetricsError.
        """
        refresher = self._refresher
        if refresher is None:
            return self.parts(form, names, compressed=compressed)
        wanted = self._want(form, compressed) if not names else ()
        made = self._has(wanted)
        if not made or not (self._is_current() or refresher.resting):
            await refresher.wait(bounded=made)
        refresher.check()
        if not self._has(wanted):
            self._make_now()  # refreshing has failed, or ended: say why, or do without
        if names:
            return await self._selecting.run(partial(self._parts, self._shown, form, names, compressed))
        return self._parts(self._shown, form, names, compressed)

    def render(self, form: Format, names: frozenset[str] = frozenset(), *, compressed: bool = False) -> bytes:
        """One scrape's body, plain or one gzip member; with ``names``, only those samples or families."""
        parts = self.parts(form, names, compressed=compressed)
        return b"".join((*parts.shared, parts.fresh))

    def parts(self, form: Format, names: frozenset[str] = frozenset(), *, compressed: bool = False) -> Parts:
        """The same in parts, of what is published now; with ``names`` nothing of it is shared."""
        if not names:
            self._want(form, compressed)
        self._make_now()
        return self._parts(self._shown, form, names, compressed)

    def body(self, form: Format) -> EncodedBody:
        """The text of everything but the fresh part; the same object until something changes."""
        if not any(wanted is form for wanted, _ in self._wanted):
            self._want(form, False)
        self._make_now()
        return self._shown.body(form)

    def _parts(self, edition: Edition, form: Format, names: frozenset[str], compressed: bool) -> Parts:
        fresh = self._self.text(form)
        if names:
            fresh, body = edition.select(form, names) + select(fresh, names), NO_BODY
        else:
            body = edition.body(form)
        end = (fresh + END if form is Format.OPENMETRICS else fresh).encode()
        return body.gzip(end) if compressed else body.plain(end)

    # --- making ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make what scrapes ask for ahead of them, until cancelled."""
        self._refresher = Refresher(self._refresh, self._monotonic)
        try:
            await self._refresher.run()
        finally:
            self._refresher = None
            self._making.end()
            self._selecting.end()

    async def _refresh(self) -> float:
        """Show what is published now. Returns the CPU time that it took."""
        self._forget_unwanted()
        edition = self._next()
        spent = await _in_turns(edition.write(self._shown))
        spent += await self._making.run(partial(_timed, edition.complete, self._shown))
        if replaced := self._show(edition):
            await self._making.run(partial(_keep_compressed, replaced))
        if edition.written >= max(MANY_SOURCES, sum(map(len, edition.sources)) / 2):
            await self._making.run(give_memory_back)
        return spent

    def _make_now(self) -> None:
        """The same at once, if it is not shown yet."""
        if self._has(self._wanted) and self._is_current():
            return
        edition = self._next()
        for _ in edition.write(self._shown):
            pass
        edition.complete(self._shown)
        _keep_compressed(self._show(edition))

    def _has(self, wanted: Iterable[Wanted]) -> bool:
        """Is there an edition with all of these forms? At a start there is none, which shows nothing."""
        return self._shown.number > 0 and self._shown.has(wanted)

    def _want(self, form: Format, compressed: bool) -> tuple[Wanted]:
        self._wanted[form, compressed] = self._monotonic()
        return ((form, compressed),)

    def _forget_unwanted(self) -> None:
        since = self._monotonic() - WANTED_SECONDS
        self._wanted = {wanted: at for wanted, at in self._wanted.items() if at >= since}

    def _sources(self) -> Sources:
        return Sources(self.published, self._api.views(), self.published, (self._process,))

    def _is_current(self) -> bool:
        return self._shown.shows(self._sources(), show_created=self._show_created)

    def _next(self) -> Edition:
        self._begun += 1
        return Edition(
            self._sources(), show_created=self._show_created, wanted=self._wanted, number=self._begun
        )

    def _show(self, edition: Edition) -> list[Chunk]:
        """Returns the chunks that are no longer current and still being read."""
        if edition.number < self._shown.number:
            return []
        replaced = self._shown.replaced_by(edition)
        self._shown = edition
        return [chunk for reference in replaced if (chunk := reference()) is not None]


class _Thread:
    """A thread for long work, begun with the first. Where the system has none left, the caller works."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(1, name)

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises."""
        try:
            done = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError:  # can't start new thread, or this is the end of the program
            self._executor = ThreadPoolExecutor(1, self._name)  # the work is in the former one's queue
            return work()
        return await done

    def end(self) -> None:
        """Let go of the thread; work that is wanted later begins a new one."""
        self._executor.shutdown(wait=False)
        self._executor = ThreadPoolExecutor(1, self._name)


async def _in_turns(steps: Iterator[None]) -> float:
    """Take all steps, and let others have their turn now and then. Returns the CPU time of the steps."""
    spent, began = 0.0, time.thread_time()
    for _ in steps:
        if (took := time.thread_time() - began) > TURN_SECONDS:
            await asyncio.sleep(0)
            spent, began = spent + took, time.thread_time()
    return spent + time.thread_time() - began


def _timed(work: Callable[[Edition], None], before: Edition) -> float:
    """Returns the CPU time of this thread that the work took."""
    began = time.thread_time()
    work(before)
    return time.thread_time() - began


def _keep_compressed(chunks: Iterable[Chunk]) -> None:
    """Chunks that are no longer current are kept, compressed, for clients that are still reading them."""
    for chunk in chunks:
        chunk.keep_compressed()
