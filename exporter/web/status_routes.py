"""``/`` and ``/api/v1/status``: the same facts as a page and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter.errors import ExporterError
from exporter.status import Status

if TYPE_CHECKING:
    from exporter.status.page import StatusPage

STATUS_PATH: Final = "/api/v1/status"
PAGE_PATH: Final = "/"
_FRESH: Final = {"cache-control": "no-store"}

KEPT_SECONDS: Final = 1.0
"""A page costs milliseconds: a client that asks for it in a loop must not keep scrapes waiting."""


def check_status_page() -> None:
    """Raises ExporterError when the page cannot be shown: a start does not load what it needs."""
    try:
        from exporter.status.page import StatusPage

        StatusPage({})
    except (ImportError, OSError) as error:
        raise ExporterError(
            f"the status page cannot be shown, the rest can: {error}: install the exporter again"
        ) from error


class StatusRoutes:
    """Makes each form of the status once a second at most, however often it is asked for."""

    def __init__(
        self,
        status: Callable[[], Status],
        links: dict[str, str],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._links = links
        self._monotonic = monotonic
        self._kept: dict[str, tuple[float, bytes]] = {}

    def routes(self, *, page: bool) -> list[Route]:
        """Without ``page`` only the JSON, where the metrics have the path ``/``."""
        routes = [Route(STATUS_PATH, self._json)]
        return [*routes, Route(PAGE_PATH, self._html)] if page else routes

    @cached_property
    def _page(self) -> StatusPage:
        # Not at the top: importing Jinja2 takes a tenth of the start, and many installations are only
        # scraped.
        from exporter.status.page import StatusPage

        return StatusPage(self._links)

    def _body(self, name: str, make: Callable[[], bytes]) -> bytes:
        made_at, body = self._kept.get(name, (float("-inf"), b""))
        if self._monotonic() - made_at >= KEPT_SECONDS:
            body = make()
            self._kept[name] = self._monotonic(), body
        return body

    async def _json(self, request: Request) -> Response:
        # Not msgspec.json: it refuses half a surrogate pair, which the cloud can send as a JSON escape.
        body = self._body("json", lambda: json.dumps(msgspec.to_builtins(self._status())).encode())
        return Response(body, headers=_FRESH, media_type="application/json")

    async def _html(self, request: Request) -> Response:
        refresh = request.query_params.get("refresh") != "off"

        def page() -> bytes:
            text = self._page.render(self._status(), refresh=refresh)
            return text.encode("utf-8", "replace")  # for the same reason

        return HTMLResponse(
            self._body(f"html {refresh}", page),
            headers={**_FRESH, "content-security-policy": self._page.policy},
        )
