"""httpx clients for one host: how they connect, and what keeps them sound for months."""

from __future__ import annotations

import importlib.util
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, Self

import httpx

from exporter import __version__
from exporter.errors import ApiError, ErrorKind

_TIMEOUTS: Final = httpx.Timeout(30.0, connect=8.0)
_LOOPBACK: Final = re.compile(r"https?://(localhost|127\.[\d.]+|\[::1\])(:\d+)?(/|$)", re.IGNORECASE)


class Connections:
    """One httpx client, and so one connection, for each request under way.

    A request that is cancelled at the wrong moment leaves its connection busy for ever in httpcore's pool
    (seen with 1.0.9): a few of those, and every later request waits in vain. So its client is closed with it.
    """

    def __init__(
        self,
        base: str,
        *,
        transport: httpx.AsyncBaseTransport | None,
        timeouts: httpx.Timeout = _TIMEOUTS,
        proxies: bool = True,
    ) -> None:
        """For ``base`` and its neighbours. Raises ApiError.

        Proxies and ``SSL_CERT_FILE`` are taken from the environment, as operators expect, but never for
        loopback. httpx reads no ``.netrc`` unless told to, so nothing can replace our Authorization.
        ``proxies`` False ignores that environment (the machine's own metadata service is never behind one).
        """
        trust_env = proxies and _LOOPBACK.match(base) is None
        with _usable_environment():
            # Once for all clients: reading the certificates takes longer than a scrape may.
            tls = transport is not None or httpx.create_ssl_context(trust_env=trust_env)
        self._new = partial(_new_client, tls, transport, timeouts, trust_env=trust_env)
        self._first = self._new()
        self._idle = [self._first]
        self._closed = False

    def build_request(self, method: str, url: str, **parts: Any) -> httpx.Request:  # noqa: ANN401 - httpx's own
        """As ``httpx.AsyncClient.build_request``."""
        return self._first.build_request(method, url, **parts)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one request."""
        client = self._idle.pop() if self._idle else self._new()
        sound = False
        try:
            yield client
            sound = True
        except httpx.HTTPError:  # its connection is closed already
            sound = True
            raise
        finally:
            if sound and not self._closed:
                self._idle.append(client)
            else:
                await client.aclose()

    async def aclose(self) -> None:
        """Those in use are closed when their request ends."""
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _new_client(
    tls: ssl.SSLContext | bool,
    transport: httpx.AsyncBaseTransport | None,
    timeouts: httpx.Timeout,
    *,
    trust_env: bool,
) -> httpx.AsyncClient:
    """A client with these settings, and otherwise with those of every request.

    Cookies are neither kept nor sent; redirects are not followed: a signature is for one host.
    """
    _note_missing_sniffio()
    with _usable_environment():
        return httpx.AsyncClient(
            verify=tls,
            transport=transport,
            trust_env=trust_env,
            follow_redirects=False,
            timeout=timeouts,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={
                "User-Agent": f"metastudio-tts-exporter/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
            },
            # Longer than a poll's interval: no new TLS handshake at each poll.
            limits=httpx.Limits(keepalive_expiry=75.0),
        )


@contextmanager
def _usable_environment() -> Iterator[None]:
    """Settings of the environment that cannot be used become one clear ApiError."""
    try:
        yield
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
        # Their texts are not shown: a proxy's URL may hold a password.
        text = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE in the environment cannot be used"
        raise ApiError(ErrorKind.OTHER, f"{text} ({type(error).__name__})") from None


def _note_missing_sniffio() -> None:
    """Make ``import sniffio`` fail at once where it is not installed.

    httpcore tries that import four times a request. Python remembers what it found, not what it did not
    find, and searches the whole path each time: a sixth of the CPU of a request.
    """
    if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]  # what Python documents for "not there"
