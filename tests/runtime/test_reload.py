"""Who asks for a reload, and which one answers."""

from __future__ import annotations

import asyncio

from exporter.runtime.reload import EXPORTER_STOPS, ReloadProblems, ReloadQueue


class Reloading:
    """A reload that ends when it is told to, with its own number."""

    def __init__(self) -> None:
        self.begun = 0
        self.running = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> ReloadProblems:
        self.begun += 1
        self.running += 1
        assert self.running == 1, "two at the same time"
        await self.go_on.wait()
        self.running -= 1
        return (f"reload {self.begun}",)


async def breathe() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_whoever_asks_during_a_reload_waits_for_the_next_one() -> None:
    """The file may have changed since the running one read it; all who wait share that next one."""

    async def scene() -> None:
        reloading = Reloading()
        reloads = ReloadQueue(reloading)
        worker = asyncio.create_task(reloads.run())
        first = asyncio.create_task(reloads.reload())
        await breathe()
        late = [asyncio.create_task(reloads.reload()) for _ in range(3)]
        await breathe()
        assert reloading.begun == 1
        reloading.go_on.set()
        assert await first == ("reload 1",)
        assert [await one for one in late] == [("reload 2",)] * 3
        assert reloading.begun == 2
        worker.cancel()

    asyncio.run(scene())


def test_one_who_gives_up_takes_nobody_with_him() -> None:
    """A client that hangs up does not cancel the answer of the others."""

    async def scene() -> None:
        reloading = Reloading()
        reloads = ReloadQueue(reloading)
        worker = asyncio.create_task(reloads.run())
        impatient, patient = (asyncio.create_task(reloads.reload()) for _ in range(2))
        await breathe()
        impatient.cancel()
        reloading.go_on.set()
        assert await patient == ("reload 1",)
        worker.cancel()

    asyncio.run(scene())


def test_at_the_end_nobody_is_left_waiting() -> None:
    """Neither who waits for the running reload nor who waits for the next."""

    async def scene() -> None:
        reloads = ReloadQueue(Reloading())
        worker = asyncio.create_task(reloads.run())
        running = asyncio.create_task(reloads.reload())
        await breathe()
        waiting = asyncio.create_task(reloads.reload())
        await breathe()
        worker.cancel()
        assert await running == EXPORTER_STOPS
        assert await waiting == EXPORTER_STOPS

    asyncio.run(scene())
