"""Every error that this program raises on purpose, as one small tree.

    ExporterError
    ├── ConfigError            the configuration has problems (all of them, at once)
    ├── ReloadError            a running exporter cannot take this configuration over
    ├── StoreError             the books cannot be read or written
    │   ├── StoreLockedError       another process holds the store, or this target of it
    │   ├── StoreUnavailableError  the database does not answer
    │   ├── StoreCorruptError      the file is damaged or not ours
    │   ├── StoreVersionError      written by a newer version of this program
    │   ├── StoreConflictError     somebody else committed in between: reload
    │   └── ScopeChangedError      the target's name belongs to other books
    ├── CredentialsError       no usable credentials could be found or obtained
    ├── NetworkSettingsError   a variable of the environment names a proxy or authorities that cannot be used
    └── ApiError               one request to the cloud failed, for good or after its retries

The text of each is one line that says what is wrong and what to do; it never holds a secret.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class ExporterError(Exception):
    """Root of the tree. ``str(error)`` is one line fit for the operator's eyes."""


class Problem(NamedTuple):
    """One thing that is wrong with the configuration."""

    file: str
    line: int
    """1-based; 0 when the problem has no place in the file."""
    path: str
    """Key path such as ``targets[0].auth.aksk``; empty for the whole file."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ConfigError(ExporterError):
    """The configuration cannot be used; ``problems`` holds every reason found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class ReloadError(ExporterError):
    """A valid configuration that cannot be put in force, by a start or a reload; ``problems`` says why."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StoreError(ExporterError):
    """The store cannot be read or written (disk full, permissions, ...)."""


class NothingCountedError(StoreError):
    """Nothing was counted for the target yet."""


class NoStoreError(NothingCountedError):
    """There is no store: nothing was counted yet."""


class StoreLockedError(StoreError):
    """Another process holds the store."""


class StoreUnavailableError(StoreError):
    """The database does not answer, or lets nobody in, for now. Logged once for all targets."""


class StoreCorruptError(StoreError):
    """The store's file is damaged, or belongs to another program."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of this program. Logged once for all targets."""


class StoreConflictError(StoreError):
    """Somebody else committed to these books since they were loaded."""


class ScopeChangedError(StoreError):
    """The target's region, project, app user or filters differ from those its books were kept for."""


class OldMetricsError(ExporterError):
    """The metrics could not be written for so long that the last ones are no answer any more."""


class CredentialsError(ExporterError):
    """No credentials, or none that can be used; says which source was tried and why it failed."""


class NetworkSettingsError(ExporterError):
    """The environment names a proxy or certificate authorities that cannot be used; says which variable."""


class ErrorKind(StrEnum):
    """Label ``kind`` of ``metastudio_api_errors_total``: a closed set."""

    TIMEOUT = "timeout"
    CONNECT = "connect"
    TLS = "tls"
    THROTTLED = "throttled"
    AUTH = "auth"
    CLIENT = "client"
    SERVER = "server"
    DECODE = "decode"
    REDIRECT = "redirect"
    TOO_LARGE = "too_large"
    OTHER = "other"


class ApiError(ExporterError):
    """One request to the cloud that failed.

    ``status`` is the HTTP status (``None`` without an answer), ``code`` the API's own code such as
    ``APIG.0308`` or ``MSS.000000003``, ``message`` its text (bounded, control characters escaped),
    ``request_id`` what Huawei's support asks for. ``retry_after`` is in seconds, when the API said so.
    ``denied``: of kind ``auth``, the credentials are good but not allowed to do this (HTTP 403).
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        operation: str = "",
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        denied: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.operation = operation
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after = retry_after
        self.denied = denied

    def __str__(self) -> str:
        facts = [f"{self.kind}"]
        if self.status is not None:
            facts.append(f"HTTP {self.status}")
        if self.code:
            facts.append(self.code)
        if self.request_id:
            facts.append(f"request id {self.request_id}")
        return f"{self.operation or 'request'}: {self.message} ({', '.join(facts)})"
