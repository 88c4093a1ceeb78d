"""``/metrics``: one scrape, negotiated.

Knows the exposition and the headers of a scrape; knows no other path.
"""

from __future__ import annotations

import gzip

from starlette.requests import Request
from starlette.responses import Response

from exporter.exposition import Exposition
from exporter.web.negotiation import accepts_gzip, choose_format


def scrape(request: Request, exposition: Exposition) -> Response:
    """The answer to GET and HEAD."""
    form = choose_format(", ".join(request.headers.getlist("accept")))
    body = exposition.render(form, frozenset(request.query_params.getlist("name[]")))
    headers = {"content-type": form.value, "vary": "Accept, Accept-Encoding"}
    if accepts_gzip(", ".join(request.headers.getlist("accept-encoding"))):
        body = gzip.compress(body, compresslevel=4, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, headers=headers)
