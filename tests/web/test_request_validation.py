"""Requests that a server behind a proxy must not take, targets in every form, and pages of other sites."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from exporter.web.app import create_app
from exporter.web.request_queue import RequestQueue
from exporter.web.server import Server
from tests.web.test_app import exposition

NEXT = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
Sent = Callable[[bytes], list[int]]
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def made() -> tuple[Starlette, list[str]]:
    """The application, and the reloads that it was asked for."""
    reloads: list[str] = []

    async def reload() -> tuple[str, ...]:
        reloads.append("reload")
        return ()

    app = create_app(exposition=exposition(), ready=lambda: True, reload=reload, telemetry_path="/metrics")
    return app, reloads


@pytest.fixture(scope="module")
def sent() -> Iterator[Sent]:
    """The codes that come back for what is written to a connection of the real server: one for all tests."""
    with asyncio.Runner() as loop:
        server, stop = Server(made()[0], ["127.0.0.1:0"]), asyncio.Event()
        url = httpx.URL(server.urls[0])

        async def serve() -> asyncio.Task[None]:
            return asyncio.create_task(server.serve(stop))

        async def exchange(data: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(url.host, url.port)
            try:
                writer.write(data + NEXT + NEXT.replace(b"Host", b"Connection: close\r\nHost"))
                async with asyncio.timeout(10):
                    return await reader.read()
            finally:
                writer.close()

        async def end() -> None:
            stop.set()
            await serving

        serving = loop.run(serve())
        yield lambda data: [
            int(code) for code in re.findall(rb"HTTP/1\.1 ([0-9]{3})", loop.run(exchange(data)))
        ]
        loop.run(end())


@pytest.mark.parametrize(
    ("line", "headers", "body"),
    [
        ("GET /metrics", "Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKS),
        ("GET /metrics", "tRANSFER-eNCODING: chunked\r\ncontent-length: 5", CHUNKS),
        ("POST /-/reload", "Content-Length: 0\r\nTransfer-Encoding: chunked", CHUNKS),
        ("GET /metrics", "Content-Length: 5\r\nContent-Length: 6", b"hello"),
        ("GET /metrics", "Content-Length: +5", b"hello"),
        ("GET /metrics", "Transfer-Encoding: chunked, identity", CHUNKS),
        ("GET /metrics", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS),
        ("GET /metrics", "Transfer-Encoding: xchunked", CHUNKS),
        ("GET /metrics", "Transfer-Encoding : chunked", CHUNKS),
        ("GET /metrics", "X: a\0b", b""),
        ("GET /metrics", "X: a\rb", b""),
        ("GET /metrics", "Host: y", b""),
    ],
    ids=[
        "length-and-chunked", "any-case", "reload", "two-lengths", "signed-length", "identity",
        "chunked-twice",        "unknown-coding", "blank-and-colon", "nul", "bare-cr", "two-hosts",
    ],
)  # fmt: skip
def test_what_two_programs_may_read_differently_is_refused(
    line: str, headers: str, body: bytes, sent: Sent
) -> None:
    """400, and the connection is closed: what follows might be a part of it."""
    data = f"{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode("latin-1")
    assert sent(data + body) == [400]


@pytest.mark.parametrize(
    ("version", "headers", "code"),
    [("1.0", "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n", 400), ("2.0", "", 505)],
    ids=["chunked-in-1.0", "version-2"],
)
def test_other_versions_of_http(version: str, headers: str, code: int, sent: Sent) -> None:
    """HTTP/1.0 knows no chunks, and what calls itself 2.0 here is not."""
    assert sent(f"GET /metrics HTTP/{version}\r\nHost: x\r\n{headers}\r\n".encode() + CHUNKS) == [code]


@pytest.mark.parametrize(
    ("request_line", "code"),
    [
        ("GET http://x/metrics", 200),
        ("GET HTTP://x:10047/metrics?name[]=nothing", 200),
        ("HEAD https://[::1]:10047/-/healthy", 200),
        ("GET http://x/%6detrics", 200),
        ("GET http://x", 404),
        ("GET http://x/nowhere", 404),
        ("POST http://x/metrics", 405),
        ("GET /%6detrics", 200),
        ("GET //metrics", 404),
        ("GET /./metrics", 404),
        ("OPTIONS *", 404),
        ("OPTIONS /metrics", 405),
    ],
)
def test_a_target_in_any_form_is_answered(request_line: str, code: int, sent: Sent) -> None:
    """A path, or as a proxy is asked (RFC 9112, 3.2.2); the connection stays. (No status page here.)"""
    assert sent(f"{request_line} HTTP/1.1\r\nHost: y\r\n\r\n".encode()) == [code, 200, 200]


@pytest.mark.parametrize(
    "request_line",
    [
        "GET metrics",
        "GET *",
        "GET x:80",
        "CONNECT x:80",
        "GET http:/metrics",
        "GET http:///metrics",
        "GET http://user:password@x/metrics",
        "GET ftp://x/metrics",
        "GET /metrics#top",
        "GET /metrics?name[]=x#top",
        "GET http://x#top",
        "GET http://x:y/metrics",
        "GET http://x:99999/metrics",
        "GET http://x\\y/metrics",
    ],
)
def test_what_is_no_target_is_refused(request_line: str, sent: Sent) -> None:
    """400 in place of a guess."""
    assert sent(f"{request_line} HTTP/1.1\r\nHost: y\r\n\r\n".encode()) == [400]


@pytest.mark.parametrize(
    "host",
    ["a b", "a b@c/d", "user@x", "x/metrics", "http://x:y/metrics", "x:y", "x:99999", "x:1:2", "[x]", "[::1",
     "::1", "x,y", "\xff\xfe", "x?y", "x#y", "<x>"],
)  # fmt: skip
def test_what_is_no_host_is_refused(host: str, sent: Sent) -> None:
    """400: programs on the way may make different things of it."""
    assert sent(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")) == [400]


@pytest.mark.parametrize(
    "host",
    [
        "x",
        "",
        "x:10047",
        "x:",
        "X.example.com.",
        "a_b-c:1",
        "127.0.0.1:65535",
        "[::1]:10047",
        "[fe80::1%25eth0]",
    ],
)
def test_hosts_in_every_form_are_taken(host: str, sent: Sent) -> None:
    """Names, addresses and ports as clients write them."""
    assert sent(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) == [200, 200, 200]


def reloaded(headers: list[tuple[str, str]], method: str = "POST", host: str = "e.test:10047") -> Any:
    app, reloads = made()

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, "/-/reload", headers=headers)

    answer = asyncio.run(run())
    assert len(reloads) == (answer.status_code == 200)
    return answer


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "https://evil.test")],
        [("Origin", "null")],
        [("Origin", "")],
        [("Origin", "http://e.test")],
        [("Origin", "http://e.test:10047.evil.test")],
        [("Origin", "http://[")],
        [("Origin", "http://e.test:10047"), ("Origin", "http://evil.test")],
        [("Origin", "https://evil.test"), ("X-Forwarded-Host", "evil.test")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site"), ("Origin", "http://e.test:10047")],
        [("Sec-Fetch-Site", "")],
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        [("Referer", "http://evil.test/page")],
        [("Referer", "http://evil.test/page"), ("Content-Type", "application/x-www-form-urlencoded")],
        [("Referer", "http://e.test:10047@evil.test/"), ("Content-Type", "multipart/form-data; boundary=x")],
        [("Referer", "https://evil.test/http://e.test:10047/"), ("Content-Type", "text/plain")],
        [("Referer", "http://evil.test/"), ("Origin", "http://e.test:10047")],
        [("Referer", "")],
    ],
    ids=str,
)
def test_a_page_of_another_site_cannot_reload(headers: list[tuple[str, str]], method: str) -> None:
    """A form or a script that an operator's browser is made to run: 403, and nothing is read."""
    answer = reloaded(headers, method)
    assert answer.status_code == 403
    assert answer.text == "a page of another web site may not reload the configuration\n"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Origin", "http://e.test:10047")],
        [("Origin", "HTTP://E.test:10047")],
        [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://portal.test")],
        [("Sec-Fetch-Site", "none")],
        [("Content-Type", "application/x-www-form-urlencoded")],
        [("Referer", "http://e.test:10047/?x=http://evil.test")],
    ],
    ids=["program", "own-page", "own-page-in-capitals", "behind-a-proxy", "by-hand", "curl-d", "referer"],
)
def test_programs_and_our_own_site_can_reload(headers: list[tuple[str, str]]) -> None:
    """No program sends any of this; a proxy that changes the Host does not change what the browser saw."""
    assert reloaded(headers).status_code == 200


@pytest.mark.parametrize(("lines", "status"), [(99, 200), (100, 431), (2000, 431)])
def test_many_header_lines_are_refused(lines: int, status: int, sent: Sent) -> None:
    """Each takes memory for as long as the answer is under way; a Host line is one of them."""
    head = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n" + "x:\r\n" * lines + "\r\n"
    assert sent(head.encode())[0] == status


def test_many_header_lines_are_refused_before_the_head_ends(sent: Sent) -> None:
    """Parsed, thousands of lines are 250 KB of objects; a thousand clients send them at once."""
    assert sent(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n" + b"x:\r\n" * 200) == [431]


def test_header_lines_are_counted_for_each_request(sent: Sent) -> None:
    """A connection that is kept for months has sent more than a hundred in all."""
    one = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n" + b"x:\r\n" * 60 + b"\r\n"
    assert sent(one * 4) == [200] * 6


def test_many_header_lines_do_not_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch, sent: Sent) -> None:
    """Hundreds of such requests would take a hundred MiB meanwhile."""

    async def wait_turn(queue: RequestQueue, client: str, last_request_at: float) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(RequestQueue, "wait_turn", wait_turn)
    assert sent(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n" + b"x:\r\n" * 100 + b"\r\n") == [431]
