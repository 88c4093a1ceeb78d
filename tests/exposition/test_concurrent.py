"""Publications and scrapes at the same time: what is shown is whole, and never goes back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import re
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from itertools import product
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from exporter.exposition import Publisher, refresh
from exporter.exposition.catalog import Metric
from exporter.exposition.edition import Edition
from exporter.exposition.gzip import Chunk
from exporter.exposition.render import WANTED_SECONDS, Exposition
from exporter.exposition.text import Block, Format, write_block
from exporter.ledger.snapshot import TargetView
from tests.exposition.views import PROCESS, bare_view, full_api, full_view

NAMES = ("a", "b", "c")
COUNTED_UNTIL = "metastudio_exporter_last_complete_poll_timestamp_seconds"
FORMS = tuple(product(Format, (False, True)))


def view(name: str, number: int) -> TargetView:
    """A target that has got so far."""
    return msgspec.structs.replace(bare_view(name), last_complete_poll=1000 * number)


class ConcurrentScrapes:
    """An exposition that runs, with three targets; and gates in the thread that completes editions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, monotonic: Callable[[], float]) -> None:
        self.exposition = Exposition(
            full_api(*NAMES),
            PROCESS,
            registry=CollectorRegistry(),
            monotonic=monotonic,
            created_timestamps=False,
        )
        self.publisher = Publisher(self.exposition)
        self.completing = threading.Event()
        self.may_complete = threading.Event()
        self.may_complete.set()
        complete = Edition.complete

        def gated(edition: Edition, before: Edition) -> None:
            self.completing.set()
            assert self.may_complete.wait(10)
            complete(edition, before)

        monkeypatch.setattr(Edition, "complete", gated)

    def publish_all(self, number: int) -> None:
        """All in one publication."""
        self.publisher.exchange(NAMES, [view(name, number) for name in NAMES])

    async def scrape(
        self,
        form: Format = Format.PROMETHEUS,
        *,
        compressed: bool = True,
        names: frozenset[str] = frozenset(),
    ) -> dict[str, int]:
        """What one scrape shows: how far each target has got."""
        parts = await self.exposition.scrape(form, names, compressed=compressed)
        body = b"".join((*parts.shared, parts.fresh))
        assert len(body) == parts.size
        text = (gzip.decompress(body) if compressed else body).decode()
        return {
            name: int(float(value))
            for name, value in re.findall(rf'^{COUNTED_UNTIL}{{target="(.)"}} (\S+)$', text, re.MULTILINE)
        }

    async def until_completing(self) -> None:
        async with asyncio.timeout(10):
            while not self.completing.is_set():  # noqa: ASYNC110 - it is a thread's
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, monotonic: Callable[[], float] = lambda: 1000.0
) -> AsyncIterator[ConcurrentScrapes]:
    if refresh.FREE_SECONDS > 0:
        monkeypatch.setattr(refresh, "FREE_SECONDS", 1e6)  # else a slow machine would have it rest
    for name in ("WAIT_SECONDS", "RELOAD_WAIT_SECONDS"):
        monkeypatch.setattr(refresh, name, 30.0)  # and give older ones
    stage = ConcurrentScrapes(monkeypatch, monotonic)
    stage.publish_all(1)
    task = asyncio.create_task(stage.exposition.run())
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(30):
            yield stage
    finally:
        stage.may_complete.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def all_at(number: int) -> dict[str, int]:
    return dict.fromkeys(NAMES, number)


@pytest.mark.parametrize(("form", "compressed"), FORMS)
def test_a_scrape_shows_what_was_published_before_it(
    monkeypatch: pytest.MonkeyPatch, form: Format, compressed: bool
) -> None:
    """Also the first one of its kind, and one of selected names."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            for number in (1, 2, 3):
                stage.publish_all(number)
                assert await stage.scrape(form, compressed=compressed) == all_at(number)
                names = frozenset([COUNTED_UNTIL])
                assert await stage.scrape(form, compressed=compressed, names=names) == all_at(number)

    asyncio.run(run())


def test_publishing_only_marks_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of any number of publications is written once, for their targets only."""
    written: list[tuple[str, int | None]] = []

    def noting(metric: Metric[Any], source: TargetView, *others: Any) -> Block:
        if metric.name == COUNTED_UNTIL:
            written.append((source.target, source.last_complete_poll))
        return write_block(metric, source, *others)

    async def run() -> None:
        monkeypatch.setattr("exporter.exposition.edition.write_block", noting)
        monkeypatch.setattr(refresh, "COLLECT_SECONDS", 1e6)
        monkeypatch.setattr(refresh, "WAIT_SECONDS", 30.0)
        async with running(monkeypatch) as stage:
            await stage.scrape()
            written.clear()
            for number in range(2, 10):
                stage.publisher.publish(view("b", number))
            for _ in range(20):
                await asyncio.sleep(0)
            assert written == []
            assert await stage.scrape() == {**all_at(1), "b": 9}
            assert written == [("b", 9000)]

    asyncio.run(run())


@pytest.mark.parametrize("names", [frozenset[str](), frozenset([COUNTED_UNTIL])], ids=["all", "selected"])
def test_during_a_refresh_scrapes_get_the_last_complete_edition(
    monkeypatch: pytest.MonkeyPatch, names: frozenset[str]
) -> None:
    """Whole: nothing of what is being made; afterwards everything."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            assert await stage.scrape() == all_at(1)
            for name in ("WAIT_SECONDS", "RELOAD_WAIT_SECONDS"):
                monkeypatch.setattr(refresh, name, 0.0)
            stage.may_complete.clear()
            stage.completing.clear()
            stage.publish_all(2)
            assert await stage.scrape(names=names) == all_at(1)
            await stage.until_completing()
            stage.publisher.publish(view("c", 3))
            assert await stage.scrape(names=names) == all_at(1)
            for name in ("WAIT_SECONDS", "RELOAD_WAIT_SECONDS"):
                monkeypatch.setattr(refresh, name, 1e6)
            stage.may_complete.set()
            assert await stage.scrape(names=names) == {**all_at(2), "c": 3}

    asyncio.run(run())


@pytest.mark.parametrize("names", [frozenset[str](), frozenset([COUNTED_UNTIL])], ids=["all", "selected"])
def test_the_first_text_is_waited_for(monkeypatch: pytest.MonkeyPatch, names: frozenset[str]) -> None:
    """However long it takes: an empty answer would mean that every series has ended."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            for name in ("WAIT_SECONDS", "RELOAD_WAIT_SECONDS"):
                monkeypatch.setattr(refresh, name, 0.0)
            stage.may_complete.clear()
            first = asyncio.create_task(stage.scrape())
            await stage.until_completing()
            second = asyncio.create_task(stage.scrape(names=names))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not second.done()
            stage.may_complete.set()
            assert await first == await second == all_at(1)

    asyncio.run(run())


def test_a_first_text_that_fails_is_made_for_each_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of selected names, too: no scrape shows the nothing that there was before it."""

    def fail(_edition: Edition, _before: Edition) -> None:
        monkeypatch.setattr(Edition, "complete", complete)
        raise MemoryError

    async def run() -> None:
        async with running(monkeypatch) as stage:
            monkeypatch.setattr(Edition, "complete", fail)
            assert await stage.scrape(names=frozenset([COUNTED_UNTIL])) == all_at(1)

    complete = Edition.complete
    asyncio.run(run())


def test_a_format_that_nobody_asked_for_before_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing else to show."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            monkeypatch.setattr(refresh, "WAIT_SECONDS", 0.0)
            stage.may_complete.clear()
            scrapes = [
                asyncio.create_task(stage.scrape(form, compressed=compressed)) for form, compressed in FORMS
            ]
            await stage.until_completing()
            assert not any(scrape.done() for scrape in scrapes)
            stage.may_complete.set()
            assert await asyncio.gather(*scrapes) == [all_at(1)] * len(FORMS)

    asyncio.run(run())


def test_what_is_shown_is_whole_and_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrapes of every form after one another, while all targets publish together all the time."""

    async def run() -> None:
        monkeypatch.setattr(refresh, "COLLECT_SECONDS", 0.0)
        async with running(monkeypatch) as stage:
            last = 1
            for number in range(2, 60):
                stage.publish_all(number)
                if number % 3:
                    await asyncio.sleep(0)
                monkeypatch.setattr(refresh, "RELOAD_WAIT_SECONDS", 0.0 if number % 2 else 1e6)
                form, compressed = FORMS[number % len(FORMS)]
                names = frozenset[str]() if number % 5 else frozenset([COUNTED_UNTIL])
                (shown,) = set((await stage.scrape(form, compressed=compressed, names=names)).values())
                assert last <= shown <= number
                last = shown
            monkeypatch.setattr(refresh, "RELOAD_WAIT_SECONDS", 1e6)
            assert await stage.scrape() == all_at(59)

    asyncio.run(run())


def test_in_a_rest_scrapes_get_the_last_edition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Publications of targets wait until the rest is over; what an operator changed does not."""

    async def run() -> None:
        monkeypatch.setattr(refresh, "FREE_SECONDS", -1.0)
        async with running(monkeypatch) as stage:  # its clock stands still: a rest has no end
            assert await stage.scrape() == all_at(1)
            stage.publisher.publish(view("b", 2))
            assert await stage.scrape() == all_at(1)
            stage.publish_all(3)
            assert await stage.scrape() == all_at(3)

    asyncio.run(run())


def test_an_older_edition_does_not_replace_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was made meanwhile in another way."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            await stage.scrape()
            stage.may_complete.clear()
            stage.completing.clear()
            stage.publish_all(2)
            scrape = asyncio.create_task(stage.scrape())
            await stage.until_completing()
            stage.publish_all(3)
            stage.may_complete.set()
            assert b"3.0" in stage.exposition.render(Format.PROMETHEUS, frozenset([COUNTED_UNTIL]))
            assert await scrape == all_at(3)

    asyncio.run(run())


def test_without_a_thread_text_is_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may have none left."""

    async def run() -> None:
        async with running(monkeypatch) as stage:

            def refuse(*_: object) -> None:
                raise RuntimeError("can't start new thread")

            monkeypatch.setattr(threading.Thread, "start", refuse)
            assert await stage.scrape() == all_at(1)
            assert await stage.scrape(names=frozenset([COUNTED_UNTIL])) == all_at(1)

    asyncio.run(run())


def test_work_that_found_no_thread_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in memory, nor to be done again by a thread that starts later."""
    completed: list[weakref.ref[Edition]] = []
    complete = Edition.complete

    async def run() -> None:
        async with running(monkeypatch) as stage:

            def noted(edition: Edition, before: Edition) -> None:
                completed.append(weakref.ref(edition))
                complete(edition, before)

            def refuse(*_: object) -> None:
                raise RuntimeError("can't start new thread")

            monkeypatch.setattr(Edition, "complete", noted)
            with monkeypatch.context() as no_threads:
                no_threads.setattr(threading.Thread, "start", refuse)
                for number in range(2, 10):
                    stage.publish_all(number)
                    assert await stage.scrape() == all_at(number)
            gc.collect()
            assert sum(edition() is not None for edition in completed) == 1
            stage.publish_all(10)
            assert await stage.scrape() == all_at(10)
            assert len(completed) == 9

    asyncio.run(run())


def test_large_blocks_are_kept_compressed_unless_text_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are most of the text. Who asks for it later, or for a part of it, gets the same."""
    name = "metastudio_tts_job_failures_total"
    classes = tuple(f"class_{number}_{'x' * 40}" for number in range(20))

    async def read(exposition: Exposition, *names: str, compressed: bool) -> bytes:
        parts = await exposition.scrape(Format.PROMETHEUS, frozenset(names), compressed=compressed)
        body = b"".join((*parts.shared, parts.fresh))
        return gzip.decompress(body) if compressed else body

    async def run() -> None:
        async with running(monkeypatch) as stage:
            views = [msgspec.structs.replace(full_view(name), classes=classes) for name in NAMES]
            stage.publisher.exchange(NAMES, views)
            text = await read(stage.exposition, compressed=True)
            large = [found for found in gc.get_objects() if isinstance(found, Chunk) and not found.blocks]
            assert sum(found.size for found in large) > len(text) / 2
            assert await read(stage.exposition, name, compressed=True) in text
            assert await read(stage.exposition, name, compressed=False) in text
            assert await read(stage.exposition, compressed=False) == text
            stage.publisher.publish(msgspec.structs.replace(views[1], last_complete_poll=None))
            changed = text.replace(f'{COUNTED_UNTIL}{{target="b"}} 1.700000000875e+09\n'.encode(), b"")
            assert len(changed) < len(text)
            assert await read(stage.exposition, compressed=True) == changed
            assert await read(stage.exposition, compressed=False) == changed

    asyncio.run(run())


@pytest.mark.slow
def test_no_form_is_kept_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its text nor what it was compressed to."""

    def chunks() -> int:
        gc.collect()
        return sum(isinstance(found, Chunk) for found in gc.get_objects())

    async def run() -> None:
        now = 1000.0
        async with running(monkeypatch, lambda: now) as stage:
            before = chunks()
            await stage.scrape(Format.PROMETHEUS)
            of_one = chunks() - before
            await stage.scrape(Format.OPENMETRICS)
            assert chunks() - before == 2 * of_one > 0
            now += WANTED_SECONDS + 1
            assert await stage.scrape(Format.PROMETHEUS) == all_at(1)
            stage.publish_all(2)
            assert await stage.scrape(Format.PROMETHEUS) == all_at(2)
            assert chunks() - before == of_one

    asyncio.run(run())


@pytest.mark.parametrize(("many", "times"), [(3, 1), (1000, 0)], ids=["many", "few"])
def test_memory_is_given_back_after_most_was_written(
    monkeypatch: pytest.MonkeyPatch, many: int, times: int
) -> None:
    """Not when one of many targets changed, and not for a few targets."""
    given: list[bool] = []
    monkeypatch.setattr("exporter.exposition.render.MANY_SOURCES", many)
    monkeypatch.setattr("exporter.exposition.render.give_memory_back", lambda: given.append(True))

    async def run() -> None:
        async with running(monkeypatch) as stage:
            await stage.scrape()
            assert len(given) == times
            stage.exposition.replace(view("a", 2))
            await stage.scrape()
            assert len(given) == times

    asyncio.run(run())
