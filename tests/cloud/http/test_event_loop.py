"""A name server that never answers costs those who ask for its names, and nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from exporter.cloud.http.event_loop import EventLoop
from testkit.processes import Process, free_port, get, wait_for, write_config

T = TypeVar("T")
ADDRESS = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]


class Resolver:
    """Answers for every name but those that begin with ``dead``, until it is released."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answer = threading.Event()

    def __call__(self, host: str, port: int, **options: int) -> object:
        self.asked[host] += 1
        if host.startswith("dead"):
            self.answer.wait(30.0)
        if host.startswith("none"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ADDRESS


def run(resolver: Resolver, main: Coroutine[Any, Any, T], seconds: float = 30.0) -> T:
    with asyncio.Runner(loop_factory=lambda: EventLoop(resolver, seconds=seconds)) as runner:
        return runner.run(main)


async def look_up(host: str) -> object:
    return await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)


def test_dead_names_do_not_hold_up_others_nor_the_end() -> None:
    """Forty that never answer are more than asyncio has threads: the next is found, and all ends."""
    resolver = Resolver()

    async def scene() -> tuple[object, int]:
        waiting = [asyncio.create_task(look_up(f"dead-{number}")) for number in range(40)]
        found = await look_up("alive"), await asyncio.to_thread(int, "7")
        assert not any(task.done() for task in waiting)
        return found

    assert run(resolver, scene()) == (ADDRESS, 7)
    assert not resolver.answer.is_set()
    resolver.answer.set()


def test_one_lookup_a_name_however_many_ask() -> None:
    """Also when those who asked first have given up: the next joins the lookup that is under way."""
    resolver = Resolver()

    async def scene() -> object:
        for _ in range(50):
            task = asyncio.create_task(look_up("dead"))
            await asyncio.sleep(0)
            task.cancel()
        several = [asyncio.create_task(look_up("dead")) for _ in range(3)]
        await asyncio.sleep(0)
        resolver.answer.set()
        return await asyncio.gather(*several)

    assert run(resolver, scene()) == [ADDRESS] * 3
    assert resolver.asked == {"dead": 1}


def test_an_answer_is_not_kept() -> None:
    """A name that has moved is found at its new address."""
    resolver = Resolver()

    async def scene() -> None:
        await look_up("alive")
        await look_up("alive")

    run(resolver, scene())
    assert resolver.asked == {"alive": 2}


def test_no_answer_is_an_error_of_the_lookup() -> None:
    """It says that it is the name's fault, not the endpoint's."""
    resolver = Resolver()
    with pytest.raises(socket.gaierror, match="name resolution failed"):
        run(resolver, look_up("dead"), seconds=0.01)
    resolver.answer.set()


def test_an_error_reaches_all_who_ask() -> None:
    """And is forgotten when nobody does."""
    resolver = Resolver()

    async def scene() -> tuple[object, object]:
        task = asyncio.create_task(look_up("none-1"))
        await asyncio.sleep(0)
        task.cancel()
        return await asyncio.gather(look_up("none-2"), look_up("none-2"), return_exceptions=True)

    assert [type(error) for error in run(resolver, scene())] == [socket.gaierror] * 2


SILENT = """
import socket, sys, time
from exporter.cli import main

look_up = socket.getaddrinfo

def silent(host, *rest, **options):
    if "example" not in str(host):
        return look_up(host, *rest, **options)
    print("asked", flush=True)
    time.sleep(60)

socket.getaddrinfo = silent
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.e2e
def test_the_program_ends_although_a_lookup_does_not(tmp_path: Path) -> None:
    """SIGTERM while the name server does not answer: the end comes within seconds, not after the lookup."""
    config = write_config(tmp_path, "https://metastudio.example")
    port = free_port()
    flags = [f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
    program = Process(["-c", SILENT, *flags], tmp_path / "log")
    try:
        assert program.first_line() == "asked"
        wait_for("readiness", lambda: get(f"http://127.0.0.1:{port}/-/ready"))
        assert program.stop(seconds=20.0) == 0
    finally:
        program.kill()
