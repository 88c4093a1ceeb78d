"""The real server on loopback: addresses, connections, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.errors import ExporterError
from exporter.web.server import Server

Connect = Callable[[Server], Awaitable[socket.socket]]

BODY = b"x" * 20_000_000


async def small(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\n"})


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """More than socket buffers take: who does not read it holds its connection open."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": BODY})


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, *addresses: str) -> AsyncIterator[tuple[Server, asyncio.Event]]:
    server, stop = Server(app, addresses or ("127.0.0.1:0",)), asyncio.Event()
    async with asyncio.timeout(10):
        task = asyncio.create_task(server.serve(stop))
        try:
            yield server, stop
        finally:
            stop.set()
            await task


def place(server: Server) -> tuple[str, int]:
    url = httpx.URL(server.urls[0])
    return url.host, url.port or 0


def ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["", "*", "[::]", "[0:0:0:0:0:0:0:0]"])
def test_everywhere_in_any_spelling(host: str) -> None:
    """IPv6 and IPv4, and not loopback alone."""

    async def run() -> None:
        async with serving(small, f"{host}:0") as (server, _), httpx.AsyncClient() as client:
            everywhere = httpx.URL(server.urls[0])
            assert everywhere.host == "localhost"
            for address in ("127.0.0.1", "127.0.0.2", *(["[::1]"] if ipv6() else [])):
                answer = await client.get(f"http://{address}:{everywhere.port}")
                assert answer.text == "ok\n"

    asyncio.run(run())


def test_every_address_answers() -> None:
    """Several addresses, ports chosen by the system, ``:0`` reachable over IPv4 too."""

    async def run() -> None:
        addresses = [":0", "127.0.0.1:0", "localhost:0", *(["[::1]:0"] if ipv6() else [])]
        async with serving(small, *addresses) as (server, _), httpx.AsyncClient() as client:
            assert len(set(server.urls)) == len(addresses)
            for url in server.urls:
                assert (await client.get(url)).text == "ok\n"
            everywhere = httpx.URL(server.urls[0]).copy_with(host="127.0.0.1")
            assert (await client.get(everywhere)).text == "ok\n"

    asyncio.run(run())


def test_the_server_does_not_introduce_itself() -> None:
    """No Server header; a connection is kept for the next scrape; HEAD has no body."""

    async def run() -> None:
        async with serving(small) as (server, _):
            reader, writer = await asyncio.open_connection(*place(server))
            writer.write(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\nserver:" not in head.lower()
            assert b"content-length: 3" in head
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(3) == b"ok\n"
            writer.close()

    asyncio.run(run())


def most_waiting() -> int:
    """Connections that the system lets wait for one listening socket."""
    return int(Path("/proc/sys/net/core/somaxconn").read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its limit")
def test_a_thousand_connections_may_wait() -> None:
    """While nothing is accepted, none of them is ignored, so none has to try again a second later."""
    server = Server(small, ["127.0.0.1:0"])
    with contextlib.ExitStack() as waiting:
        for _ in range(min(1000, most_waiting())):
            waiting.enter_context(socket.create_connection(place(server), timeout=0.9))
    server.close()


def taken() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("host", ["127.0.0.1", "", "localhost"], ids=["same", "everywhere", "by-name"])
def test_an_address_in_use_is_one_clear_line(host: str) -> None:
    """Known before anything is served."""
    with taken() as other:
        address = f"{host}:{other.getsockname()[1]}"
        with pytest.raises(ExporterError) as refused:
            Server(small, ["127.0.0.1:0", address])
    assert str(refused.value) == (
        f"--web.listen-address {address}: address already in use; stop the program that uses it, "
        "choose another port, or give it only once"
    )


def test_two_exporters_never_share_a_port() -> None:
    """Not even while neither serves yet."""
    first = Server(small, ["127.0.0.1:0"])
    with pytest.raises(ExporterError, match="already in use"):
        Server(small, [f"127.0.0.1:{place(first)[1]}"])
    first.close()
    Server(small, [f"127.0.0.1:{place(first)[1]}"]).close()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "permission denied; choose a port from 1024 up"),
        (
            errno.EADDRNOTAVAIL,
            "cannot assign requested address; this machine has no such address; use :PORT for all of them",
        ),
        (
            errno.EMFILE,
            "too many open files: raise the limit of this process (ulimit -n, LimitNOFILE=)",
        ),
    ],
    ids=["denied", "elsewhere", "other"],
)
def test_refusals_of_the_system_are_one_clear_line(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may do what others may not, so the system's answer is made up here."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ExporterError) as refused:
        Server(small, ["127.0.0.1:80"])
    assert str(refused.value) == f"--web.listen-address 127.0.0.1:80: {message}"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10047",
        "localhost",
        ":",
        ":65536",
        ":-1",
        "http://localhost:1",
        "::1:80",
        "[::1]",
        "[x y]:1",
        "a b:1",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """With examples of what is one."""
    with pytest.raises(ExporterError) as refused:
        Server(small, [address])
    assert str(refused.value) == (
        f"--web.listen-address {address!r}: must be HOST:PORT, such as :10047, 127.0.0.1:10047 or [::1]:10047"
    )


def test_a_host_that_cannot_be_resolved_is_one_clear_line() -> None:
    """An empty label fails before any name server is asked."""
    with pytest.raises(ExporterError) as refused:
        Server(small, ["a..b:1"])
    assert str(refused.value) == (
        "--web.listen-address a..b:1: cannot resolve the host; use an address of this machine, "
        "or :PORT for all of them"
    )


async def waiting_reader(server: Server) -> socket.socket:
    """A client whose whole request is on its way, and who then keeps the connection."""
    return await _send(server, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")


async def idle(server: Server) -> socket.socket:
    """A client that was answered and keeps the connection."""
    client = await waiting_reader(server)
    assert await asyncio.get_running_loop().sock_recv(client, 1000)
    return client


async def half_a_request(server: Server) -> socket.socket:
    return await _send(server, b"GET / HT")


async def _send(server: Server, request: bytes) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, place(server))
    await loop.sock_sendall(client, request)
    return client


@pytest.mark.parametrize(
    ("app", "connect"),
    [
        pytest.param(small, idle, id="idle-keep-alive"),
        pytest.param(small, half_a_request, id="half-a-request"),
        pytest.param(large, idle, id="reads-nothing"),
        pytest.param(endless, waiting_reader, id="no-answer-yet"),
    ],
)
def test_shutdown_takes_less_than_a_second(app: ASGIApp, connect: Connect) -> None:
    """Whatever clients hold open; and the port is free afterwards."""

    async def run() -> float:
        async with serving(app) as (server, stop):
            client = await connect(server)
            began = time.monotonic()
            stop.set()
        took = time.monotonic() - began
        client.close()
        Server(small, [server.urls[0].removeprefix("http://")]).close()
        return took

    assert asyncio.run(run()) < 2.0  # a second, and one for a machine busy with other tests


def test_no_connection_outlives_the_server() -> None:
    """An answer that nobody reads is cut off, not sent on in the background."""

    async def run() -> int:
        async with serving(large) as (server, _):
            client = await idle(server)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := await asyncio.get_running_loop().sock_recv(client, 1_000_000):
                received += len(chunk)
        client.close()
        return received

    assert asyncio.run(run()) < len(BODY) / 2


def test_cancelling_leaves_nothing_open() -> None:
    """A cancelled task group ends the server as well, at once."""

    async def run() -> None:
        server = Server(small, ["127.0.0.1:0"])
        task = asyncio.create_task(server.serve(asyncio.Event()))
        async with httpx.AsyncClient() as client:
            await client.get(server.urls[0])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        Server(small, [server.urls[0].removeprefix("http://")]).close()

    asyncio.run(run())


@pytest.mark.slow
def test_signals_stay_with_the_program() -> None:
    """No handlers of uvicorn's own are installed."""

    async def run() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        async with serving(small) as (server, _), httpx.AsyncClient() as client:
            await client.get(server.urls[0])
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    asyncio.run(run())
