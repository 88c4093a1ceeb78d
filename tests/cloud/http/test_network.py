"""Real TLS servers and proxies on loopback: names, addresses and certificates, also as they change."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import time
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from exporter.cloud.client import Client
from exporter.cloud.http.event_loop import EventLoop
from exporter.cloud.shared_limits import SharedLimits
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery
from testkit.certificates import Authority, Pair
from tests.cloud.harness import Events, client_of, target
from tests.conftest import Tool

T = TypeVar("T")
NAME = "metastudio.example"
GOOD = b'{"count":0}'


class Names:
    """A name server: a table that can change, and what was asked."""

    def __init__(self, **table: str) -> None:
        self.table = {NAME: "127.0.0.1", f"{NAME}.": "127.0.0.1", **table}
        self.asked: list[str] = []

    def __call__(self, host: bytes | str, port: int, **options: int) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name not in self.table and name != "localhost":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        address = self.table.get(name, "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


class StatusServer:
    """Answers every request with one status; the port is that of ``beside`` on another address."""

    def __init__(self, pair: Pair, host: str = "127.0.0.1", beside: StatusServer | None = None) -> None:
        self.status = 200
        self.body = GOOD
        self.received: list[str] = []
        self.greeted: list[str | None] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(pair.cert, pair.key)
        self._tls.sni_callback = lambda _, name, __: self.greeted.append(name)
        self._host, self._beside = host, beside
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> StatusServer:
        port = self._beside.port if self._beside else 0
        self._server = await asyncio.start_server(self._serve, self._host, port, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.received.append(head.decode())
                status = f"HTTP/1.1 {self.status} x\r\nContent-Length: {len(self.body)}\r\n\r\n"
                writer.write(status.encode() + self.body)
                await writer.drain()


SILENT = "never answers"


class ProxyServer(StatusServer):
    """An HTTP proxy: refuses with ``refusal``, or connects to ``port`` on this machine whatever is asked."""

    def __init__(self, refusal: str = "", port: int = 0) -> None:
        self.received = []
        self._refusal, self._to = refusal, port
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> ProxyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.received.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self._refusal == SILENT:
                await asyncio.sleep(3600)
            if self._refusal:
                writer.write(f"HTTP/1.1 {self._refusal}\r\nContent-Length: 0\r\n\r\n".encode())
                writer.close()
                return
            there, here = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers.append(here)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(_pass_on(reader, here), _pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture(scope="session")
def authority(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tool("openssl"), tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    return authority.issue("server", f"DNS:{NAME},DNS:localhost,IP:127.0.0.1")


def run(names: Names, main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=lambda: EventLoop(names)) as runner:
        return runner.run(main)


@contextlib.contextmanager
def client(endpoint: str, environ: Mapping[str, str]) -> Iterator[Client]:
    yield client_of(
        target(endpoint=endpoint),
        events=Events(),
        shared=SharedLimits(claims=None),
        environ=environ,
        jitter=lambda: 0.0,
    )


async def list_jobs(client: Client, seconds: float = 10.0) -> None:
    await client.list_jobs(JobsQuery(), deadline=time.monotonic() + seconds)


async def once(endpoint: str, environ: Mapping[str, str], *, seconds: float | None = None) -> None:
    with client(endpoint, environ) as asking:
        try:
            if seconds is None:
                await list_jobs(asking)
            else:
                await asking.list_jobs(JobsQuery(), deadline=time.monotonic() + seconds)
        finally:
            await asking.aclose()


def test_a_final_dot_is_for_the_name_server(authority: Authority, pair: Pair) -> None:
    """Certificate, greeting and signed Host are for the name without it."""
    names = Names()

    async def scene() -> StatusServer:
        async with StatusServer(pair) as server:
            environ = {"SSL_CERT_FILE": str(authority.pair.cert)}
            await once(f"https://{NAME}.:{server.port}", environ)
            return server

    server = run(names, scene())
    assert names.asked == [f"{NAME}."]
    assert server.greeted == [NAME]
    assert f"\r\nHost: {NAME}:{server.port}\r\n".lower() in server.received[0].lower()


@pytest.mark.parametrize("dot", ["", "."])
def test_a_request_through_a_proxy(dot: str, authority: Authority, pair: Pair) -> None:
    """The proxy learns the name and the password meant for it, and sees nothing of the request."""
    names = Names()

    async def scene() -> tuple[StatusServer, ProxyServer]:
        async with StatusServer(pair) as server, ProxyServer(port=server.port) as proxy:
            environ = {
                "SSL_CERT_FILE": str(authority.pair.cert),
                "HTTPS_PROXY": f"http://user:p%40ss@127.0.0.1:{proxy.port}",
            }
            await once(f"https://{NAME}{dot}:{server.port}", environ)
            return server, proxy

    server, proxy = run(names, scene())
    assert (names.asked, server.greeted, len(server.received)) == ([], [NAME], 1)
    (head,) = proxy.received
    assert head.startswith(f"CONNECT {NAME}:{server.port} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in head
    assert "SDK-HMAC-SHA256" not in head


@pytest.mark.parametrize(
    ("refusal", "userinfo", "message", "attempts"),
    [
        ("407 Proxy Authentication Required", "", "wants a user name and password: http://USER:PASS", 1),
        ("407 x", "user:SECRET@", "refuses the user name and password in https_proxy", 1),
        ("403 Forbidden", "", f"does not connect to {NAME} (HTTP 403); ask who runs it, or use NO_PROXY", 1),
        ("200 Connection established", "", f"closed the connection to {NAME}", 5),
        ("502 Bad Gateway", "", f"does not connect to {NAME} (HTTP 502); ask who runs it, or use NO_", 5),
    ],
    ids=["wants_password", "refuses_password", "forbids", "closes", "cannot"],
)
def test_a_refusal_of_the_proxy_is_the_proxys(
    refusal: str, userinfo: str, message: str, attempts: int
) -> None:
    """It is named, with its variable, never with its password; what another attempt cannot change is left."""

    async def scene() -> tuple[str, int, int]:
        async with ProxyServer(refusal) as proxy:
            environ = {"https_proxy": f"http://{userinfo}127.0.0.1:{proxy.port}"}
            with pytest.raises(ApiError) as caught:
                await once(f"https://{NAME}", environ)
            return str(caught.value), proxy.port, len(proxy.received)

    text, port, asked = run(Names(), scene())
    assert f"the proxy 127.0.0.1:{port} (https_proxy) {message}" in text
    assert "SECRET" not in text
    assert asked == attempts


def test_a_proxy_that_never_answers_is_named() -> None:
    """It took the connection, and the poll's time is over before httpx gives up."""

    async def scene() -> tuple[str, int]:
        async with ProxyServer(SILENT) as proxy:
            with pytest.raises(ApiError) as caught:
                await once(f"https://{NAME}", {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}, seconds=0.3)
            return str(caught.value), proxy.port

    text, port = run(Names(), scene())
    assert f"no whole answer in the time left (through the proxy 127.0.0.1:{port} (HTTPS_PROXY))" in text


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("http://proxy.example:3128", "cannot resolve the name of the proxy proxy.example:3128 (ALL_PROXY)"),
        ("http://user:SECRET@127.0.0.1:9", "cannot connect to the proxy 127.0.0.1:9 (ALL_PROXY)"),
    ],
    ids=["unknown_name", "nobody_listens"],
)
def test_a_proxy_that_is_not_there_is_named(proxy: str, message: str) -> None:
    """Not the endpoint, which nobody asked."""
    with pytest.raises(ApiError, match=r"the proxy .* \(ALL_PROXY\)") as caught:
        run(Names(), once(f"https://{NAME}", {"ALL_PROXY": proxy}))
    assert message in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1"])
def test_loopback_by_tls(host: str, authority: Authority, pair: Pair) -> None:
    """No proxy, but the authorities of SSL_CERT_FILE, as for any other endpoint."""

    async def scene() -> int:
        async with StatusServer(pair) as server:
            environ = {"SSL_CERT_FILE": str(authority.pair.cert), "HTTPS_PROXY": "http://127.0.0.1:9"}
            await once(f"https://{host}:{server.port}".replace("127.1", "127.0.0.1"), environ)
            return len(server.received)

    assert run(Names(), scene()) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b""), (404, b""), (200, b"<html>moved</html>")],
    ids=["503", "404", "html"],
)
def test_a_name_that_has_moved_is_found(status: int, body: bytes, authority: Authority, pair: Pair) -> None:
    """After whatever the old address still says on the kept connection, the next poll asks the new one."""
    names = Names(**{NAME: "127.0.0.11"})

    async def scene() -> tuple[int, int]:
        async with (
            StatusServer(pair, "127.0.0.11") as old,
            StatusServer(pair, "127.0.0.12", beside=old) as new,
        ):
            environ = {"SSL_CERT_FILE": str(authority.pair.cert)}
            with client(f"https://{NAME}:{old.port}", environ) as asking:
                await list_jobs(asking)
                await list_jobs(asking)
                assert len(names.asked) == 1  # the connection is kept
                old.status, old.body = status, body
                names.table[NAME] = "127.0.0.12"
                with contextlib.suppress(ApiError):
                    await list_jobs(asking)
                await list_jobs(asking)
                await asking.aclose()
            return len(old.received), len(new.received)

    old, new = run(names, scene())
    assert old == 3
    assert new >= 1


def test_authorities_that_change_are_followed(
    authority: Authority, pair: Pair, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server shows a certificate of another authority, and the file follows: no restart is needed."""
    monkeypatch.setattr("exporter.cloud.http.authorities.CHECK_SECONDS", 0.0)
    bundle = tmp_path / "ca.pem"
    shutil.copy(authority.pair.cert, bundle)
    other = Authority(tool("openssl"), tmp_path, "other")
    second = other.issue("second", f"DNS:{NAME}")

    async def scene() -> None:
        async with StatusServer(pair, "127.0.0.11") as old, StatusServer(second, "127.0.0.12", beside=old):
            with client(f"https://{NAME}:{old.port}", {"SSL_CERT_FILE": str(bundle)}) as asking:
                await list_jobs(asking)
                names.table[NAME] = "127.0.0.12"
                old.status = 500
                with pytest.raises(ApiError, match="certificate not trusted"):
                    await list_jobs(asking, seconds=5.0)
                shutil.copy(other.pair.cert, bundle)
                await list_jobs(asking, seconds=5.0)
                await asking.aclose()

    names = Names(**{NAME: "127.0.0.11"})
    run(names, scene())
