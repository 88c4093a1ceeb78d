"""How connections are taken, and what is done when they have gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from exporter.web import accepting
from exporter.web.accepting import AT_ONCE, Acceptor
from exporter.web.connections import Connection, Limits, OpenConnections
from tests.web.test_connections import QUICK, connect, serving, until
from tests.web.test_server import place


def test_many_connections_are_taken_in_one_round() -> None:
    """And not all of them: those that are open have their turn in between."""

    async def run() -> list[int]:
        connections = OpenConnections(512)
        acceptor = Acceptor(connections, lambda *_: asyncio.Protocol(), lambda: None, Limits())
        taken = []
        with contextlib.ExitStack() as sockets:
            listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
            listener.setblocking(False)
            for _ in range(AT_ONCE + 10):
                sockets.enter_context(socket.create_connection(listener.getsockname()))
            for _ in range(2):
                acceptor.accept(listener)
                taken.append(len(connections))
            acceptor.close()
        return taken

    assert asyncio.run(run()) == [AT_ONCE, AT_ONCE + 10]
    assert AT_ONCE >= 64, "thousands a second may come, and a round of a busy loop takes tens of milliseconds"


async def first_line(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    """Of an answer; nothing when the connection is closed without one."""
    with contextlib.suppress(OSError):
        return (await loop.sock_recv(sock, 4096)).partition(b"\r\n")[0]
    return b""


def test_a_crowd_with_requests_waits_and_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five times as many connections as there is room for, hardly one is closed unread."""
    monkeypatch.setattr(accepting, "AT_ONCE", 8)
    request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    async def run() -> list[bytes]:
        loop = asyncio.get_running_loop()
        async with serving(limits=Limits(connections=64)) as server:
            with contextlib.ExitStack() as sockets:
                crowd = [sockets.enter_context(socket.create_connection(place(server))) for _ in range(300)]
                for sock in crowd:
                    sock.sendall(request)
                    sock.setblocking(False)
                return await asyncio.gather(*(first_line(loop, sock) for sock in crowd))

    assert asyncio.run(run()).count(b"HTTP/1.1 200 OK") > 0.9 * 300


def test_half_a_head_waits_for_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """So those that hold up their own requests give way first, when there is no more room."""
    waits: list[bool] = []

    class Recorded(Connection):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "waits_for_us":
                waits.append(bool(value))

    monkeypatch.setattr(accepting, "Connection", Recorded)

    async def run() -> None:
        async with serving(limits=Limits()) as server:
            _, writer = await connect(server)
            writer.write(b"GET / HT")
            with contextlib.suppress(TimeoutError):
                await until(lambda: waits == [False, True, False])
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())
    assert waits == [False, True, False], "made, its first byte has come, it is read"


def test_memory_is_given_back_by_the_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trimmer gets the number of connections, also when they have gone."""
    seen: list[int] = []

    class Recorder:
        def update(self, connections: int) -> None:
            seen.append(connections)

    monkeypatch.setattr(accepting, "MemoryTrimmer", Recorder)
    monkeypatch.setattr(accepting, "SWEEP_SECONDS", 0.01)

    async def run() -> None:
        async with serving(limits=QUICK._replace(head=20)) as server:
            streams = [await connect(server) for _ in range(5)]
            await until(lambda: seen[-1:] == [5])
            for _, writer in streams:
                writer.transport.abort()
            await until(lambda: seen[-1:] == [0])

    asyncio.run(run())
