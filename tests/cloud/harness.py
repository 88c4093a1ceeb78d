"""One target's client without sockets: a handler answers its requests, sleep moves its clock on.

For tests of what the client sends and makes of an answer: status, headers and body are the test's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from email.utils import formatdate
from typing import Any, TypeVar

import httpx

from exporter import log
from exporter.cloud.client import Client
from exporter.cloud.connect import build_client, network_of
from exporter.cloud.shared_limits import SharedLimits
from exporter.config import AkskAuth, Secret, TargetConfig
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery, Page

START = 1_763_539_200.0  # 2025-11-19T08:00:00Z
AK, SK = "AKEXAMPLE0000000TEST", "SkExample/abcdefghijklmnopqrstuvwxyz+0123"
PROJECT = "3f0924078d1b471c884a5383d4dec9fa"
ENDPOINT = "https://metastudio.cn-north-4.myhuaweicloud.com"
IAM = "https://iam.cn-north-4.myhuaweicloud.com"

Reply = httpx.Response | Exception
Handler = Callable[[httpx.Request], Reply | Awaitable[Reply]]

_T = TypeVar("_T")


class FakeTime:
    """Monotonic and wall clock together; sleeping moves both on at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_offset = START - 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.wall_offset

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Events:
    """Keeps what the client reports."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.errors: list[tuple[str, str, str | None]] = []
        self.error_details: list[dict[str, object]] = []
        self.retries: list[str] = []
        self.waited = 0.0
        self.rates: list[float] = []
        self.rejected: bool | None = None
        self.denied: bool | None = None
        self.expiry: float | None = None

    def request(self, operation: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((operation, code))

    def error(self, error: ApiError) -> None:
        self.errors.append((error.operation, str(error.kind), error.code))
        self.error_details.append(
            {"status": error.status, "request_id": error.request_id, "message": error.message}
        )

    def retry(self, operation: str) -> None:
        self.retries.append(operation)

    def throttle_wait(self, seconds: float) -> None:
        self.waited += seconds

    def rate_limit(self, requests_per_second: float) -> None:
        self.rates.append(requests_per_second)

    def credentials_rejected(self, rejected: bool) -> None:
        self.rejected = rejected

    def access_denied(self, denied: bool) -> None:
        self.denied = denied

    def credentials_expiry(self, timestamp: float | None) -> None:
        self.expiry = timestamp


def client_of(
    config: TargetConfig,
    *,
    environ: Mapping[str, str],
    redactor: log.Redactor | None = None,
    **options: Any,
) -> Client:
    """The client, with the proxies and certificates of that environment."""
    redactor = redactor or log.Redactor()
    network = network_of([config], environ, redactor)
    return build_client(config, environ=environ, network=network, redactor=redactor, **options)


class ClientHarness:
    """One target's client against a handler, with the clock, events and requests within reach."""

    def __init__(
        self,
        handler: Handler,
        *,
        shared: SharedLimits | None = None,
        environ: Mapping[str, str] | None = None,
        **options: object,
    ) -> None:
        self.time = FakeTime()
        self.events = Events()
        self.requests: list[httpx.Request] = []
        self.environ = environ or {}
        self.handler = handler
        self.shared = shared or SharedLimits(
            claims=None, monotonic=self.time.monotonic, wall=self.time.wall, sleep=self.time.sleep
        )
        self.client = self.connect(target(**options))

    def connect(
        self, config: TargetConfig, handler: Handler | None = None, events: Events | None = None
    ) -> Client:
        """One more client with the same clock."""
        return client_of(
            config,
            events=events or self.events,
            shared=self.shared,
            environ=self.environ,
            monotonic=self.time.monotonic,
            wall=self.time.wall,
            sleep=self.time.sleep,
            jitter=lambda: 0.5,
            transport=httpx.MockTransport(self._answer(handler or self.handler)),
        )

    def _answer(self, handler: Handler) -> Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]:
        async def answer(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            reply = handler(request)
            if not isinstance(reply, httpx.Response | Exception):
                reply = await reply
            if isinstance(reply, Exception):
                raise reply
            return reply

        return answer

    async def list_jobs(self, query: JobsQuery | None = None, *, seconds: float = 120.0) -> Page:
        return await self.client.list_jobs(query or JobsQuery(), deadline=self.time.now + seconds)

    def date(self, offset: float = 0.0) -> str:
        return formatdate(self.time.wall() + offset, usegmt=True)


def target(**options: object) -> TargetConfig:
    """A target with made-up keys; ``options`` replace its settings."""
    settings: dict[str, Any] = {
        "name": "production",
        "region": "cn-north-4",
        "endpoint": ENDPOINT,
        "iam_endpoint": IAM,
        "project_id": PROJECT,
        "rate_limit": 1000.0,
        "auth": AkskAuth(Secret(AK), Secret(SK)),
        **options,
    }
    return TargetConfig(**settings)


def script(replies: Iterable[Reply]) -> Handler:
    """One reply after the other; the last one for ever."""
    left = list(replies)

    def handler(request: httpx.Request) -> Reply:
        return left.pop(0) if len(left) > 1 else left[0]

    return handler


def reply(status: int = 200, body: object = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    return httpx.Response(status, content=content, headers=dict(headers or {}))


def gateway(status: int, code: str, text: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return reply(status, {"error_msg": text, "error_code": code, "request_id": "body-id"}, named)


def jobs(*ids: str) -> httpx.Response:
    return reply(200, {"count": len(ids), "data": [{"job_id": job_id} for job_id in ids]})


def run(coroutine: Coroutine[None, None, _T]) -> _T:
    return asyncio.run(coroutine)
