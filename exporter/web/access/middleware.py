"""Who gets an answer: rate limit, password, response headers, before any of our pages is reached.

Knows what the web configuration says at this moment; must not know the pages. Every path is guarded, also the
health of the process, as in exporter-toolkit.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.web.access.basic_auth import BasicAuth, Verdict
from exporter.web.access.clients import client_of
from exporter.web.access.config import RateLimit, WebConfig

CLIENTS: Final = 4096
"""Buckets remembered; the longest unused one goes first."""

Client = tuple[str, bytes | None]
"""An address, and the user for whom it has shown the password."""


class Buckets:
    """A token bucket for each client, so that nobody can use up what another one needs."""

    def __init__(self, limit: RateLimit, monotonic: Callable[[], float]) -> None:
        self.limit = limit
        self._monotonic = monotonic
        self._buckets: OrderedDict[Client, tuple[float, float]] = OrderedDict()

    def wait(self, client: Client) -> float:
        """Takes a token and returns 0, or the seconds until there is one."""
        now = self._monotonic()
        tokens, then = self._buckets.pop(client, (float(self.limit.burst), now))
        tokens = min(self.limit.burst, tokens + (now - then) / self.limit.interval)
        enough = tokens >= 1
        self._buckets[client] = (tokens - 1 if enough else tokens, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if enough else (1 - tokens) * self.limit.interval


class AccessMiddleware:
    """An ASGI application in front of another one."""

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
        self._buckets: Buckets | None = None
        self.gatekeeper = BasicAuth()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._settings()
        if settings.headers:
            send = _with_headers(send, settings.headers)
        refusal = await self._refusal(settings, scope)
        await (refusal or self._app)(scope, receive, send)

    def close(self) -> None:
        """The program is about to end: nobody waits for a password any more."""
        self.gatekeeper.queue.close()

    async def _refusal(self, settings: WebConfig, scope: Scope) -> Response | None:
        client = client_of((scope.get("client") or ("",))[0])
        header = Headers(scope=scope).get("authorization", "") if settings.users else ""
        if settings.rate_limit is not None:
            if self._buckets is None or self._buckets.limit != settings.rate_limit:
                self._buckets = Buckets(settings.rate_limit, self._monotonic)
            # Who was let in before shares no bucket with those who guess from the same address.
            user = self.gatekeeper.accepted(settings.users, header) if settings.users else None
            wait = self._buckets.wait((client, user))
            if wait > 0:
                return _too_many(wait)
        if not settings.users:
            return None
        match await self.gatekeeper.judge(settings.users, header, client):
            case Verdict.WELCOME:
                return None
            case Verdict.TOO_MANY:
                return _too_many(1.0)
            case Verdict.UNKNOWN:
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
