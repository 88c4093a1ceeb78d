"""A scrape over a real connection, as every kind of client makes it."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from exporter.exposition.refresh import TOO_OLD_SECONDS
from exporter.exposition.render import Exposition
from exporter.exposition.text import Format
from exporter.web.app import create_app
from exporter.web.scrape import Scrape
from exporter.web.server import Server
from tests.conftest import Tool
from tests.exposition.views import PROCESS, full_api, full_view


def exposition() -> Exposition:
    """Without process metrics: then two scrapes are equal."""
    made = Exposition(full_api("production"), PROCESS, registry=CollectorRegistry(), created_timestamps=False)
    made.publish((full_view(),))
    return made


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    server, stop = Server(Scrape(exposition()), ["127.0.0.1:0"]), asyncio.Event()
    task = asyncio.create_task(server.serve(stop))
    try:
        yield server.urls[0]
    finally:
        stop.set()
        await task


async def talk(url: str, *lines: str) -> tuple[dict[str, str], bytes]:
    """One request written by hand; the answer's headers, and everything that came after them."""
    reader, writer = await asyncio.open_connection(httpx.URL(url).host, httpx.URL(url).port)
    writer.write("\r\n".join((*lines, "Host: exporter", "Connection: close", "", "")).encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in headers)
    return {**fields, ":status": status.split(" ")[1]}, body


async def program(path: Path, *arguments: str, given: bytes | None = None) -> bytes:
    """What a program prints that ends well within ten seconds."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(path, *arguments, stdin=pipe, stdout=pipe)
    try:
        printed, _ = await asyncio.wait_for(process.communicate(given), 10)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    return printed


ENCODINGS = [[], ["Accept-Encoding: gzip"]]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["plain", "gzip"])
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_head_says_what_get_would_send(accept: str, encoding: list[str]) -> None:
    """The same headers, the length of the body included, and no body."""

    async def run() -> None:
        async with serving() as url:
            lines = [f"Accept: {accept}", *encoding]
            head, nothing = await talk(url, "HEAD /metrics HTTP/1.1", *lines)
            get, body = await talk(url, "GET /metrics HTTP/1.1", *lines)
            assert nothing == b""
            assert int(head["content-length"]) == len(body) > 1_000
            assert {**head, "date": ""} == {**get, "date": ""}

    asyncio.run(run())


@pytest.mark.parametrize("form", Format, ids=lambda form: form.name.lower())
def test_gzip_reads_as_plain_to_every_reader(form: Format, tool: Tool) -> None:
    """Clients that read one member only; zlib, which says whether there is more; gzip itself."""
    curl, gzip = tool("curl"), tool("gzip")
    expected = exposition().render(form)
    accept = {"accept": form.value.partition(";")[0]}

    async def run() -> None:
        async with serving() as url, httpx.AsyncClient(base_url=url) as client:
            answer = await client.get("/metrics", headers={**accept, "accept-encoding": "gzip"})
            assert (answer.headers["content-encoding"], answer.content) == ("gzip", expected)
            plain = await client.get("/metrics", headers={**accept, "accept-encoding": "identity"})
            assert ("content-encoding" in plain.headers, plain.content) == (False, expected)

            _, compressed = await talk(
                url, "GET /metrics HTTP/1.1", f"Accept: {accept['accept']}", "Accept-Encoding: gzip"
            )
            reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
            assert reader.decompress(compressed) == expected
            assert (reader.eof, reader.unused_data) == (True, b"")
            assert await program(gzip, "-dc", given=compressed) == expected
            header = f"Accept: {accept['accept']}"
            assert await program(curl, "-s", "--compressed", "-H", header, f"{url}/metrics") == expected

    asyncio.run(run())


@pytest.mark.parametrize(
    "line",
    [
        "If-None-Match: *",
        'If-None-Match: "a"',
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
        "If-Match: *",
        "Range: bytes=0-99",
    ],
)
def test_a_scrape_is_never_conditional_or_partial(line: str) -> None:
    """Every scrape differs from the one before: the answer is whole, and nothing invites to keep it."""

    async def run() -> None:
        async with serving() as url:
            fields, body = await talk(url, "GET /metrics HTTP/1.1", line)
            assert (fields[":status"], body) == ("200", exposition().render(Format.PROMETHEUS))
            assert not fields.keys() & {"etag", "last-modified", "expires", "accept-ranges"}
            assert fields["vary"] == "accept, accept-encoding"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lines", "form", "compressed"),
    [
        (["Accept: text/plain;q=0.5", "Accept: application/openmetrics-text"], Format.OPENMETRICS, False),
        (["Accept-Encoding: br", "Accept-Encoding: gzip;q=0.1"], Format.PROMETHEUS, True),
        (["Accept-Encoding: gzip;q=0, *"], Format.PROMETHEUS, False),
        (["Accept: application/openmetrics-text; version=9.9.9"], Format.OPENMETRICS, False),
        (["Accept: \xff\xfe", "Accept-Encoding: \xff"], Format.PROMETHEUS, False),
    ],
    ids=["two-accept-lines", "two-encoding-lines", "gzip-refused", "version-clamped", "not-ascii"],
)
def test_headers_are_understood_as_sent(lines: list[str], form: Format, compressed: bool) -> None:
    """In several lines, with qualities, with versions of the future, or as noise."""

    async def run() -> None:
        async with serving() as url:
            fields, body = await talk(url, "GET /metrics HTTP/1.1", *lines)
            assert fields["content-type"] == form.value
            assert ("content-encoding" in fields) == compressed
            assert int(fields["content-length"]) == len(body)

    asyncio.run(run())


@pytest.mark.parametrize("encoding", ENCODINGS, ids=["plain", "gzip"])
def test_selected_names_are_packed_too(encoding: list[str]) -> None:
    """A filtered answer is made for this scrape alone, and complete all the same."""

    async def run() -> None:
        async with serving() as url:
            _, body = await talk(url, "GET /metrics?name[]=metastudio_up HTTP/1.1", *encoding)
            text = zlib.decompress(body, 16 + zlib.MAX_WBITS) if encoding else body
            assert text.endswith(b'metastudio_up{target="production"} 1.0\n')

    asyncio.run(run())


def test_metrics_that_grow_old_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus takes the exporter for down then, and raises an alert."""
    now = 1000.0
    made = Exposition(
        full_api("production"),
        PROCESS,
        registry=CollectorRegistry(),
        monotonic=lambda: now,
        created_timestamps=False,
    )
    made.publish((full_view(),))
    app = create_app(exposition=made, ready=lambda: True, telemetry_path="/metrics")

    async def run() -> None:
        nonlocal now
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://exporter") as client:
            refreshing = asyncio.create_task(made.run())
            await asyncio.sleep(0)
            first = await client.get("/metrics")
            with monkeypatch.context() as broken:
                broken.setattr("exporter.exposition.edition.write_block", None)
                for _ in range(2):
                    made.publish((full_view(),))
                    assert (await client.get("/metrics")).content == first.content
                now += TOO_OLD_SECONDS
                refused = await client.get("/metrics")
                assert refused.status_code == 503
                assert refused.text == "the metrics could not be written for 300 s: see the log\n"
            made.publish((full_view(),))
            assert (await client.get("/metrics")).content == first.content
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)

    asyncio.run(run())
