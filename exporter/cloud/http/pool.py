"""httpx clients for the requests of one target: how they connect, and what keeps them working for months."""

from __future__ import annotations

import importlib.util
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, Self

import httpx

from exporter import __version__
from exporter.cloud.http.network import Network
from exporter.cloud.http.proxies import Proxy

_TIMEOUTS: Final = httpx.Timeout(30.0, connect=8.0)


class Connections:
    """One httpx client, and so one connection, for each request under way.

    A request that is cancelled at the wrong moment leaves its connection busy for ever in httpcore's pool
    (seen with 1.0.9): a few of those, and every later request waits in vain. So its client is closed with it.
    """

    def __init__(
        self,
        network: Network,
        *,
        transport: httpx.AsyncBaseTransport | None,
        timeouts: httpx.Timeout = _TIMEOUTS,
    ) -> None:
        self._network = network
        self._transport = transport
        self._timeouts = timeouts
        self._tls: ssl.SSLContext | None = None
        self._builder = _request_builder(**timeouts.as_dict())
        self._idle: dict[Proxy | None, list[httpx.AsyncClient]] = {}
        self._closed = False

    def build_request(self, method: str, url: str, **parts: Any) -> httpx.Request:  # noqa: ANN401 - httpx's own
        """As ``httpx.AsyncClient.build_request``.

        The final dot of a host's name is for name servers alone: certificates and signatures are for the name
        without it.
        """
        request = self._builder.build_request(method, url, **parts)
        if request.url.host.endswith("."):
            plain = request.url.copy_with(host=request.url.host.removesuffix("."))
            request.headers["Host"] = plain.netloc.decode("ascii")
            request.extensions["sni_hostname"] = plain.host
            if self.proxy(plain) is not None:
                request.url = plain
        return request

    def proxy(self, url: httpx.URL) -> Proxy | None:
        """The proxy of requests to ``url``."""
        return self._network.proxies.of(url)

    @asynccontextmanager
    async def client(self, url: httpx.URL) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one request to ``url``."""
        await self._follow_authorities()
        tls, proxy = self._tls, self.proxy(url)
        idle = self._idle.get(proxy)
        client = idle.pop() if idle else self._new(proxy)
        sound = False
        try:
            yield client
            sound = True
        except httpx.HTTPError:  # its connection is closed already
            sound = True
            raise
        finally:
            if sound and not self._closed and tls is self._tls:
                self._idle.setdefault(proxy, []).append(client)
            else:
                await client.aclose()

    async def _follow_authorities(self) -> None:
        tls = await self._network.authorities.refresh()
        if tls is not self._tls:
            self._tls = tls
            await self.close_idle()

    def _new(self, proxy: Proxy | None) -> httpx.AsyncClient:
        if self._transport is not None:
            return _new_client(self._transport, self._timeouts)
        assert self._tls is not None  # noqa: S101 - set before the first request
        through = None
        if proxy is not None:
            through = httpx.Proxy(proxy.url, ssl_context=self._tls if proxy.url.scheme == "https" else None)
        # Longer than a poll's interval: no new TLS handshake at each poll.
        limits = httpx.Limits(keepalive_expiry=75.0)
        transport = httpx.AsyncHTTPTransport(verify=self._tls, proxy=through, limits=limits)
        return _new_client(transport, self._timeouts)

    async def close_idle(self) -> None:
        """The next request connects anew: the name may have another address by now."""
        idle, self._idle = self._idle, {}
        for clients in idle.values():
            for client in clients:
                await client.aclose()

    async def aclose(self) -> None:
        """Those in use are closed when their request ends."""
        self._closed = True
        await self.close_idle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@cache
def _request_builder(**timeouts: float | None) -> httpx.AsyncClient:
    """Makes requests and sends none, so that all targets can share it."""
    return _new_client(httpx.AsyncBaseTransport(), httpx.Timeout(**timeouts))


def _new_client(transport: httpx.AsyncBaseTransport, timeouts: httpx.Timeout) -> httpx.AsyncClient:
    """A client with the settings of every request.

    The environment is not asked: httpx would take a password out of ``.netrc`` and put it in the place of
    ours. Cookies are neither kept nor sent; redirects are not followed: a signature is for one host.
    """
    _note_missing_sniffio()
    return httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=timeouts,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={
            "User-Agent": f"metastudio-tts-exporter/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        },
    )


def _note_missing_sniffio() -> None:
    """Make ``import sniffio`` fail at once where it is not installed.

    httpcore 1.0 tries that import four times a request, and has no setting for it. Python remembers modules
    that it found, but not those that it did not find: each time it searches the whole path. Measured for each
    try: 39.6 µs without this entry, 1.5 µs with it; a sixth of the CPU of a request. To depend on sniffio
    would have the same effect, with one more package to install and to keep up to date.
    """
    if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]  # what Python documents for "not there"
