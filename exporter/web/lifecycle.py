"""``/-/healthy``, ``/-/ready`` and ``/-/reload``, as in Prometheus itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.web.request_validation import from_another_site

ReloadFunction = Callable[[], Awaitable[tuple[str, ...]]]
"""Reloads the configuration. Returns why the old one stays in force; nothing after a success."""

HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"
RELOAD_PATH: Final = "/-/reload"
RELOAD_METHODS: Final = ("POST", "PUT")


def lifecycle_routes(*, ready: Callable[[], bool], reload: ReloadFunction | None) -> list[Route]:
    """The three routes. Without ``reload`` the third answers 403."""

    async def healthy(request: Request) -> Response:
        return PlainTextResponse("healthy\n")

    async def readiness(request: Request) -> Response:
        if ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready: the stored state is not loaded, or shutting down\n", 503)

    async def reloading(request: Request) -> Response:
        if from_another_site(request.headers):
            return PlainTextResponse("a page of another web site may not reload the configuration\n", 403)
        return await _reloaded(reload)

    return [
        Route(HEALTHY_PATH, healthy),
        Route(READY_PATH, readiness),
        Route(RELOAD_PATH, reloading, methods=list(RELOAD_METHODS)),
    ]


async def _reloaded(reload: ReloadFunction | None) -> Response:
    if reload is None:
        text = "the lifecycle API is not enabled: start with --web.enable-lifecycle, or send SIGHUP"
        return PlainTextResponse(f"{text}\n", 403)
    if problems := await reload():
        lines = "".join(f"{problem}\n" for problem in problems)
        return PlainTextResponse(f"reload failed, the old configuration stays in force:\n{lines}", 500)
    return PlainTextResponse("configuration reloaded\n")
