"""``/metrics``: one scrape, in the format and encoding that its headers ask for.

Knows the exposition and the headers of a scrape; must not know other paths. It is an ASGI application of its
own, because what Starlette builds around an endpoint would cost as much as the rest of a scrape.
"""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from exporter.errors import OldMetricsError
from exporter.exposition import Exposition
from exporter.web.negotiation import accepts_gzip, choose_format
from exporter.web.responses import PIECE_BYTES, SHARED_BODY

VARY = (b"vary", b"Accept, Accept-Encoding")
GZIP = (b"content-encoding", b"gzip")


class Scrape:
    """Answers GET; and HEAD, whose body the server leaves out."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = choose_format(_header(scope, b"accept"))
        compressed = accepts_gzip(_header(scope, b"accept-encoding"))
        names = QueryParams(scope["query_string"]).getlist("name[]") if scope["query_string"] else ()
        try:
            parts = await self._exposition.scrape(form, frozenset(names), compressed=compressed)
        except OldMetricsError as error:
            raise HTTPException(503, str(error)) from error
        headers = [
            (b"content-type", form.value.encode()),
            (b"content-length", str(parts.size).encode()),
            VARY,
        ]
        if compressed:
            headers.append(GZIP)
        await send({"type": "http.response.start", "status": 200, "headers": headers, SHARED_BODY: not names})
        if parts.size <= PIECE_BYTES:
            await send({"type": "http.response.body", "body": b"".join((*parts.shared, parts.fresh))})
            return
        for part in parts.shared:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": parts.fresh})


def _header(scope: Scope, name: bytes) -> str:
    """One list header, however many lines it came in."""
    return b", ".join(value for found, value in scope["headers"] if found == name).decode("latin-1")
