"""Where requests of a target go, and what a refusal from there concerns."""

from __future__ import annotations

from typing import NamedTuple

from exporter.cloud.http.breaker import Breaker
from exporter.cloud.http.errors import ApiRefusedError
from exporter.cloud.http.rate_limit import EndpointLimiter, fingerprint
from exporter.errors import ErrorKind


class Destination(NamedTuple):
    """Where requests of a target go, and what an answer from there speaks of."""

    limiter: EndpointLimiter
    breaker: Breaker
    place: str
    """What a refusal concerns, see ``place``."""

    def refused(
        self, credential: str, refusal: ApiRefusedError, *, signatures: int = 1, correctable: bool = False
    ) -> None:
        """Take note of a refusal that speaks of the credentials with this fingerprint."""
        if refusal.denied:
            self.breaker.deny(credential, self.place, refusal.message)
        elif refusal.kind is ErrorKind.AUTH:
            self.breaker.refuse(
                credential, self.place, refusal.message, signatures=signatures, correctable=correctable
            )


def place(endpoint: str, *asked: str) -> str:
    """Tells the endpoint, and after a ``/`` what is asked for there; reveals neither."""
    return f"{fingerprint(endpoint)}/{fingerprint(*asked)}"
