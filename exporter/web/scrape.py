"""``/metrics``: one scrape, negotiated.

Knows the exposition and the headers of a scrape; knows no other path.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from exporter.exposition import Exposition
from exporter.web.negotiation import accepts_gzip, choose_format


def scrape(request: Request, exposition: Exposition) -> Response:
    """The answer to GET and HEAD."""
    form = choose_format(", ".join(request.headers.getlist("accept")))
    packed = accepts_gzip(", ".join(request.headers.getlist("accept-encoding")))
    body = exposition.render(form, frozenset(request.query_params.getlist("name[]")), packed=packed)
    headers = {"content-type": form.value, "vary": "Accept, Accept-Encoding"}
    if packed:
        headers["content-encoding"] = "gzip"
    return Response(body, headers=headers)
