"""Who begins when many wait."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

from exporter.web.request_queue import RequestQueue


async def order(queue: RequestQueue, requests: Sequence[tuple[str, str, float]]) -> list[str]:
    """The names of these (name, client, idle since) in the order of their turns; all come in one round."""
    begun: list[str] = []

    async def request(name: str, client: str, last_request_at: float) -> None:
        await queue.wait_turn(client, last_request_at)
        begun.append(name)

    await asyncio.gather(*(request(*one) for one in requests))
    return begun


def test_who_was_quiet_longest_is_next() -> None:
    """A scraper's kept connection goes before a hundred that ask all the time, though it came last."""

    async def run() -> list[str]:
        crowd = [(f"m{n}", "a", 100.0 + n) for n in range(100)]
        return await order(RequestQueue(), [*crowd, ("prometheus", "a", 85.0)])

    assert "prometheus" in asyncio.run(run())[:2]


def test_a_client_with_few_requests_is_next() -> None:
    """A new connection from another address goes before those of a crowd that came earlier."""

    async def run() -> list[str]:
        crowd = [(f"m{n}", "a", float(n)) for n in range(100)]
        return await order(RequestQueue(), [*crowd, ("prometheus", "b", 200.0)])

    assert "prometheus" in asyncio.run(run())[:4]


def test_alone_nobody_waits() -> None:
    """Not even for a round of the event loop."""

    async def run() -> None:
        queue = RequestQueue()
        taking = queue.wait_turn("a", 0.0)
        with contextlib.suppress(StopIteration):
            taking.send(None)
            raise AssertionError

    asyncio.run(run())


def test_one_begins_in_each_round() -> None:
    """Whoever asks meanwhile is seen between two of them."""

    async def run() -> list[int]:
        queue, begun = RequestQueue(), []

        async def request() -> None:
            await queue.wait_turn("a", 0.0)
            begun.append(1)

        waiting = [asyncio.create_task(request()) for _ in range(10)]
        seen = []
        while len(begun) < 10:
            await asyncio.sleep(0)
            seen.append(len(begun))
        await asyncio.gather(*waiting)
        return [later - earlier for earlier, later in itertools.pairwise(seen)]

    assert max(asyncio.run(run())) == 1


def test_who_leaves_takes_nobodys_turn() -> None:
    """Requests whose connections ended are forgotten, and everybody else begins."""

    async def run() -> tuple[int, int]:
        queue, begun = RequestQueue(), []

        async def request(name: int) -> None:
            await queue.wait_turn("a", float(name))
            begun.append(name)

        for _ in range(20):
            tasks = [asyncio.create_task(request(n)) for n in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return len(begun), len(queue)

    begun, waiting = asyncio.run(run())
    assert (begun >= 20 * 25, waiting) == (True, 0)
