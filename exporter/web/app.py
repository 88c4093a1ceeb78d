"""The HTTP surface: metrics, health, landing page.

Knows paths, methods, status codes and headers; reads the exposition and asks whether we are ready.
Must not know the cloud, the store or the books.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.errors import ExporterError
from exporter.exposition import Exposition
from exporter.web.lifecycle import (
    HEALTHY_PATH,
    READY_PATH,
    RELOAD_METHODS,
    RELOAD_PATH,
    Reload,
    lifecycle_routes,
)
from exporter.web.scrape import Scrape

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}

_LANDING = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>MetaStudio TTS exporter</title>
<style>body {{ font-family: sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }}</style>
</head>
<body>
<h1>MetaStudio TTS exporter</h1>
<p>Prometheus exporter for the text-to-speech jobs of Huawei Cloud MetaStudio, version {version}.</p>
<ul>
<li><a href="{metrics}">Metrics</a></li>
<li><a href="{healthy}">Health</a></li>
<li><a href="{ready}">Readiness</a></li>
</ul>
</body>
</html>
"""


def create_app(
    *,
    exposition: Exposition,
    ready: Callable[[], bool],
    reload: Reload | None = None,
    telemetry_path: str,
    version: str,
) -> Starlette:
    """The application. Raises ExporterError when ``telemetry_path`` cannot be one."""
    _check_path(telemetry_path)

    def landing(request: Request) -> Response:
        texts = {"version": version, "metrics": telemetry_path, "healthy": HEALTHY_PATH, "ready": READY_PATH}
        return HTMLResponse(_LANDING.format_map({name: escape(text) for name, text in texts.items()}))

    routes = [
        Route(telemetry_path, Scrape(exposition), methods=["GET"]),
        *lifecycle_routes(ready=ready, reload=reload),
    ]
    if telemetry_path != "/":
        routes.append(Route("/", _inline(landing)))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_SecurityHeaders)],
        exception_handlers={HTTPException: _plain_error},
    )
    app.router.redirect_slashes = False  # a path that is nearly right is wrong, not elsewhere
    return app


def _inline(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Endpoint that answers in the event loop: none of ours waits, so a thread would only cost time."""

    async def endpoint(request: Request) -> Response:
        return answer(request)

    return endpoint


async def _plain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # that is what it is registered for
    headers = dict(error.headers or {})
    if error.status_code == 405:
        methods = RELOAD_METHODS if request.url.path == RELOAD_PATH else ("GET", "HEAD")
        headers["Allow"] = ", ".join(methods)
        return PlainTextResponse(f"method not allowed: use {' or '.join(methods)}\n", 405, headers)
    if error.status_code == 404:
        return PlainTextResponse("not found\n", 404, headers)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers)


def _check_path(path: str) -> None:
    usable = path.startswith("/") and not any(
        c in "{}?#%\\" or c.isspace() or not c.isprintable() for c in path
    )
    if not usable or path in (HEALTHY_PATH, READY_PATH):
        raise ExporterError(
            f"--web.telemetry-path {path!r}: must be a plain path such as /metrics, and not {HEALTHY_PATH} "
            f"or {READY_PATH}"
        )


class _SecurityHeaders:
    """Adds the same strict headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
