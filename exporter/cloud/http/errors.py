"""What went wrong, in one place: httpx exceptions, HTTP answers and bodies -> ApiError.

Knows the body shapes (docs/api.md, section 4) and httpx's exception tree; what each code means is in
``error_codes.py``. Every text of the cloud's passes the redactor before it enters an error.
"""

from __future__ import annotations

import http
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import httpx
import msgspec

from exporter.cloud.http import loose_json
from exporter.cloud.http.error_codes import ErrorMeaning, Remedy, meaning_of
from exporter.cloud.http.proxies import Proxy
from exporter.cloud.redact import MessageRedactor
from exporter.cloud.times import parse_http_date
from exporter.errors import ApiError, ErrorKind

_BODY_LIMIT: Final = 65_536
_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TITLE: Final = re.compile(r"<title[^>]{0,200}>([^<]{1,500})", re.IGNORECASE)
_WINDOW: Final = re.compile(r"time:\s*(\d{1,4})\s*(second|minute|hour|day)", re.IGNORECASE)
_SECONDS: Final = re.compile(r"[0-9]{1,100}(\.[0-9]{0,20})?")
_WINDOW_UNITS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_CODE_NAMES: Final = ("error_code", "errorCode", "code")
_TEXT_NAMES: Final = ("error_msg", "errorMsg", "message", "error_description", "msg")
_RETRY_AFTER_LIMIT: Final = 3600.0
"""Seconds. A larger ``Retry-After`` is a mistake: to obey it would stop the exporter for days."""


class ApiRefusedError(ApiError):
    """An answer that refuses the request. ``remedy`` is what to try at once, ``date`` its ``Date`` header.

    ``window`` is the length in seconds of the throttling window that the message named.
    """

    remedy: Remedy = Remedy.NONE
    date: float | None = None
    window: float | None = None


class ErrorBody(NamedTuple):
    """The error object in a body; empty texts where it has none."""

    code: str = ""
    text: str = ""
    request_id: str = ""


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, redact: MessageRedactor, now: float
) -> ApiRefusedError:
    """The error for an answer whose status is not the one asked for. ``now``: Unix seconds, for dates."""
    said = read_body(body)
    meaning = meaning_of(status, said.code, said.text)
    text = said.text or _looks_like(body) or _phrase(status)
    if meaning.kind is ErrorKind.REDIRECT:
        text = f"redirected to {headers.get('location', 'nowhere')}"
    date = parse_http_date(headers.get("date"))
    wait = retry_after(headers.get("retry-after"), date or now)
    if meaning.kind is ErrorKind.THROTTLED and wait is not None:
        meaning = meaning._replace(advice=f"{meaning.advice} (Retry-After: {wait:.0f} s)")
    error = _build(meaning, said, text, redact, status, headers.get("x-request-id", ""))
    error.date = date
    error.retry_after = wait
    return error


def bad_page(body: bytes, redact: MessageRedactor) -> ApiError:
    """The error for an answer with status 200 that is no list: what it says inside, or ``decode``."""
    said = read_body(body)
    if said.code or said.text:
        meaning = meaning_of(200, said.code, said.text)
        text = f"an error inside an answer with status 200: {said.text or said.code}"
        return _build(meaning, said, text, redact, 200, "")
    what = _looks_like(body) or "JSON that is not a list of jobs"
    return ApiError(
        ErrorKind.DECODE,
        redact(f"the answer is {what}; check endpoint, and any proxy on the way"),
        status=200,
        retryable=True,
    )


def undecodable(what: str, status: int) -> ApiError:
    """The error for an answer whose bytes or fields do not follow the protocol; ``what`` is our text."""
    return ApiError(ErrorKind.DECODE, what, status=status, retryable=True)


def transport_error(
    error: httpx.HTTPError | httpx.InvalidURL | httpx.StreamError, host: str, proxy: Proxy | None = None
) -> ApiError:
    """The error for a request to ``host``, perhaps through ``proxy``, that got no whole answer."""
    _, kind, text, retryable = next(row for row in TRANSPORT_ERRORS if isinstance(error, row[0]))
    tls = _tls_fault(error)
    closed_by_proxy = proxy is not None and isinstance(tls, ssl.SSLEOFError)
    if kind is ErrorKind.CONNECT and tls is not None and not closed_by_proxy:
        return _tls_error(tls, host, proxy)
    unresolved = _in_chain(error, ("Name or service not known", "nodename nor servname", "name resolution"))
    if proxy is not None:
        text, retryable = _proxy_fault(error, host, proxy, unresolved=unresolved) or (
            f"{text} (through the proxy {proxy})",
            retryable,
        )
    elif unresolved:
        text = "cannot resolve the name; check region, endpoint and DNS"
    return ApiError(kind, MessageRedactor()(f"{host}: {text}"), retryable=retryable)


_CLOSED: Final = ("EndOfStream", "SSLEOFError", "ConnectionResetError", "BrokenResourceError")
"""Names of errors of a connection that was there."""


def _proxy_fault(error: Exception, host: str, proxy: Proxy, *, unresolved: bool) -> tuple[str, bool] | None:
    """What is wrong with the proxy and whether another attempt may help; ``None`` when it may be the host."""
    if unresolved:
        return f"cannot resolve the name of the proxy {proxy}", True
    if isinstance(error, httpx.ConnectError):
        if any(type(step).__name__ in _CLOSED for step in _chain(error)):
            return f"the proxy {proxy} closed the connection to {host}", True
        return f"cannot connect to the proxy {proxy}", True
    if not isinstance(error, httpx.ProxyError):
        return None
    status = str(error)[:3]
    if status == "407":
        if proxy.url.userinfo:
            return f"the proxy {proxy} refuses the user name and password in {proxy.variable}", False
        return f"the proxy {proxy} wants a user name and password: http://USER:PASSWORD@HOST:PORT", False
    if status.isdigit():
        text = (
            f"the proxy {proxy} does not connect to {host} (HTTP {status}); ask who runs it, or use NO_PROXY"
        )
        return text, status >= "5"
    return f"the proxy {proxy} does not connect to {host}", True


def retry_after(value: str | None, now: float | None) -> float | None:
    """Seconds to wait, from seconds or an HTTP date (which needs ``now``); at most one hour."""
    if not value:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), _RETRY_AFTER_LIMIT)
    until = parse_http_date(value)
    if until is None or now is None:
        return None
    return min(max(until - now, 0.0), _RETRY_AFTER_LIMIT)


def read_body(body: bytes) -> ErrorBody:
    """Code, text and request id of an error object in any documented shape, also one level down."""
    if not body or len(body) > _BODY_LIMIT:
        return ErrorBody()
    try:
        value: Any = loose_json.decode(body)
    except ValueError:
        return ErrorBody()
    if not isinstance(value, dict):
        return ErrorBody(text=value if isinstance(value, str) else "")
    for candidate in (value, *(inner for inner in value.values() if isinstance(inner, dict))):
        code, text = _first(candidate, _CODE_NAMES), _first(candidate, _TEXT_NAMES)
        if code or text:
            request_id = _first(candidate, ("request_id", "requestId")) or _first(value, ("request_id",))
            return ErrorBody(code, text, request_id)
    return ErrorBody()


def _build(
    meaning: ErrorMeaning, said: ErrorBody, text: str, redact: MessageRedactor, status: int, request_id: str
) -> ApiRefusedError:
    # The remedy for the operator comes first in the bound: the cloud's own text is cut, not our advice.
    room = 300 - len(meaning.advice) - 2 if meaning.advice else 300
    message = redact(text, room)
    code = redact(said.code)
    known = redact(request_id or said.request_id, 128)
    error = ApiRefusedError(
        meaning.kind,
        f"{message}; {meaning.advice}" if meaning.advice else message,
        status=status,
        code=code if _CODE.fullmatch(code) and code != str(status) else None,
        request_id=known or None,
        retryable=meaning.retryable,
        denied=meaning.kind is ErrorKind.AUTH and meaning.denied,
    )
    error.remedy = meaning.remedy
    if meaning.kind is ErrorKind.THROTTLED:
        error.window = _window(said.text)
    return error


def _window(text: str) -> float | None:
    match = _WINDOW.search(text)
    return int(match[1]) * _WINDOW_UNITS[match[2].lower()] if match else None


def _first(value: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        found = value.get(name)
        if isinstance(found, str) and found:
            return found
        if isinstance(found, int) and not isinstance(found, bool) and found:
            return str(found)
    return ""


def _looks_like(body: bytes) -> str:
    """A few words for a body that holds no error object."""
    start = body[:_BODY_LIMIT].lstrip()
    if not start:
        return "an empty body"
    if start.startswith(b"<"):
        title = _TITLE.search(start.decode("utf-8", "replace"))
        return f"an HTML page: {' '.join(title[1].split())}" if title else "an HTML page"
    if start[:1] in b"[{":
        return _json_fault(body)
    return f"text: {start.decode('utf-8', 'replace')}"  # not cut before its secrets are redacted


def _json_fault(body: bytes) -> str:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError:
        return "JSON nested too deeply"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "broken or incomplete JSON"
    return "a JSON array" if body.lstrip().startswith(b"[") else ""


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


TRANSPORT_ERRORS: Final[tuple[tuple[tuple[type[Exception], ...], ErrorKind, str, bool], ...]] = (
    ((httpx.ConnectTimeout,), ErrorKind.TIMEOUT, "no connection in time; check endpoint and firewall", True),
    ((httpx.PoolTimeout,), ErrorKind.TIMEOUT, "no free connection in time", True),
    ((httpx.TimeoutException,), ErrorKind.TIMEOUT, "no answer in time", True),
    ((httpx.ProxyError,), ErrorKind.CONNECT, "the proxy refused", True),
    ((httpx.ConnectError,), ErrorKind.CONNECT, "cannot connect; check endpoint, firewall and proxy", True),
    ((httpx.NetworkError,), ErrorKind.CONNECT, "the connection broke", True),
    ((httpx.RemoteProtocolError,), ErrorKind.CONNECT, "the connection broke or does not speak HTTP", True),
    ((httpx.LocalProtocolError,), ErrorKind.OTHER, "the request cannot be written as HTTP", False),
    ((httpx.UnsupportedProtocol,), ErrorKind.OTHER, "endpoint must begin with https://", False),
    ((httpx.DecodingError,), ErrorKind.DECODE, "the body cannot be decompressed", True),
    ((httpx.TooManyRedirects,), ErrorKind.REDIRECT, "too many redirects", False),
    ((httpx.InvalidURL,), ErrorKind.OTHER, "the address is not a valid URL; check endpoint", False),
    ((httpx.StreamError,), ErrorKind.OTHER, "the body was read out of order", False),
    ((httpx.HTTPStatusError,), ErrorKind.OTHER, "unexpected status", False),
    ((Exception,), ErrorKind.OTHER, "the request failed", False),
)
"""First match wins; a test walks httpx's tree and fails on an exception that only the last row catches."""


def _chain(error: BaseException) -> list[BaseException]:
    seen: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in seen:
        seen.append(step)
        step = step.__cause__ or step.__context__
    return seen


def _in_chain(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(step) for step in _chain(error) for word in words)


def _tls_fault(error: BaseException) -> ssl.SSLError | None:
    return next((step for step in _chain(error) if isinstance(step, ssl.SSLError)), None)


def _tls_error(fault: ssl.SSLError, host: str, proxy: Proxy | None) -> ApiError:
    through = f" (through the proxy {proxy})" if proxy is not None else ""
    if isinstance(fault, ssl.SSLCertVerificationError):
        text = (
            f"certificate not trusted ({getattr(fault, 'verify_message', 'verification failed')}); "
            "check endpoint, or name your own authority in SSL_CERT_FILE"
        )
        return ApiError(ErrorKind.TLS, MessageRedactor()(f"{host}: {text}{through}"), retryable=False)
    reason = fault.reason or "handshake failed"
    text = f"no TLS connection ({reason}); check that endpoint and proxy speak HTTPS"
    if proxy is not None and proxy.url.scheme == "https":
        through += f"; most proxies want http:// in {proxy.variable}"
    return ApiError(ErrorKind.TLS, MessageRedactor()(f"{host}: {text}{through}"), retryable=True)
