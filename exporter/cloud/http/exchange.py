"""One request, one whole answer: bounded, reported, and every fault an ApiError.

With ``pool.py`` the only module that sends by httpx. Knows nothing of retries, credentials or jobs.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple, TypeVar

import httpx

from exporter import log
from exporter.background import in_background
from exporter.cloud.events import ApiEvents, Operation
from exporter.cloud.http.errors import refusal, transport_error, undecodable
from exporter.cloud.http.pool import Connections
from exporter.cloud.redact import MessageRedactor
from exporter.errors import ApiError, ErrorKind

MAX_LIST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of a list answer, inflated: forty times what a page of a hundred jobs takes."""
MAX_OTHER_BYTES: Final = 256 * 1024
"""Of every other answer."""
_BEGINNING: Final = 64 * 1024
"""Bytes that are read of a larger body."""
_LARGE: Final = 256 * 1024
"""Bytes of a body that a thread reads: twice what a page of a hundred jobs takes, and what is no page at all
can take a second."""
_STEP: Final = 64 * 1024
"""Inflated at a time, so that a few bytes cannot become many before they are counted."""
_ATTEMPT_SECONDS: Final = 60.0
"""An answer that takes longer is given up, so that there is time left for another attempt."""
_SECRET_HEADERS: Final = ("authorization", "x-auth-token", "x-security-token", "x-metadata-token")
_OTHER_ENCODINGS: Final = ("br", "zstd", "compress", "x-compress", "dcb", "dcz")
"""Encodings that exist and that we do not read. They are named in errors; other words might be anything."""

_T = TypeVar("_T")


class HttpAnswer(NamedTuple):
    """One answer with its whole body, decompressed. Times are on the monotonic clock."""

    status: int
    headers: httpx.Headers
    body: bytes
    sent: float
    received: float
    cut: bool = False
    """``body`` is only the beginning of a list larger than ``MAX_LIST_BYTES``."""


class Exchange:
    """Sends requests and reports each to the events."""

    def __init__(
        self,
        connections: Connections,
        events: ApiEvents,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        redactor: log.Redactor,
    ) -> None:
        """``redactor`` learns every secret before a request carries it, and hides others."""
        self._connections = connections
        self._events = events
        self._monotonic = monotonic
        self._wall = wall
        self._redactor = redactor

    async def call(
        self,
        operation: Operation,
        request: httpx.Request,
        read: Callable[[HttpAnswer, MessageRedactor], _T],
        *,
        auth: httpx.Auth | None = None,
        secrets: Iterable[str] = (),
        expected: tuple[int, ...] = (200,),
        deadline: float | None = None,
    ) -> _T:
        """Send once and return what ``read`` makes of the answer; of a large one, in a thread.

        ``secrets`` are redacted in every message, as is whatever proof the request carried. Raises ApiError.
        """
        secrets = tuple(secrets)
        for secret in secrets:
            self._redactor.add_renewed(secret)
        try:
            answer = await self._send(operation, request, auth, expected, deadline)
            redact = MessageRedactor((*secrets, *_carried(request)), self._redactor)
            if answer.status not in expected:
                raise refusal(answer.status, answer.headers, answer.body, redact, self._wall())
            try:
                if len(answer.body) > _LARGE:
                    return await in_background(partial(read, answer, redact), name="large answer")
                return read(answer, redact)
            except ApiError as error:
                error.request_id = error.request_id or (
                    redact(answer.headers.get("x-request-id", ""), 128) or None
                )
                raise
        except ApiError as error:
            error.operation = operation
            self._events.error(error)
            # The host may have another address by now, and the old one answer with errors: connect anew.
            await self._connections.close_idle()
            raise

    async def _send(
        self,
        operation: Operation,
        request: httpx.Request,
        auth: httpx.Auth | None,
        expected: tuple[int, ...],
        deadline: float | None,
    ) -> HttpAnswer:
        sent = self._monotonic()
        seconds = _ATTEMPT_SECONDS if deadline is None else min(_ATTEMPT_SECONDS, deadline - sent)
        code = "none"
        try:
            async with asyncio.timeout(max(seconds, 0.0)), self._connections.client(request.url) as client:
                response = await client.send(request, auth=auth, stream=True)
                received = self._monotonic()
                code = str(response.status_code)
                try:
                    is_list = operation in ("list_jobs", "get_job")
                    limit = MAX_LIST_BYTES if is_list else MAX_OTHER_BYTES
                    body, cut = await _read_body(response, limit)
                    if cut and not (is_list and response.status_code in expected):
                        raise too_large(response.status_code, limit)
                except ApiError:
                    if response.status_code in expected:
                        raise
                    body, cut = b"", False  # the status of a refusal says enough
                finally:
                    await response.aclose()
        except TimeoutError as error:
            proxy = self._connections.proxy(request.url)
            through = "" if proxy is None else f" (through the proxy {proxy})"
            within = f"within {seconds:.0f} s" if seconds >= 1 else "in the time left"
            text = f"{request.url.host}: no whole answer {within}{through}"
            raise ApiError(ErrorKind.TIMEOUT, text, retryable=True) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            # Its text may hold the URL or a header that cannot be sent: neither is shown.
            proxy = self._connections.proxy(request.url)
            raise transport_error(error, request.url.host, proxy) from None
        finally:
            self._events.request(operation, code, self._monotonic() - sent)
        return HttpAnswer(response.status_code, response.headers, body, sent, received, cut)


async def _read_body(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """The body, inflated here and not by httpx: a few kilobytes of gzip can hold gigabytes.

    Of a larger one its beginning, and that there is more.
    """
    announced = response.headers.get("content-length", "")
    too_long = announced.isascii() and announced.isdigit() and int(announced) > limit
    if too_long:
        limit = _BEGINNING
    inflate = _inflater(response.headers.get("content-encoding", ""), response.status_code)
    body = bytearray()
    taken = 0
    # Not aiter_raw: that refuses the answers of fakes, whose body is there from the start.
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - tells mypy which half it is
    try:
        async for chunk in response.stream:
            taken += len(chunk)
            for piece in inflate(chunk):
                body += piece
                if max(taken, len(body)) > limit:
                    return bytes(body[:_BEGINNING]), True
                await asyncio.sleep(0)  # others have their turn, however much a chunk holds
    except httpx.HTTPError:
        if not too_long:
            raise
    if not too_long:
        for _ in inflate(b""):
            pass
    return bytes(body), too_long


def _inflater(encoding: str, status: int) -> Callable[[bytes], Iterator[bytes]]:
    """Takes a chunk, gives its content in small pieces; an empty chunk says that the body is over."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk: iter((chunk,))
    if encoding not in ("gzip", "x-gzip", "deflate"):
        shown = encoding if encoding in _OTHER_ENCODINGS else "(not shown)"
        raise undecodable(f"unknown Content-Encoding {shown}", status)
    state = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
    fed = False

    def inflate(chunk: bytes) -> Iterator[bytes]:
        nonlocal fed
        if not chunk and fed and not state.eof:
            raise undecodable("the compressed body ends too early", status)
        fed = True
        piece = bytes(_STEP)
        while chunk or len(piece) == _STEP:  # a full piece: there may be more, though all is taken in
            try:
                piece = state.decompress(chunk, _STEP)
            except zlib.error as error:
                raise undecodable("the compressed body is damaged", status) from error
            if state.unused_data:
                raise undecodable("data follow the end of the compressed body", status)
            yield piece
            chunk = state.unconsumed_tail

    return inflate


def too_large(status: int, limit: int) -> ApiError:
    """The error for a body of more than ``limit`` bytes."""
    size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
    text = f"the body is larger than {size}; check endpoint"
    return ApiError(ErrorKind.TOO_LARGE, text, status=status)


def _carried(request: httpx.Request) -> list[str]:
    """The proof in the request, whole and in its parts."""
    sent = dict(request.headers.items())
    found = [sent[name] for name in _SECRET_HEADERS if name in sent]
    signed = sent.get("authorization", "")
    parts = [part.partition("=")[2] for part in signed.replace(",", " ").split() if "=" in part]
    return found + [part for part in parts if ";" not in part]
