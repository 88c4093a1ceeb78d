"""Clients that are slow, silent, half gone, greedy or hostile: none of them stops another client's scrape.

Every test drives the real server over loopback; the troublemakers come from 127.0.0.2, the scrape from
127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import struct
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import h11
import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.web import accepting as accepting_module
from exporter.web import protocol as protocol_module
from exporter.web import server as server_module
from exporter.web.access import tls as tls_module
from exporter.web.access.reloader import WebConfigReloader
from exporter.web.access.tls import HELLO_BYTES, TlsProtocol
from exporter.web.connections import Connection, Limits, OpenConnections
from exporter.web.handshakes import HandshakeQueue
from exporter.web.protocol import HttpProtocol
from exporter.web.responses import SHARED_BODY
from exporter.web.server import Server
from testkit.certificates import Authority, Pair
from tests.web.access.test_tls import config
from tests.web.test_server import BODY, large, place, small

pytestmark = pytest.mark.program

QUICK = Limits(connections=40, handshake=0.4, head=0.4, answer=0.6, keep_alive=1)
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Trouble = Callable[[Stream], Coroutine[Any, Any, None]]
THREE_MEGABYTES = bytes(3_000_000)
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp = small, *, limits: Limits = QUICK, web_config: WebConfigReloader | None = None
) -> AsyncIterator[Server]:
    server, stop = Server(app, ["127.0.0.1:0"], web_config=web_config, limits=limits), asyncio.Event()
    async with asyncio.timeout(30):
        task = asyncio.create_task(server.serve(stop))
        try:
            yield server
        finally:
            stop.set()
            await task


async def connect(server: Server, address: str = "127.0.0.2") -> Stream:
    """A connection, if not said otherwise from another address than the scrape's, with a small window."""
    return await asyncio.open_connection(*place(server), local_addr=(address, 0), limit=4096)


def transport(stream: Stream) -> asyncio.Transport:
    """Which can also be told not to read."""
    return cast("asyncio.Transport", stream[1].transport)


async def scrape(server: Server, client: httpx.AsyncClient) -> float:
    """Seconds that one answer took."""
    began = time.monotonic()
    assert (await client.get(server.urls[0])).text == "ok\n"
    return time.monotonic() - began


async def ended(stream: Stream, within: float = 8.0) -> bytes:
    """What came until the server closed the connection; it must, in time."""
    reader, writer = stream
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(within):
            while chunk := await reader.read(65536):
                received += chunk
    writer.close()
    return bytes(received)


# --- one at a time: each is cut, and only after its time ------------------------------------------------


async def silent(stream: Stream) -> None:
    """Connects and says nothing."""


async def half_a_head(stream: Stream) -> None:
    stream[1].write(b"GET / HTTP/1.1\r\nhost:")


async def dripping(stream: Stream) -> None:
    """A byte now and then, so that it never seems dead."""
    stream[1].write(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(60):
            await asyncio.sleep(0.05)
            stream[1].write(b"x")
            await stream[1].drain()


async def dripping_again(stream: Stream) -> None:
    """The same on a connection that was answered before."""
    stream[1].write(REQUEST)
    await asyncio.sleep(0.1)
    await dripping(stream)


async def half_a_body(stream: Stream) -> None:
    """Announces a body and sends a part of it."""
    stream[1].write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")


async def endless_body(stream: Stream) -> None:
    """Sends a body that never ends."""
    stream[1].write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(60):
            await asyncio.sleep(0.05)
            stream[1].write(b"1\r\nx\r\n")
            await stream[1].drain()


async def idle(stream: Stream) -> None:
    """Answered once, and then quiet."""
    stream[1].write(REQUEST)


@pytest.mark.parametrize(
    ("trouble", "least", "most"),
    [
        (silent, 0.3, 5.0),
        (half_a_head, 0.3, 5.0),
        (dripping, 0.3, 5.0),
        (dripping_again, 0.3, 5.0),
        (half_a_body, 0.0, 5.0),  # answered and ended: nothing here reads a body
        (endless_body, 0.0, 5.0),
        (idle, 0.9, 5.0),
    ],
)
def test_who_keeps_us_waiting_is_cut_off(trouble: Trouble, least: float, most: float) -> None:
    """In its time, neither sooner nor later; meanwhile others are served."""

    async def run() -> float:
        async with serving() as server, httpx.AsyncClient() as client:
            stream = await connect(server)
            began = time.monotonic()
            troubling = asyncio.create_task(trouble(stream))
            await scrape(server, client)
            await ended(stream)
            took = time.monotonic() - began
            troubling.cancel()
            async with httpx.AsyncClient() as another:  # the first one's connection may be idle for too long
                await scrape(server, another)
            return took

    assert least < asyncio.run(run()) < most


@pytest.mark.slow
def test_who_does_not_read_its_answer_is_cut_off() -> None:
    """A half-open connection, as when a laptop sleeps: its answer is given up, and its memory with it."""

    async def run() -> None:
        async with serving(large) as server:
            stream = await connect(server)
            transport(stream).pause_reading()
            stream[1].write(REQUEST)
            await asyncio.sleep(1.5)
            transport(stream).resume_reading()
            assert len(await ended(stream)) < len(BODY)

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_slow_reader_gets_everything(
    tls: bool, tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """Though it takes longer than who takes nothing may: each pause is short, and so is no piece's."""
    web_config = WebConfigReloader(config(tmp_path, server_pair)) if tls else None

    async def run() -> None:
        limits = QUICK._replace(answer=1.0, head=0.1)
        async with serving(three_megabytes, limits=limits, web_config=web_config) as server:
            stream = await asyncio.open_connection(
                *place(server), limit=1024, ssl=authority.client_context() if tls else None
            )
            stream[1].write(REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            began, got = time.monotonic(), 0
            while chunk := await stream[0].read(65536):
                got += len(chunk)
                if got < 2_000_000:
                    await asyncio.sleep(0.1 if tls else 0.05)
            stream[1].close()
            assert got > len(THREE_MEGABYTES)
            assert time.monotonic() - began > 1.0

    asyncio.run(run())


@pytest.mark.slow
def test_what_the_kernel_sends_on_is_progress() -> None:
    """It holds megabytes, and takes the next piece only when a third of them are gone: that may take longer
    than a client may take nothing.
    """

    async def run() -> None:
        async with serving(twenty_megabytes, limits=QUICK._replace(answer=1.0)) as server:
            loop, sock = asyncio.get_running_loop(), socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(sock, place(server))
            await loop.sock_sendall(sock, REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            began, got = time.monotonic(), 0
            while chunk := await loop.sock_recv(sock, 1024 if time.monotonic() - began < 5 else 65536):
                got += len(chunk)
                if time.monotonic() - began < 5:
                    await asyncio.sleep(0.05)
            sock.close()
            assert got > 20_000_000

    asyncio.run(run())


@pytest.mark.slow
def test_who_takes_too_little_is_cut_off_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something in each second is not enough: there is a least rate on average."""
    monkeypatch.setattr(protocol_module, "SLOWEST", 1 << 40)

    async def run() -> None:
        async with serving(twenty_megabytes, limits=QUICK._replace(answer=1.0)) as server:
            stream = await asyncio.open_connection(*place(server), limit=16384)
            stream[1].write(REQUEST)
            got = 0
            with contextlib.suppress(ConnectionError):
                while chunk := await stream[0].read(16384):
                    got += len(chunk)
                    await asyncio.sleep(0.01)
            stream[1].close()
            assert got < 20_000_000

    asyncio.run(run())


# --- what is sent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"a" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\r\n" * 50_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=[
        *("long-header", "many-headers", "long-path", "no-line-end", "tls-to-http", "blank-lines"),
        *("no-host", "length", "smuggling"),
    ],
)
def test_what_is_no_request_is_refused_and_closed(sent: bytes) -> None:
    """At most 16 KiB of head are read; the answer is 400, or 431 for too many lines, and the end."""

    async def run() -> None:
        async with serving() as server, httpx.AsyncClient() as client:
            stream = await connect(server)
            with contextlib.suppress(ConnectionError):
                stream[1].write(sent)
                await stream[1].drain()
            answer = await ended(stream)
            assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
            assert await scrape(server, client) < 3.0

    asyncio.run(run())


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n", b"\n"], ids=["one", "two", "newline"])
def test_empty_lines_before_a_request_are_ignored(lines: bytes) -> None:
    """Also between two (RFC 9112, 2.2): some clients send one after a body."""

    async def run() -> None:
        async with serving() as server:
            stream = await connect(server)
            for _ in range(2):
                stream[1].write(lines + REQUEST)
                assert (await stream[0].readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
            stream[1].close()

    asyncio.run(run())


UPLOAD = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("end_of_head", [b"\r\n", b"\n"])
@pytest.mark.parametrize("cut", [0, 1, 2, 3, None])
def test_a_body_in_chunks_is_not_parsed(
    monkeypatch: pytest.MonkeyPatch, end_of_head: bytes, cut: int | None
) -> None:
    """One-byte chunks cost what their bytes cost, wherever the network cuts the head's end."""
    parsed = []
    receive_data = h11.Connection.receive_data

    def recorded(connection: h11.Connection, data: bytes) -> None:
        parsed.append(bytes(data))
        receive_data(connection, data)

    monkeypatch.setattr(h11.Connection, "receive_data", recorded)
    head = UPLOAD.replace(b"\r\n", end_of_head)
    sent = head + b"1\r\nx\r\n" * 600

    async def run() -> bytes:
        async with serving() as server:
            stream = await connect(server)
            if cut is not None:
                stream[1].write(sent[: len(head) - cut])
                await asyncio.sleep(0.05)
                stream[1].write(sent[len(head) - cut :])
            else:
                stream[1].write(sent)
            return await ended(stream)

    assert asyncio.run(run()).endswith(b"\r\n\r\nok\n")
    assert b"".join(parsed) == head


@pytest.mark.parametrize(
    "rest",
    [b"zz\r\n", b"1;" + b"e" * 30_000, b"0\r\n" + b"t: x\r\n" * 5000, b"1\r\nx\r\n" * 20_000],
    ids=["malformed", "extension", "trailers", "long"],
)
def test_what_follows_a_head_is_dropped_silently(rest: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The request is answered, its connection ends, and nothing is logged: strangers could fill the log."""
    problems: list[object] = []

    async def run() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        async with serving() as server:
            stream = await connect(server)
            stream[1].write(UPLOAD)
            answer = await stream[0].readuntil(b"ok\n")
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(rest), 5000):
                    stream[1].write(rest[start : start + 5000])
                    await stream[1].drain()
            return answer + await ended(stream)

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200 OK")
    assert not problems
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("sent", [b"BREW", b"CONNECT", b"get", b"PRI", b"OPTIONS", b"DELETE"])
def test_unknown_methods_and_paths_are_answered(sent: bytes) -> None:
    """Like any request: the connection goes on."""

    async def run() -> None:
        async with serving(PlainTextResponse("not found\n", 404)) as server:
            stream = await connect(server)
            for path in (b"/", b"/nowhere", b"/%00%ff", b"//..//.."):
                stream[1].write(sent + b" " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
                assert b"404 Not Found" in await stream[0].readuntil(b"\nnot found\n")
            stream[1].close()

    asyncio.run(run())


def test_requests_without_end_on_one_connection_stop_nobody() -> None:
    """Thousands of pipelined requests whose answers are not read, beside a scrape."""

    async def run() -> None:
        async with serving() as server, httpx.AsyncClient() as client:
            flooding = [await connect(server) for _ in range(5)]
            for _, writer in flooding:
                writer.write(REQUEST * 2000)
            assert max([await scrape(server, client) for _ in range(5)]) < 5.0
            for _, writer in flooding:
                writer.transport.abort()

    asyncio.run(run())


# --- floods -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"], ids=["own-address", "another"])
@pytest.mark.parametrize("trouble", [silent, half_a_head, idle])
def test_a_flood_of_connections_stops_nobody(trouble: Trouble, address: str) -> None:
    """Ten times as many as there is room for: a new scrape is served, and one's open connection survives."""

    async def run() -> None:
        async with serving(limits=QUICK._replace(head=20, keep_alive=20)) as server:
            async with httpx.AsyncClient() as early, httpx.AsyncClient() as late:
                first = await early.get(server.urls[0])
                flood = []
                for _ in range(400):
                    flood.append(await connect(server, address))
                    with contextlib.suppress(ConnectionError):
                        await trouble(flood[-1])
                assert await scrape(server, late) < 5.0
                before = first.extensions["network_stream"].get_extra_info("client_addr")
                again = await early.get(server.urls[0])
                assert again.extensions["network_stream"].get_extra_info("client_addr") == before
            for _, writer in flood:
                writer.transport.abort()

    asyncio.run(run())


@pytest.mark.slow
def test_handshakes_that_never_finish_stop_nobody(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """More of them than there is room for, silent or with half a greeting; each is cut after its time."""
    web_config = WebConfigReloader(config(tmp_path, server_pair))

    async def run() -> None:
        async with (
            serving(web_config=web_config, limits=QUICK._replace(handshake=1.0)) as server,
            httpx.AsyncClient(verify=authority.client_context()) as client,
        ):
            flood = [await connect(server) for _ in range(200)]
            for _, writer in flood[::2]:
                writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            assert await scrape(server, client) < 5.0
            await asyncio.gather(*(ended(stream) for stream in flood))
            assert await scrape(server, client) < 3.0

    asyncio.run(run())


HELLO = b"\x16\x03\x01\x02\x00\x01%b\x03\x03"


@pytest.mark.parametrize(
    "sent",
    [
        HELLO % (131_072).to_bytes(3, "big") + bytes(500),
        HELLO % (HELLO_BYTES + 1).to_bytes(3, "big") + bytes(100),
        b"\x16\x03\x01\x00\x03\x01\x02\x00",
    ],
    ids=["announces-131072", "a-byte-too-many", "header-in-two-records"],
)
@pytest.mark.parametrize("step", [1, 1000], ids=["byte-by-byte", "at-once"])
def test_a_greeting_that_announces_too_much_is_the_end(
    sent: bytes, step: int, tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """At once, not after the time of a handshake: OpenSSL would take as much memory as is announced."""
    web_config = WebConfigReloader(config(tmp_path, server_pair))

    async def run() -> None:
        patient = Limits(handshake=60)
        async with serving(web_config=web_config, limits=patient) as server:
            reader, writer = await connect(server)
            with contextlib.suppress(ConnectionError):
                for begin in range(0, 12, step):
                    writer.write(sent[begin : begin + step])
                    await asyncio.sleep(0.001)
            assert await ended((reader, writer)) == b""
            assert not server.connections

    asyncio.run(run())


def test_a_handshake_takes_so_many_bytes_at_most(
    tmp_path: Path, authority: Authority, server_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted until it is over, whatever the messages say of their length; none after it."""
    web_config = WebConfigReloader(config(tmp_path, server_pair))

    async def refused(most: int) -> bool:
        monkeypatch.setattr(tls_module, "HANDSHAKE_BYTES", most)
        async with serving(web_config=web_config) as server:
            try:
                async with httpx.AsyncClient(verify=authority.client_context()) as client:
                    assert len((await client.get(server.urls[0], headers={"x": "x" * 5000})).content) == 3
            except httpx.ConnectError:
                return True
            return False

    assert [asyncio.run(refused(most)) for most in (100, 5000)] == [True, False]


@pytest.mark.slow
def test_more_handshakes_than_there_is_room_for_wait(
    tmp_path: Path, authority: Authority, server_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred that stop half-way few are more than a socket; and who comes then is served."""
    monkeypatch.setattr(HandshakeQueue.__init__, "__defaults__", (10,))
    made: list[object] = []

    class Counted(TlsProtocol):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            made.append(self)

    monkeypatch.setattr(accepting_module, "TlsProtocol", Counted)
    web_config = WebConfigReloader(config(tmp_path, server_pair))

    async def run() -> None:
        limits = Limits(handshake=60)
        async with (
            serving(web_config=web_config, limits=limits) as server,
            httpx.AsyncClient(verify=authority.client_context(), timeout=20) as client,
        ):
            flood = [await connect(server) for _ in range(100)]
            for _, writer in flood:
                writer.write(HELLO % b"\x00\x01\xfc")
            await until(lambda: len(made) >= 10)
            await asyncio.sleep(0.1)
            assert len(made) < 100
            assert await scrape(server, client) < 10.0
            for _, writer in flood:
                writer.transport.abort()

    asyncio.run(run())


def test_slow_clients_after_the_handshake_are_cut_off_too(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """TLS or not, a request's head has its time."""
    web_config = WebConfigReloader(config(tmp_path, server_pair))

    async def run() -> float:
        async with serving(web_config=web_config) as server:
            stream = await asyncio.open_connection(*place(server), ssl=authority.client_context())
            began = time.monotonic()
            stream[1].write(b"GET / HT")
            await ended(stream)
            return time.monotonic() - began

    assert 0.3 < asyncio.run(run()) < 5.0


def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    """Whoever hangs up early, in whatever state, is forgotten."""

    async def run() -> int:
        server, stop = Server(small, ["127.0.0.1:0"], limits=QUICK), asyncio.Event()
        serving = asyncio.create_task(server.serve(stop))
        for n in range(100):
            _, writer = await connect(server)
            writer.write(REQUEST[: n % (len(REQUEST) + 1)])
            writer.transport.abort()
        deadline = time.monotonic() + 5
        while server.connections and time.monotonic() < deadline:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.01)
        stop.set()
        await serving
        return server.connections

    assert asyncio.run(run()) == 0


# --- what ended costs nothing ----------------------------------------------------------------------------


Recorded = weakref.WeakSet[HttpProtocol]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Every connection that is still in memory."""
    alive = Recorded()

    class Recording(HttpProtocol):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            alive.add(self)

    monkeypatch.setattr(server_module, "HttpProtocol", Recording)
    return alive


async def answered(stream: Stream) -> None:
    """The whole answer is taken."""
    stream[1].write(REQUEST)
    await stream[0].readuntil(b"ok\n")


async def not_reading(stream: Stream) -> None:
    """The answer is under way."""
    transport(stream).pause_reading()
    stream[1].write(REQUEST)
    await asyncio.sleep(0.1)


async def without_answer(stream: Stream) -> None:
    """The application is still busy with it."""
    stream[1].write(REQUEST.replace(b"/", b"/wait", 1))


async def pipelined(stream: Stream) -> None:
    """Many requests are waiting for their turn."""
    transport(stream).pause_reading()
    stream[1].write(REQUEST.replace(b"/", b"/large", 1) * 100)
    await asyncio.sleep(0.1)


async def refused(stream: Stream) -> None:
    """No HTTP: answered with 400."""
    stream[1].write(b"\x00\r\n\r\n")
    await stream[0].read(10)


async def sites(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/wait":
        await asyncio.Event().wait()
    await (large if scope["path"] == "/large" else small)(scope, receive, send)


def reset(stream: Stream) -> None:
    sock = stream[1].get_extra_info("socket")
    if sock is not None:  # the server was first
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream[1].transport.abort()


def close(stream: Stream) -> None:
    sock = stream[1].get_extra_info("socket")
    if sock is not None:
        sock.shutdown(socket.SHUT_WR)
    asyncio.get_running_loop().call_later(0.05, lambda: stream[1].transport.abort())


@pytest.mark.parametrize("end", [reset, close])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "state", [silent, half_a_head, half_a_body, answered, not_reading, without_answer, pipelined, refused]
)
def test_a_connection_that_ended_is_not_in_memory(
    state: Trouble,
    tls: bool,
    end: Callable[[Stream], None],
    recorded: Recorded,
    tmp_path: Path,
    authority: Authority,
    server_pair: Pair,
) -> None:
    """No timer, no task and no cycle keeps it, whatever was under way and however it ended."""
    web_config = WebConfigReloader(config(tmp_path, server_pair)) if tls else None
    patient = Limits(head=300, answer=300, handshake=60)

    async def run() -> None:
        async with serving(sites, limits=patient, web_config=web_config) as server:

            async def come_and_go() -> None:
                stream = await asyncio.open_connection(
                    *place(server), ssl=authority.client_context() if tls else None
                )
                await state(stream)
                await asyncio.sleep(0.01)
                end(stream)

            await asyncio.gather(*(come_and_go() for _ in range(5)))
            await until(lambda: not server.connections and not recorded)
            await asyncio.sleep(0.1)  # for the clients' own ends

    gc.freeze()  # what was there before need not be walked through
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()


async def until(true: Callable[[], bool]) -> None:
    """Wait for what no event announces."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.01)


# --- what is waiting to be sent --------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("state", [not_reading, pipelined])
def test_who_does_not_read_costs_little_memory(
    state: Trouble, tls: bool, recorded: Recorded, tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """Of 20 MB that nobody reads, a connection holds a few pieces; the rest is one object for all."""
    web_config = WebConfigReloader(config(tmp_path, server_pair)) if tls else None

    async def run() -> None:
        async with serving(large, limits=Limits(), web_config=web_config) as server:
            context = authority.client_context() if tls else None
            streams = [await asyncio.open_connection(*place(server), ssl=context) for _ in range(10)]
            for stream in streams:
                await state(stream)
            assert len(recorded) == 10
            await until(lambda: all(connection.unsent() for connection in recorded))
            assert all(connection.unsent() < 100_000 for connection in recorded)
            for stream in streams:
                stream[1].transport.abort()

    asyncio.run(run())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_who_takes_nothing_is_cut_off_in_seconds(
    tls: bool, tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """However much time those have who take something now and then."""
    web_config = WebConfigReloader(config(tmp_path, server_pair)) if tls else None

    async def run() -> None:
        limits = Limits(head=60, answer=0.3)
        async with serving(large, limits=limits, web_config=web_config) as server:
            stream = await asyncio.open_connection(
                *place(server), ssl=authority.client_context() if tls else None
            )
            await not_reading(stream)
            await until(lambda: not server.connections)
            stream[1].transport.abort()

    asyncio.run(run())


def test_a_client_that_half_closes_gets_its_whole_answer() -> None:
    """As ``nc -N`` does: it says nothing more, and reads."""

    async def run() -> None:
        async with serving(large, limits=Limits()) as server:
            reader, writer = await asyncio.open_connection(*place(server))
            writer.write(REQUEST)
            writer.write_eof()
            assert len(await ended((reader, writer))) > len(BODY)

    asyncio.run(run())


async def twenty_megabytes(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]})
    await send({"type": "http.response.body", "body": bytes(20_000_000)})


async def three_megabytes(scope: Scope, receive: Receive, send: Send) -> None:
    length = str(len(THREE_MEGABYTES)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers, SHARED_BODY: True})
    await send({"type": "http.response.body", "body": THREE_MEGABYTES})


@pytest.mark.parametrize("trouble", [not_reading, pipelined, silent, half_a_head])
def test_a_scraper_is_served_beside_hostile_clients(trouble: Trouble) -> None:
    """Every time, whole, and on the connection that it keeps; they come again as soon as they are cut off."""

    async def run() -> set[tuple[int, int, object]]:
        limits = QUICK._replace(requests=4, connections=20, head=20, answer=20, keep_alive=20)
        async with serving(three_megabytes, limits=limits) as server, httpx.AsyncClient(timeout=20) as client:

            async def hostile() -> None:
                while True:
                    stream = await connect(server, "127.0.0.1")
                    try:
                        await trouble(stream)
                        await asyncio.sleep(0.2)
                    except ConnectionError:
                        pass
                    finally:
                        stream[1].transport.abort()

            async def scraped() -> tuple[int, int, object]:
                answer = await client.get(server.urls[0])
                place = answer.extensions["network_stream"].get_extra_info("client_addr")
                return answer.status_code, len(answer.content), place

            first = await scraped()
            crowd = [asyncio.create_task(hostile()) for _ in range(40)]
            scrapes = {first}
            for _ in range(10):
                await asyncio.sleep(0.05)
                scrapes.add(await scraped())
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
            return scrapes

    scrapes = asyncio.run(run())
    assert {scrape[:2] for scrape in scrapes} == {(200, 3_000_000)}
    assert len(scrapes) == 1


# --- who is closed -----------------------------------------------------------------------------------------


def connections(*clients: str, limit: int) -> tuple[OpenConnections, list[Connection], list[int]]:
    """These clients' connections, in order of time, and who was closed."""
    open_connections, closed = OpenConnections(limit), []
    found = []
    for n, client in enumerate(clients):
        connection = Connection(client)
        connection.close = lambda n=n: closed.append(n)  # type: ignore[misc]  # mypy cannot tell a default's type
        open_connections.add(connection)
        found.append(connection)
    return open_connections, found, closed


def test_the_client_with_the_most_connections_gives_way() -> None:
    """Its longest silent one, however old the others are."""
    open_connections, _, closed = connections("prometheus", "mallory", "mallory", "mallory", limit=4)
    open_connections.add(Connection("mallory"))
    assert closed == [1]
    open_connections.add(Connection("other"))
    assert closed == [1, 2]
    assert len(open_connections) == 4


def test_of_those_answered_the_newest_gives_way() -> None:
    """A scraper's old connection stays, also when all others come from its own address."""
    open_connections, found, closed = connections("a", "a", "a", "a", limit=4)
    for connection in found:
        open_connections.mark_answered(connection)
    open_connections.add(Connection("a"))
    open_connections.add(Connection("a"))
    assert closed == [3, 2]


def test_newcomers_and_those_answered_have_half_each() -> None:
    """Neither who holds connections nor who floods keeps the other kind out."""
    open_connections, found, closed = connections(*"aaaa", limit=4)
    for connection in found[:2]:
        open_connections.mark_answered(connection)
    for _ in range(3):
        open_connections.add(Connection("a"))
    assert closed == [2, 3]
    assert [connection.answered for connection in found] == [True, True, False, False]


def test_from_many_addresses_the_longest_silent_gives_way() -> None:
    """One connection each: who was answered before stays, and who comes is heard."""
    open_connections, found, closed = connections(*"abcd", limit=4)
    open_connections.mark_answered(found[0])
    for client in "efg":
        open_connections.add(Connection(client))
    assert closed == [1, 2, 3]


def test_who_waits_for_us_stays() -> None:
    """Longer than those that we wait for, and those that came first longest."""
    open_connections, found, closed = connections(*"aaaa", limit=4)
    for connection in found[:3]:
        connection.waits_for_us = True
    open_connections.add(Connection("a"))
    open_connections.add(Connection("a"))
    assert closed == [3]
    open_connections.make_room()
    open_connections.make_room()
    assert closed == [3, 2]


def test_who_is_gone_is_not_counted() -> None:
    """Removing twice, or answering who is gone, does no harm."""
    open_connections, found, closed = connections("a", "b", limit=2)
    open_connections.remove(found[0])
    open_connections.remove(found[0])
    open_connections.mark_answered(found[0])
    assert (len(open_connections), closed) == (1, [])
    open_connections.close_all()
    assert (len(open_connections), closed) == (0, [1])
