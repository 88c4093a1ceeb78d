"""Which requests are refused for their form, before anybody asks who sent them or what for.

Knows RFC 9112 where the HTTP parser (h11) is more lenient than is safe for a server behind a proxy, or leaves
the target of a request as it is. Must not know any path.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_ABSOLUTE: Final = re.compile(rb"https?://([^/@]+)(/.*)?", re.IGNORECASE)
MAX_HEADER_LINES: Final = 100
"""Of a request, as in Apache. Each takes 200 bytes for as long as the response is under way."""
_HOST: Final = re.compile(rb"(?:[\w.~-]*|\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\])(?::([0-9]{0,5}))?")
"""A name, an IPv4 address, or an IPv6 address in brackets, perhaps with a zone; then perhaps a port."""
_SAFE_SITES: Final = ("same-origin", "none")


class Refusal(NamedTuple):
    """Why a request is refused. Then its connection is closed: where the next request begins is unsure."""

    status: int
    reason: str


class RequestValidator:
    """ASGI middleware: the application behind it sees only paths that begin with ``/``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = _refusal(scope) or _target(scope)
        if isinstance(target, Refusal):
            answer = PlainTextResponse(f"{target.reason}\n", target.status, {"Connection": "close"})
            await answer(scope, receive, send)
        else:
            await self._app(target, receive, send)


def _refusal(scope: Scope) -> Refusal | None:
    names = [name for name, _ in scope["headers"]]
    if not all(_is_host(value) for name, value in scope["headers"] if name == b"host"):
        return Refusal(400, "bad request: its Host is not HOST or HOST:PORT")
    if not scope["http_version"].startswith("1."):
        return Refusal(505, "HTTP version not supported: use HTTP/1.1")
    if len(names) > MAX_HEADER_LINES:
        return Refusal(431, f"bad request: more than {MAX_HEADER_LINES} header lines")
    # A proxy and a server that disagree on which of the two counts see different requests (RFC 9112, 6.1).
    if b"transfer-encoding" in names and b"content-length" in names:
        return Refusal(400, "bad request: Content-Length together with Transfer-Encoding")
    if b"transfer-encoding" in names and scope["http_version"] == "1.0":
        return Refusal(400, "bad request: Transfer-Encoding in HTTP/1.0")
    return None


def _target(scope: Scope) -> Scope | Refusal:
    """The request with a plain path (RFC 9112, 3.2)."""
    raw: bytes = scope["raw_path"]
    if b"#" in raw or b"#" in scope["query_string"]:
        return Refusal(400, "bad request: a fragment in its target")
    if raw.startswith(b"/"):
        return scope
    if raw == b"*" and scope["method"] == "OPTIONS":  # asks about the server as a whole
        return {**scope, "path": "/", "raw_path": b"/"}
    if (absolute := _ABSOLUTE.fullmatch(raw)) is None:
        return Refusal(400, "bad request: its target must be a path such as /metrics")
    host, path = absolute[1], absolute[2] or b"/"
    if not _is_host(host):
        return Refusal(400, "bad request: the host of its target is not HOST or HOST:PORT")
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "headers": [(b"host", host), *others],
    }


def _is_host(value: bytes) -> bool:
    """Whether it is one; a client that knows no name sends an empty one (RFC 9112, 3.2)."""
    match = _HOST.fullmatch(value.strip())
    return match is not None and int(match[1] or 0) < 65536


def from_another_site(headers: Headers) -> bool:
    """Whether a browser sends this request for a page of another web site. Programs send no such headers.

    Browsers report that in ``Sec-Fetch-Site`` where the connection is safe (HTTPS, localhost), and in
    ``Origin`` everywhere; old ones, for a form, in ``Referer`` only. A page whose name was made to point to
    this machine (DNS rebinding) looks like one of ours to the browser: only a password keeps it out.
    """
    if sites := headers.getlist("sec-fetch-site"):
        return not all(site in _SAFE_SITES for site in sites)
    pages = [*headers.getlist("origin"), *headers.getlist("referer")]
    return any(_host(page) != headers.get("host", "").lower() for page in pages)


def _host(page: str) -> str | None:
    """``HOST[:PORT]`` of a page's address, as in the Host header; ``None`` for ``null`` and nonsense."""
    try:
        return urlsplit(page).netloc.lower() or None
    except ValueError:
        return None
