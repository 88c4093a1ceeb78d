"""When text is made anew: once for many publications, at once for a scrape, and at a limited cost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from exporter.errors import OldMetricsError
from exporter.exposition import refresh
from exporter.exposition.refresh import (
    FREE_SECONDS,
    LONGEST_REST,
    REPORT_SECONDS,
    REST,
    TOO_OLD_SECONDS,
    Refresher,
)

NEVER = 1e6


class FakeRefresh:
    """A refresher, and what it refreshes: nothing that takes time, unless told so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu = 0.0
        self.begun = 0
        self.ended = 0
        self.error: Exception | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.only_one = False
        """Only one refresh may end, then."""
        self.refresher = Refresher(self.refresh, lambda: self.now)

    async def refresh(self) -> float:
        self.begun += 1
        await self.may_end.wait()
        if self.only_one:
            self.may_end.clear()
        self.ended += 1
        if self.error is not None:
            raise self.error
        return self.cpu

    async def until_begun(self, number: int) -> None:
        async with asyncio.timeout(10):
            while self.begun < number:  # noqa: ASYNC110 - a turn of the loop is all it takes
                await asyncio.sleep(0)

    def scrape(self, *, bounded: bool = True) -> asyncio.Task[None]:
        return asyncio.create_task(self.refresher.wait(bounded=bounded))


@contextlib.asynccontextmanager
async def running(monkeypatch: pytest.MonkeyPatch, *, wait: float = NEVER) -> AsyncIterator[FakeRefresh]:
    """Publications are collected for ever, so that only what a test says makes a refresh begin."""
    monkeypatch.setattr(refresh, "COLLECT_SECONDS", NEVER)
    monkeypatch.setattr(refresh, "WAIT_SECONDS", wait)
    monkeypatch.setattr(refresh, "RELOAD_WAIT_SECONDS", NEVER)
    stage = FakeRefresh()
    task = asyncio.create_task(stage.refresher.run())
    try:
        async with asyncio.timeout(20):
            yield stage
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_many_publications_are_one_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it comes by itself, a short while after the first of them."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.refresher.changed()
            for _ in range(20):
                await asyncio.sleep(0)
            assert stage.begun == 0
        async with running(monkeypatch) as stage:
            monkeypatch.setattr(refresh, "COLLECT_SECONDS", 0.0)
            for _ in range(100):
                stage.refresher.changed()
            await stage.until_begun(1)
            await asyncio.sleep(0)
            assert stage.begun == 1

    asyncio.run(run())


def test_a_scrape_begins_a_refresh_that_all_scrapes_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is collected while somebody waits."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.refresher.changed()
            await asyncio.gather(*(stage.scrape() for _ in range(5)))
            assert (stage.begun, stage.ended) == (1, 1)

    asyncio.run(run())


def test_a_scrape_waits_for_a_refresh_that_began_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One under way may have begun before what was published last."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.may_end.clear()
            first = stage.scrape()
            await stage.until_begun(1)
            second = stage.scrape()
            stage.may_end.set()
            await second
            assert first.done()
            assert stage.ended == 2

    asyncio.run(run())


def test_a_scrape_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the refresh takes; one that has nothing older waits on."""

    async def run() -> None:
        async with running(monkeypatch, wait=0.0) as stage:
            stage.may_end.clear()
            await stage.scrape()
            assert stage.ended == 0
            unbounded = stage.scrape(bounded=False)
            await stage.until_begun(1)
            assert not unbounded.done()
            stage.may_end.set()
            await unbounded
            assert stage.ended >= 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("cpu", "rest"),
    [(FREE_SECONDS, 0.0), (0.01, REST * 0.01), (0.1, REST * 0.1), (3.0, LONGEST_REST)],
    ids=["cheap", "costly", "very-costly", "too-costly"],
)
def test_a_costly_refresh_is_followed_by_a_rest(
    monkeypatch: pytest.MonkeyPatch, cpu: float, rest: float
) -> None:
    """Ten times as long, so that it takes a tenth of a core; but news never waits for long."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.cpu = cpu
            await stage.scrape()
            assert stage.refresher.resting == (rest > 0)
            stage.now += rest * 0.99
            assert stage.refresher.resting == (rest > 0)
            stage.now += rest * 0.02
            assert not stage.refresher.resting

    asyncio.run(run())


def test_nobody_waits_through_a_rest_but_who_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrapes that came during the costly refresh get what it made; a new format is made all the same."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.cpu = 0.5
            stage.may_end.clear()
            first = stage.scrape()
            await stage.until_begun(1)
            meanwhile, nothing_yet = stage.scrape(), stage.scrape(bounded=False)
            await asyncio.sleep(0)
            stage.only_one = True
            stage.may_end.set()
            await asyncio.gather(first, meanwhile)
            assert stage.ended == 1
            stage.may_end.set()
            await nothing_yet
            assert stage.ended == 2

    asyncio.run(run())


def test_a_rest_ends_early_for_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator changed shows at the next scrape."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.cpu = 0.5
            await stage.scrape()
            assert stage.refresher.resting
            stage.refresher.end_rest()
            assert not stage.refresher.resting

    asyncio.run(run())


def test_a_reload_during_a_refresh_shows_at_the_next_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """That refresh began before it: who asks afterwards gets the next one, without a rest."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.cpu = 0.5
            stage.may_end.clear()
            first = stage.scrape()
            await stage.until_begun(1)
            stage.refresher.end_rest()
            second = stage.scrape()
            await asyncio.sleep(0)
            stage.only_one = True
            stage.may_end.set()
            await first
            assert (stage.ended, second.done()) == (1, False)
            stage.may_end.set()
            await second
            assert stage.ended == 2

    asyncio.run(run())


def test_a_refresh_that_fails_is_reported_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waited goes on with what there is."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.error = MemoryError("none left")
            with caplog.at_level(logging.ERROR):
                for _ in range(3):
                    await stage.scrape()
                    assert stage.refresher.resting
                    stage.now += 60.0
            assert [record.message for record in caplog.records] == ["the metrics could not be written"]
            stage.error = None
            await stage.scrape()
            assert stage.begun == 4
            assert not stage.refresher.resting

    asyncio.run(run())


def test_a_refresh_that_goes_on_failing_is_reported_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With how long it has failed; and when it works again."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.error = MemoryError("none left")
            with caplog.at_level(logging.INFO):
                for _ in range(20):
                    await stage.scrape()
                    stage.now += REPORT_SECONDS / 10
                failing = [record.__dict__["fields"]["failing_seconds"] for record in caplog.records]
                assert failing == [0, REPORT_SECONDS]
                stage.error = None
                await stage.scrape()
                await stage.scrape()
            assert [record.message for record in caplog.records[2:]] == ["the metrics are written again"]

    asyncio.run(run())


def test_what_could_not_be_replaced_for_minutes_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a refresh succeeds."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.refresher.check()
            stage.error = MemoryError("none left")
            await stage.scrape()
            stage.now += TOO_OLD_SECONDS - 1
            await stage.scrape()
            stage.refresher.check()
            stage.now += 1
            with pytest.raises(OldMetricsError, match="could not be written for 300 s: see the log"):
                stage.refresher.check()
            stage.error = None
            await stage.scrape()
            stage.refresher.check()

    asyncio.run(run())


def test_what_an_operator_changed_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """By every scrape, until it is shown; what targets publish is not."""

    async def run() -> None:
        async with running(monkeypatch, wait=0.0) as stage:
            stage.may_end.clear()
            stage.refresher.changed()
            await stage.scrape()
            stage.refresher.end_rest()
            scrapes = [stage.scrape(), stage.scrape()]
            await stage.until_begun(1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert not any(scrape.done() for scrape in scrapes)
            stage.may_end.set()
            await asyncio.gather(*scrapes)
            assert stage.ended == 2
            stage.may_end.clear()
            await stage.scrape()
            assert stage.ended == 2

    asyncio.run(run())


def test_nobody_waits_for_a_refresher_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the program."""

    async def run() -> None:
        async with running(monkeypatch) as stage:
            stage.may_end.clear()
            begun = stage.scrape(bounded=False)
            await stage.until_begun(1)
            late = stage.scrape(bounded=False)
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await asyncio.gather(begun, late)

    asyncio.run(run())
