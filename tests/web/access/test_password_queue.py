"""Which password is compared next, and what is turned away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from exporter.web.access.password_queue import WAITING_LIMIT, PasswordQueue


async def settle() -> None:
    """A verdict reaches its task by way of two futures."""
    for _ in range(3):
        await asyncio.sleep(0)


class Hashes:
    """Comparisons that end when the test says so; the password ``right`` belongs to every hash."""

    def __init__(self) -> None:
        self.running: list[tuple[bytes, Callable[[bool], None]]] = []
        self.order: list[bytes] = []

    def begin(self, password: bytes, _hashed: bytes, report: Callable[[bool], None]) -> None:
        self.running.append((password, report))
        self.order.append(password)

    async def finish(self, count: int = 1) -> None:
        for _ in range(count):
            password, report = self.running.pop(0)
            report(password == b"right")
            await settle()


def first(keys: Sequence[bytes]) -> bytes:
    """In the place of chance: the oldest."""
    return keys[0]


def queue_of(hashes: Hashes, workers: int = 1) -> PasswordQueue:
    return PasswordQueue(workers=workers, compare=hashes.begin, choose=first)


async def ask(
    queue: PasswordQueue, password: str, client: str = "c", user: str = "u"
) -> asyncio.Task[bool | None]:
    """A request that waits for its verdict."""
    task = asyncio.create_task(
        queue.matches(
            f"{client}/{user}/{password}".encode(),
            client=client,
            user=user.encode(),
            password=password.encode(),
            hashed=b"hash",
        )
    )
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("addresses", [1, 8, 200])
def test_a_new_address_waits_for_two_comparisons(addresses: int) -> None:
    """However many addresses guess: they have failed, who comes for the first time has not."""

    async def run() -> list[bytes]:
        queue = queue_of(hashes := Hashes())
        for n in range(2 * addresses):
            await ask(queue, f"bad{n}", client=f"guesser{n % addresses}")
        await hashes.finish(addresses)
        before = len(hashes.order)
        await ask(queue, "right", client="prometheus")
        for n in range(3):
            await ask(queue, f"again{n}", client=f"guesser{n % addresses}")
        await hashes.finish(2)
        return hashes.order[before:]

    assert b"right" in asyncio.run(run())


def test_addresses_that_failed_take_turns() -> None:
    """A Prometheus that had an old password is not last for ever."""

    async def run() -> list[bytes]:
        queue = queue_of(hashes := Hashes())
        await ask(queue, "old", client="prometheus")
        await ask(queue, "bad0", client="mallory")
        await hashes.finish(2)
        await ask(queue, "bad1", client="mallory")
        await ask(queue, "right", client="prometheus")
        await ask(queue, "bad2", client="mallory")
        await ask(queue, "bad3", client="mallory")
        await hashes.finish(2)
        return hashes.order

    assert asyncio.run(run()) == [b"old", b"bad0", b"bad1", b"bad3", b"right"]


def test_within_an_address_user_names_take_turns() -> None:
    """Behind one proxy: guesses at another name keep nobody waiting, whether that name exists or not."""

    async def run() -> list[bytes]:
        queue = queue_of(hashes := Hashes())
        for n in range(20):
            await ask(queue, f"bad{n}", user="admin")
        await hashes.finish()
        await ask(queue, "right", user="prometheus")
        await ask(queue, "newer", user="admin")
        await ask(queue, "newest", user="admin")
        await hashes.finish(2)
        return hashes.order

    assert b"right" in asyncio.run(run())


def test_the_newest_of_all_has_every_other_turn() -> None:
    """Also behind an address that guesses all the time, and when a Prometheus asks once more."""

    async def run() -> list[bytes]:
        queue = queue_of(hashes := Hashes())
        for n in range(4):
            await ask(queue, f"mallory{n}", client="proxy")
        await hashes.finish()
        await ask(queue, "right", client="proxy")
        for n in range(9):
            await ask(queue, f"bad{n}", client=f"c{n}")
        await ask(queue, "right", client="proxy")
        await hashes.finish(2)
        return hashes.order

    assert b"right" in asyncio.run(run())


def test_among_equals_the_newest_or_a_random_one_is_compared() -> None:
    """Who came last still waits for the answer; what is random keeps nobody waiting for ever."""

    async def run() -> list[bytes]:
        queue = queue_of(hashes := Hashes())
        for n in range(9):
            await ask(queue, f"{n}", client=f"c{n}")
        await hashes.finish(8)
        return hashes.order

    assert asyncio.run(run()) == [b"0", b"8", b"7", b"6", b"1", b"5", b"4", b"3", b"2"]


def test_a_full_queue_turns_away_the_address_that_fills_it() -> None:
    """Nobody else; and what waits is bounded."""

    async def run() -> None:
        queue = queue_of(hashes := Hashes())
        guesses = [await ask(queue, f"bad{n}", client="mallory") for n in range(2 * WAITING_LIMIT)]
        other = await ask(queue, "right", client="prometheus")
        await settle()
        assert len(queue) == WAITING_LIMIT
        turned_away = [task for task in guesses if task.done()]
        assert len(turned_away) == WAITING_LIMIT  # one is compared, the other address waits
        assert {task.result() for task in turned_away} == {None}
        await hashes.finish(2)
        assert other.done()
        assert other.result()
        queue.close()

    asyncio.run(run())


def test_a_password_is_compared_though_its_client_has_gone() -> None:
    """Prometheus gives up after ten seconds and asks again: the same question is not asked twice."""

    async def run() -> list[bytes]:
        queue = queue_of(hashes := Hashes())
        await ask(queue, "bad", client="mallory")
        gone = await ask(queue, "right")
        gone.cancel()
        again, twice = await ask(queue, "right"), await ask(queue, "right")
        await hashes.finish(2)
        assert (again.done(), twice.done()) == (True, True)
        return hashes.order

    assert asyncio.run(run()) == [b"bad", b"right"]


@pytest.mark.parametrize("workers", [1, 3])
def test_only_so_many_are_compared_at_a_time(workers: int) -> None:
    """The others' cores are for whoever has been let in."""

    async def run() -> set[int]:
        queue = queue_of(hashes := Hashes(), workers)
        running = set()
        for n in range(12):
            await ask(queue, f"bad{n}")
        for _ in range(9):
            running.add(len(hashes.running))
            await hashes.finish()
        return running

    assert asyncio.run(run()) == {workers}


def test_nobody_waits_any_more_once_it_is_closed() -> None:
    """The end of the program is held up by no comparison, and an early result is no error."""

    async def run() -> list[bool | None]:
        queue = queue_of(hashes := Hashes())
        tasks = [await ask(queue, f"bad{n}") for n in range(3)]
        queue.close()
        await hashes.finish()
        tasks.append(await ask(queue, "late"))
        assert len(hashes.order) == 1
        return [await task for task in tasks]

    assert asyncio.run(run()) == [None] * 4


def test_without_a_thread_it_is_turned_away() -> None:
    """And the next one is tried."""

    def fail(_password: bytes, _hashed: bytes, _report: Callable[[bool], None]) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> list[bool | None]:
        queue = PasswordQueue(workers=1, compare=fail)
        return [await (await ask(queue, f"{n}")) for n in range(2)]

    assert asyncio.run(run()) == [None, None]
