"""Real sockets, for what a fake transport cannot show: hangs, resets, cut and endless bodies, TLS."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
import sys
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter import log
from exporter.cloud.client import Client
from exporter.cloud.http.network import read_network
from exporter.cloud.http.pool import Connections
from exporter.cloud.shared_limits import SharedLimits
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery, Page
from tests.cloud.harness import ClientHarness, Events, client_of, run, target

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()


GOOD = b'{"count":1,"data":[{"job_id":"a"}]}'
GOOD_ANSWER = head(f"Content-Length: {len(GOOD)}") + GOOD


class Outcome:
    def __init__(self) -> None:
        self.events = Events()
        self.seconds = 0.0
        self.connections = 0
        self.received: list[bytes] = []
        self.page: Page | None = None
        self.error: ApiError | None = None


def poll(
    behave: Behaviour,
    *,
    seconds: float = 0.4,
    scheme: str = "http",
    tls: ssl.SSLContext | None = None,
    calls: int = 1,
    at_once: int = 1,
    events: Events | None = None,
    before: Callable[[Client], Awaitable[None]] | None = None,
) -> Outcome:
    """Serve with ``behave`` on a loopback port, list jobs there, and tell what happened."""
    outcome = Outcome()
    outcome.events = events or outcome.events
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outcome.connections += 1
        writers.append(writer)
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                outcome.received.append(request)
                await behave(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        client: Client = client_of(
            target(endpoint=f"{scheme}://127.0.0.1:{port}"),
            events=outcome.events,
            shared=SharedLimits(claims=None),
            environ={},
            jitter=lambda: 0.0,
        )
        started = time.monotonic()
        try:
            if before is not None:
                await before(client)
            for _ in range(calls):
                deadline = time.monotonic() + seconds
                pages = (client.list_jobs(JobsQuery(), deadline=deadline) for _ in range(at_once))
                outcome.page = (await asyncio.gather(*pages))[-1]
        except ApiError as error:
            outcome.error = error
        outcome.seconds = time.monotonic() - started
        await client.aclose()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    run(scenario())
    return outcome


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def _once_then_good(first: Behaviour) -> Behaviour:
    seen = False

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        if seen:
            writer.write(GOOD_ANSWER)
            await writer.drain()
        else:
            seen = True
            await first(reader, writer)

    return behave


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionResetError


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    raise ConnectionResetError


async def _cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(head("Content-Length: 1000") + GOOD)
    await writer.drain()
    await _close(reader, writer)


async def _no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP ready\r\n\r\n")
    await writer.drain()
    await _close(reader, writer)


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(head("Content-Length: 1000000"))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


def test_a_hang_ends_at_the_deadline() -> None:
    """A server that never answers costs the poll's time and no more."""
    outcome = poll(_hang)
    assert outcome.error is not None
    assert str(outcome.error.kind) == "timeout"
    assert outcome.seconds < 1.5
    assert outcome.events.requests == [("list_jobs", "none")]
    assert outcome.events.errors == [("list_jobs", "timeout", None)]


def test_a_slow_drip_ends_at_the_deadline() -> None:
    """A body that arrives a byte at a time never lets a read time out; the deadline ends it all the same."""
    outcome = poll(_drip)
    assert outcome.error is not None
    assert str(outcome.error.kind) == "timeout"
    assert outcome.seconds < 1.5
    assert outcome.events.requests == [("list_jobs", "200")]


@pytest.mark.parametrize(
    "fault", [_reset, _close, _cut, _no_http], ids=["reset", "close", "cut_body", "no_http"]
)
def test_broken_connections_are_retried(fault: Behaviour) -> None:
    """Each way to break a connection is a connection fault, and the next attempt succeeds."""
    outcome = poll(_once_then_good(fault), seconds=10.0)
    assert outcome.error is None
    assert outcome.page is not None
    assert [record.job_id for record in outcome.page.records] == ["a"]
    assert [kind for _, kind, _ in outcome.events.errors] == ["connect"]
    assert outcome.connections == 2


def test_nobody_listens() -> None:
    """A refused connection says what to check."""
    outcome = Outcome()

    async def scenario() -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port
            config = target(endpoint=f"http://127.0.0.1:{held.getsockname()[1]}")
            client = client_of(
                config,
                events=outcome.events,
                shared=SharedLimits(claims=None),
                environ={},
                jitter=lambda: 0.0,
            )
            with pytest.raises(ApiError, match="cannot connect; check endpoint, firewall and proxy"):
                await client.list_jobs(JobsQuery(), deadline=time.monotonic() + 5.0)
            await client.aclose()

    run(scenario())
    assert outcome.events.errors == [("list_jobs", "connect", None)] * 5


def _bomb() -> bytes:
    """A quarter of a gigabyte of nothing, in one megabyte."""
    squeeze = zlib.compressobj(1, wbits=31)
    nothing = bytes(1 << 20)
    return b"".join(squeeze.compress(nothing) for _ in range(256)) + squeeze.flush()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["socket", "one_chunk"])
def test_a_gzip_bomb_does_not_fill_the_memory(way: str) -> None:
    """It is refused after 4 MiB without ever being held, however large the pieces it arrives in."""
    bomb = _bomb()
    events = Events()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb)
        await writer.drain()

    def over_a_socket() -> ApiError | None:
        return poll(behave, seconds=30.0, events=events).error

    def in_one_chunk() -> ApiError | None:
        answer = httpx.Response(200, stream=httpx.ByteStream(bomb), headers={"Content-Encoding": "gzip"})
        harness = ClientHarness(lambda request: answer)
        with pytest.raises(ApiError) as caught:
            run(harness.list_jobs())
        events.requests = harness.events.requests
        return caught.value

    tracemalloc.start()
    try:
        error = over_a_socket() if way == "socket" else in_one_chunk()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error is not None
    assert str(error.kind) == "too_large"
    assert events.requests == [("list_jobs", "200")]
    assert peak < 16 << 20


def test_an_endless_body_is_cut_off() -> None:
    """A body without a length is read to 4 MiB and no further."""
    sent = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head("Transfer-Encoding: chunked"))
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        while True:
            writer.write(piece)
            await writer.drain()
            sent += 1

    outcome = poll(behave, seconds=30.0)
    assert outcome.error is not None
    assert str(outcome.error.kind) == "too_large"
    assert sent < 20


def test_a_gzip_answer_is_read() -> None:
    """Compression is asked for and understood."""
    small = gzip.compress(GOOD)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("Content-Encoding: gzip", f"Content-Length: {len(small)}") + small)
        await writer.drain()

    outcome = poll(behave, seconds=5.0)
    assert outcome.page is not None
    assert b"accept-encoding: gzip\r\n" in outcome.received[0].lower()


def test_an_untrusted_certificate_is_refused_once() -> None:
    """TLS is verified; what is not trusted now will not be trusted in a second."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "untrusted.pem")
    outcome = poll(_hang, scheme="https", tls=context, seconds=5.0)
    assert outcome.error is not None
    assert str(outcome.error.kind) == "tls"
    assert "self-signed certificate" in outcome.error.message
    assert outcome.events.errors == [("list_jobs", "tls", None)]
    assert outcome.received == []


def test_plain_http_where_tls_was_meant() -> None:
    """A port that does not speak TLS is a TLS fault that says so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    events = Events()

    async def scenario() -> ApiError:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        config = target(endpoint=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        client = client_of(
            config, events=events, shared=SharedLimits(claims=None), environ={}, jitter=lambda: 0.0
        )
        with pytest.raises(ApiError) as caught:
            await client.list_jobs(JobsQuery(), deadline=time.monotonic() + 5.0)
        await client.aclose()
        server.close()
        return caught.value

    error = run(scenario())
    assert str(error.kind) == "tls"
    assert "check that endpoint and proxy speak HTTPS" in error.message


def test_a_connection_is_kept_for_the_next_poll() -> None:
    """Two polls use one connection."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD_ANSWER)
        await writer.drain()

    outcome = poll(behave, seconds=5.0, calls=2)
    assert (outcome.connections, len(outcome.received)) == (1, 2)


def test_the_connections_of_concurrent_requests_are_kept() -> None:
    """However often four calls are made at once, no more connections are opened than at the first time."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.005)  # so that the others come meanwhile
        writer.write(GOOD_ANSWER)
        await writer.drain()

    outcome = poll(behave, seconds=5.0, calls=5, at_once=4)
    assert outcome.connections == 2
    assert len(outcome.received) == 20


def test_certificates_are_read_once_for_all_connections(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A second request under way does not hold up the scrapes while it reads hundreds of certificates."""
    certificates = tmp_path / "ca.pem"
    certificates.write_text((Path(__file__).parent / "untrusted.pem").read_text())
    read: list[object] = []
    create = ssl.create_default_context

    def counted(**sources: Any) -> ssl.SSLContext:
        read.append(sources)
        return create(**sources)

    async def scenario() -> None:
        url = httpx.URL("https://127.0.0.1:9")
        network = read_network({"SSL_CERT_FILE": str(certificates)}, (), log.Redactor())
        connections = Connections(network, transport=None)
        async with connections, connections.client(url) as first, connections.client(url) as second:
            assert first is not second

    monkeypatch.setattr(ssl, "create_default_context", counted)
    run(scenario())
    assert len(read) == 1


class Searches:
    """Stands before Python's finders of modules and notes what is looked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, name: str, *_: object) -> None:
        self.names.append(name)


def test_requests_do_not_search_for_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first request no other looks for modules on disk, not even for those that are missing."""
    searches = Searches()
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)
    monkeypatch.setattr(sys, "meta_path", [searches, *sys.meta_path])
    at_each: list[int] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_each.append(len(searches.names))
        writer.write(GOOD_ANSWER)
        await writer.drain()

    poll(behave, seconds=5.0, calls=4)
    assert at_each[1] == at_each[3]


def test_netrc_proxies_and_cookies_leave_loopback_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A .netrc entry never replaces the signature, a proxy is not used for loopback, no cookie comes back."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login intruder password intruder\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(f"Content-Length: {len(GOOD)}", "Set-Cookie: track=me") + GOOD)
        await writer.drain()

    outcome = poll(behave, seconds=5.0, calls=2)
    assert len(outcome.received) == 2
    for request in outcome.received:
        assert b"authorization: sdk-hmac-sha256 access=" in request.lower()
        assert b"cookie" not in request.lower()


@pytest.mark.slow
def test_cancelled_requests_leave_no_connection_busy() -> None:
    """The pool of httpcore forgets some of them, and once it is full of them every request waits in vain."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)
        writer.write(GOOD_ANSWER)
        await writer.drain()

    async def cancel_many(client: Client) -> None:
        for turns in range(200):
            soon = time.monotonic() + 4.0
            both = [asyncio.create_task(client.list_jobs(JobsQuery(), deadline=soon)) for _ in range(2)]
            for _ in range(turns % 50):
                await asyncio.sleep(0)
            both[0].cancel()
            assert isinstance((await asyncio.gather(*both, return_exceptions=True))[1], Page)

    assert poll(answer, before=cancel_many, seconds=4.0).page is not None
