"""``/`` and ``/api/v1/status``: the same facts for eyes and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter.status import Status

if TYPE_CHECKING:
    from exporter.web.page import StatusPage

STATUS_PATH: Final = "/api/v1/status"
PAGE_PATH: Final = "/"
_FRESH: Final = {"cache-control": "no-store"}


class StatusRoutes:
    """Asks for the status at every request."""

    def __init__(self, status: Callable[[], Status], links: dict[str, str]) -> None:
        self._status = status
        self._links = links

    def routes(self, *, page: bool) -> list[Route]:
        """Without ``page`` only the JSON: something else has taken ``/``."""
        routes = [Route(STATUS_PATH, self._json)]
        return [*routes, Route(PAGE_PATH, self._html)] if page else routes

    @cached_property
    def _page(self) -> StatusPage:
        # Jinja2 costs a tenth of the start: whoever is only scraped does without.
        from exporter.web.page import StatusPage

        return StatusPage(self._links)

    async def _json(self, request: Request) -> Response:
        # Not msgspec.json: that refuses half a surrogate pair, which can arrive as a JSON escape.
        body = json.dumps(msgspec.to_builtins(self._status()))
        return Response(body, headers=_FRESH, media_type="application/json")

    async def _html(self, request: Request) -> Response:
        refresh = request.query_params.get("refresh") != "off"
        text = self._page.render(self._status(), refresh=refresh)
        return HTMLResponse(
            text.encode("utf-8", "replace"),  # for the same reason
            headers={**_FRESH, "content-security-policy": self._page.policy},
        )
