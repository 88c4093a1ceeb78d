"""Rate limit, password and response headers, before any path is looked at.

Knows what the web configuration says at this moment; must not know the paths. All of them are protected,
``/-/healthy`` too, as in exporter-toolkit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.bounded import BoundedDict
from exporter.web.access.basic_auth import AuthResult, BasicAuth
from exporter.web.access.clients import client_of
from exporter.web.access.config import RateLimit, WebConfig

MAX_CLIENTS: Final = 4096
"""The longest unused one is dropped first."""

BucketKey = tuple[str, bytes | None]
"""An address, and the user whose right password it sent, if any."""


class ClientRateLimiter:
    """A token bucket for each client, so that nobody can use up what another one needs.

    It never waits, but says how long the client has to: ``RateLimiter`` of the cloud package waits.
    """

    def __init__(self, limit: RateLimit, monotonic: Callable[[], float]) -> None:
        self.limit = limit
        self._monotonic = monotonic
        self._buckets = BoundedDict[BucketKey, tuple[float, float]](limit=MAX_CLIENTS)

    def __len__(self) -> int:
        """Clients that are remembered."""
        return len(self._buckets)

    def wait(self, key: BucketKey) -> float:
        """Takes a token and returns 0, or returns the seconds until there is one."""
        now = self._monotonic()
        tokens, then = self._buckets.get(key, (float(self.limit.burst), now))
        tokens = min(self.limit.burst, tokens + (now - then) / self.limit.interval)
        enough = tokens >= 1
        self._buckets.remember(key, (tokens - 1 if enough else tokens, now))
        return 0.0 if enough else (1 - tokens) * self.limit.interval


class AccessMiddleware:
    """ASGI middleware: only requests that may be answered reach the application behind it."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Callable[[], WebConfig],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._monotonic = monotonic
        self._rate_limiter: ClientRateLimiter | None = None
        self.basic_auth = BasicAuth()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._settings()
        if settings.headers:
            send = _with_headers(send, settings.headers)
        refusal = await self._refusal(settings, scope)
        await (refusal or self._app)(scope, receive, send)

    def close(self) -> None:
        """The program is about to end: refuse requests that wait for their password to be compared."""
        self.basic_auth.queue.close()

    async def _refusal(self, settings: WebConfig, scope: Scope) -> Response | None:
        client = client_of((scope.get("client") or ("",))[0])
        header = Headers(scope=scope).get("authorization", "") if settings.users else ""
        if settings.rate_limit is not None:
            if self._rate_limiter is None or self._rate_limiter.limit != settings.rate_limit:
                self._rate_limiter = ClientRateLimiter(settings.rate_limit, self._monotonic)
            # A client whose password is right shares no bucket with others at its address that guess.
            user = self.basic_auth.known_user(settings.users, header) if settings.users else None
            wait = self._rate_limiter.wait((client, user))
            if wait > 0:
                return _too_many(wait)
        if not settings.users:
            return None
        match await self.basic_auth.check(settings.users, header, client):
            case AuthResult.ACCEPTED:
                return None
            case AuthResult.TOO_MANY_WAIT:
                return _too_many(1.0)
            case AuthResult.REFUSED:
                return PlainTextResponse(
                    "unauthorized: user name and password needed\n", 401, {"WWW-Authenticate": "Basic"}
                )


def _too_many(wait: float) -> Response:
    return PlainTextResponse("too many requests\n", 429, {"Retry-After": str(math.ceil(wait))})


def _with_headers(send: Send, headers: tuple[tuple[str, str], ...]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            for name, value in headers:
                if value:
                    answer[name] = value
                else:
                    del answer[name]
        await send(message)

    return send_with_headers
