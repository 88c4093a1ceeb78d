"""Where requests of a target go, and what a refusal from there applies to."""

from __future__ import annotations

from typing import NamedTuple

from exporter.cloud.http.breaker import Breaker
from exporter.cloud.http.errors import ApiRefusedError
from exporter.cloud.http.rate_limit import EndpointLimiter, fingerprint
from exporter.errors import ErrorKind


class Destination(NamedTuple):
    """One endpoint as a target uses it: its rate limit, its breaker and its place."""

    limiter: EndpointLimiter
    breaker: Breaker
    place: str
    """What a refusal applies to, see the function ``place``."""

    def refused(
        self,
        credential: str,
        refusal: ApiRefusedError,
        *,
        signatures: int = 1,
        clock: bool = False,
        correctable: bool = False,
    ) -> None:
        """Note a refusal of the credentials with this fingerprint; see ``Breaker.refuse``."""
        if refusal.denied:
            self.breaker.deny(credential, self.place, refusal.message)
        elif refusal.kind is ErrorKind.AUTH:
            self.breaker.refuse(
                credential,
                self.place,
                refusal.message,
                signatures=signatures,
                clock=clock,
                correctable=correctable,
            )


def place(endpoint: str, *asked: str) -> str:
    """A fingerprint of the endpoint, and after a ``/`` one of what is asked for there."""
    return f"{fingerprint(endpoint)}/{fingerprint(*asked)}"
