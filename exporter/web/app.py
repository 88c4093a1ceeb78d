"""All paths of the server: metrics, status, health, reload.

Knows paths, methods, status codes and headers; must not know the cloud, the store or the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.errors import ExporterError
from exporter.exposition import Exposition
from exporter.status import Status
from exporter.web.lifecycle import (
    HEALTHY_PATH,
    READY_PATH,
    RELOAD_METHODS,
    RELOAD_PATH,
    ReloadFunction,
    lifecycle_routes,
)
from exporter.web.scrape import Scrape
from exporter.web.status_routes import STATUS_PATH, StatusRoutes

_OTHER_PATHS = (HEALTHY_PATH, READY_PATH, RELOAD_PATH, STATUS_PATH)
_HEADERS = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


def create_app(
    *,
    exposition: Exposition,
    ready: Callable[[], bool],
    status: Callable[[], Status] | None = None,
    reload: ReloadFunction | None = None,
    telemetry_path: str,
) -> Starlette:
    """The application. Raises ExporterError when ``telemetry_path`` cannot be one."""
    check_telemetry_path(telemetry_path)

    routes = [
        Route(telemetry_path, Scrape(exposition), methods=["GET"]),
        *lifecycle_routes(ready=ready, reload=reload),
    ]
    if status is not None:
        links = {"Metrics": telemetry_path, "JSON": STATUS_PATH, "Health": HEALTHY_PATH, "Ready": READY_PATH}
        routes += StatusRoutes(status, links).routes(page=telemetry_path != "/")
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_SecurityHeaders)],
        exception_handlers={HTTPException: _plain_error},
    )
    app.router.redirect_slashes = False  # /metrics/ is not found, instead of redirected
    return app


async def _plain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for nothing else
    headers = dict(error.headers or {})
    if error.status_code == 405:
        methods = RELOAD_METHODS if request.url.path == RELOAD_PATH else ("GET", "HEAD")
        headers["Allow"] = ", ".join(methods)
        return PlainTextResponse(f"method not allowed: use {' or '.join(methods)}\n", 405, headers)
    if error.status_code == 404:
        return PlainTextResponse("not found\n", 404, headers)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers)


def check_telemetry_path(path: str) -> None:
    """Raises ExporterError when the metrics cannot have this path."""
    usable = path.startswith("/") and not any(
        c in "{}?#%\\" or c.isspace() or not c.isprintable() for c in path
    )
    if not usable or path in _OTHER_PATHS:
        raise ExporterError(
            f"--web.telemetry-path {path!r}: must be a plain path such as /metrics, and not one of"
            f" {', '.join(_OTHER_PATHS)}"
        )


class _SecurityHeaders:
    """ASGI middleware that adds strict headers to every response; a header that it has already stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
