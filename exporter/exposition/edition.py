"""One consistent set of published values, and its text in each format that is asked for.

An edition is made from the one before it: only sources that changed are written, only chunks that changed are
compressed. It is complete before it is shown, and never changes afterwards; so every scrape of one edition
shows the same state. Knows no metric by name, no HTTP, and not when an edition is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import is_
from typing import Any, Final, Generic, NamedTuple, TypeVar
from weakref import ref

from exporter.exposition import catalog
from exporter.exposition.api_stats import ApiView
from exporter.exposition.catalog import Metric
from exporter.exposition.gzip import NO_BODY, Chunk, ChunkedText, EncodedBody, Piece, piece_of
from exporter.exposition.samples import ProcessView
from exporter.exposition.text import Block, Format, select, write_block, write_family
from exporter.ledger import TargetView
from exporter.units import SECOND

S = TypeVar("S", TargetView, ApiView, ProcessView)

Wanted = tuple[Format, bool]
"""A format, and whether it is compressed."""


Pieces = tuple[tuple[Piece, str], ...]
"""One source's blocks (``text.Block``) of every metric, the large ones as chunks."""


class Sources(NamedTuple):
    """What is shown, for each table of metrics. They are immutable: the same object means the same lines."""

    jobs: tuple[TargetView, ...] = ()
    api: tuple[ApiView, ...] = ()
    polls: tuple[TargetView, ...] = ()
    process: tuple[ProcessView, ...] = ()


NO_SOURCES: Final = Sources()


@dataclass(frozen=True)
class _Table(Generic[S]):
    metrics: Sequence[Metric[S]]
    created: Callable[[S], float | None]
    """When a source's counters began (Unix seconds), as far as that is known."""

    def write(self, source: S, form: Format, *, show_created: bool) -> Pieces:
        """One source's lines of every metric."""
        created = self.created(source) if show_created else None
        blocks = (write_block(metric, source, form, created) for metric in self.metrics)
        return tuple((piece_of(samples), others) for samples, others in blocks)

    def write_one(self, metric: Metric[S], source: S, form: Format, *, show_created: bool) -> Block:
        return write_block(metric, source, form, self.created(source) if show_created else None)


def _counting_since(view: TargetView) -> float | None:
    return None if view.counting_since is None else view.counting_since / SECOND


def _api_created(api: ApiView) -> float:
    return api.created


def _process_created(process: ProcessView) -> None:
    """Its one counter begins with the process, whose start is a metric of its own."""


_TABLES: Final[tuple[_Table[Any], ...]] = (
    _Table(catalog.JOB_METRICS, _counting_since),
    _Table(catalog.API_METRICS, _api_created),
    _Table(catalog.POLL_METRICS, _counting_since),
    _Table(catalog.PROCESS_METRICS, _process_created),
)
"""In the order of the text."""


class _Written(NamedTuple):
    """One table in one format."""

    sources: tuple[Any, ...] = ()
    blocks: tuple[Pieces, ...] = ()
    """Per source, per metric."""
    text: ChunkedText = ChunkedText()


class Edition:
    """See the module. Made by ``write``, then ``complete``."""

    def __init__(
        self,
        sources: Sources = NO_SOURCES,
        *,
        show_created: bool,
        wanted: Iterable[Wanted] = (),
        number: int = 0,
    ) -> None:
        """``show_created``: whether there are ``_created`` series. ``wanted``: the forms to make. ``number``:
        later editions have higher ones.
        """
        self.sources = sources
        self.show_created = show_created
        self.number = number
        self.written = 0
        """Sources, so far, that ``before`` did not have: once for each format."""
        self._wanted = frozenset(wanted)
        self._written: dict[Format, list[_Written]] = {}
        self._bodies: dict[Format, EncodedBody] = {}

    def has(self, wanted: Iterable[Wanted]) -> bool:
        """Whether all of these forms were made."""
        return self._wanted.issuperset(wanted)

    def shows(self, sources: Sources, *, show_created: bool) -> bool:
        """Whether it was made of these."""
        return self.show_created == show_created and all(map(_all_same, self.sources, sources))

    # --- making ---------------------------------------------------------------------------------------

    def write(self, before: Edition) -> Iterator[None]:
        """Write the lines of every source that ``before`` does not have. Each step writes one source's."""
        for form in {form: None for form, _ in self._wanted}:
            known = before._tables(form) if before.show_created == self.show_created else _NOTHING
            self._written[form] = []
            for table, sources, old in zip(_TABLES, self.sources, known, strict=True):
                found = {id(source): blocks for source, blocks in zip(old.sources, old.blocks, strict=True)}
                blocks = []
                for source in sources:
                    if id(source) not in found:
                        found[id(source)] = table.write(source, form, show_created=self.show_created)
                        self.written += 1
                        yield
                    blocks.append(found[id(source)])
                self._written[form].append(_Written(sources, tuple(blocks)))

    def complete(self, before: Edition) -> None:
        """Cut and compress what was written: long work, most of it without the interpreter's lock."""
        for form, tables in self._written.items():
            texts = tuple(map(_cut, _TABLES, tables, before._tables(form), repeat(form)))
            tables[:] = [written._replace(text=text) for written, text in zip(tables, texts, strict=True)]
            body = before._bodies.get(form)
            self._bodies[form] = body if body and _all_same(body.texts, texts) else EncodedBody(texts)
        for form, compressed in self._wanted:
            self._bodies[form].prepare(compressed=compressed)
        for form, tables in self._written.items():
            if (form, False) not in self._wanted:
                _keep_compressed(tables)

    def _tables(self, form: Format) -> Sequence[_Written]:
        return self._written.get(form, _NOTHING)

    # --- reading --------------------------------------------------------------------------------------

    def body(self, form: Format) -> EncodedBody:
        """Everything but what is fresh at each scrape."""
        return self._bodies[form]

    def select(self, form: Format, names: frozenset[str]) -> str:
        """Only the samples or families of these names; no other family is written for it, or searched."""
        chosen = []
        for table, sources, written in zip(_TABLES, self.sources, self._tables(form), strict=True):
            for place, metric in enumerate(table.metrics):
                if any(name.startswith(metric.family) for name in names):
                    blocks = [
                        (_text(of_source[place][0]), of_source[place][1]) for of_source in written.blocks
                    ]
                    blocks = blocks or [
                        table.write_one(metric, source, form, show_created=self.show_created)
                        for source in sources
                    ]
                    family = "".join(write_family(metric, blocks, form))
                    chosen.append(family if metric.family in names else select(family, names))
        return "".join(chosen)

    def replaced_by(self, later: Edition) -> list[ref[Chunk]]:
        """The chunks that are in this one only."""
        return [
            chunk
            for form, body in self._bodies.items()
            for chunk in body.replaced_by(later._bodies.get(form, NO_BODY))
        ]


_NOTHING: Final = tuple(_Written() for _ in _TABLES)


def _cut(table: _Table[Any], written: _Written, before: _Written, form: Format) -> ChunkedText:
    """The table's text; chunks that did not change are those of ``before``."""
    if _all_same(written.blocks, before.blocks):
        return before.text
    families = zip(table.metrics, zip(*written.blocks, strict=True), strict=False)
    return ChunkedText((write_family(metric, blocks, form) for metric, blocks in families), before.text)


def _keep_compressed(tables: Iterable[_Written]) -> None:
    """Drop the text of what is a chunk by itself: nobody asks for it, and no neighbour needs it."""
    for written in tables:
        for pieces in written.blocks:
            for piece, _ in pieces:
                if isinstance(piece, Chunk):
                    piece.keep_compressed()


def _text(piece: Piece) -> str:
    return piece.plain.decode() if isinstance(piece, Chunk) else piece


def _all_same(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))
