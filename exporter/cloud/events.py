"""What the cloud client reports about its requests. It calls a protocol; metrics are made in
``exposition``.
"""

from __future__ import annotations

from typing import Literal, Protocol

from exporter.errors import ApiError

Operation = Literal[
    "list_jobs", "get_job", "create_token", "get_project", "get_credentials", "get_service_configs"
]
OPERATIONS: tuple[Operation, ...] = ("list_jobs", "get_job", "create_token", "get_project", "get_credentials")
"""Those of a running exporter, and so label values of its metrics. ``doctor`` asks one thing more."""


class ApiEvents(Protocol):
    """Receives what happens to one target's requests. ``exposition.ApiMetrics(...).target(name)`` makes
    one.
    """

    def request(self, operation: str, code: str, seconds: float) -> None:
        """One attempt ended after ``seconds``; ``code`` is the HTTP status, or ``none`` without an answer."""

    def error(self, error: ApiError) -> None:
        """One attempt at ``error.operation`` failed. Copy what is needed: it keeps its stack alive."""

    def retry(self, operation: str) -> None:
        """One more attempt is about to be made."""

    def throttle_wait(self, seconds: float) -> None:
        """Time spent waiting for the rate limit or for Retry-After."""

    def rate_limit(self, requests_per_second: float) -> None:
        """The rate limit in force."""

    def credentials_rejected(self, rejected: bool) -> None:
        """Whether the API refuses the credentials at present."""

    def access_denied(self, denied: bool) -> None:
        """Whether the API knows the credentials and does not allow them what this target asks for."""

    def credentials_expiry(self, timestamp: float | None) -> None:
        """When the token or temporary keys end, Unix seconds; ``None`` for permanent keys."""
