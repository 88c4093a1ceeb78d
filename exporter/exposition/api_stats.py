"""What this process saw of the cloud's API: counts kept per target, handed out as immutable snapshots.

Receives the client's facts (``cloud.events.ApiEvents``); knows neither HTTP nor any metric's name.
Everything it keeps is bounded: unknown kinds and codes fold into ``other``, unknown operations are dropped.
"""

from __future__ import annotations

import bisect
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from exporter.cloud import OPERATIONS
from exporter.errors import ApiError, ErrorKind
from exporter.ledger import OTHER, Histogram

REQUEST_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of ``metastudio_api_request_duration_seconds``."""

KEPT_REQUESTS: Final = 20
"""Failed requests remembered per target, for the status page."""
_CODE_LIMIT: Final = 128
_MESSAGE_LIMIT: Final = 500

MAX_ERROR_CODES: Final = 50
"""Distinct ``error_code`` values per target; the API documents about thirty."""

_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_STATUS: Final = re.compile(r"[1-9][0-9]{2}|none", re.ASCII)
_KINDS: Final = frozenset(ErrorKind)


class FailedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One failed attempt, as ``api_errors`` of docs/status-api.md shows it.

    What the API said is untrusted text, bounded here.
    """

    time: float
    """Unix seconds, our clock."""
    target: str
    operation: str
    kind: str
    http_status: int | None
    """``None`` without an answer."""
    error_code: str
    """The API's own; empty when it gave none."""
    request_id: str
    """What Huawei's support asks for; empty when there was none."""
    message: str


class ApiView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One target's API facts at one moment. Times are Unix seconds."""

    target: str
    created: float
    """When counting began."""
    requests: Mapping[tuple[str, str], int]
    """By operation and code."""
    errors: Mapping[tuple[str, str], int]
    """By operation and kind."""
    error_codes: Mapping[str, int]
    retries: Mapping[str, int]
    durations: Mapping[str, Histogram]
    """By operation, in seconds."""
    throttle_wait: float
    rate_limit: float | None
    credentials_rejected: bool
    access_denied: bool
    credentials_expiry: float | None
    failed_requests: tuple[FailedRequest, ...] = ()
    """The last ones, newest first."""


class ApiTarget:
    """Receiver of one target's API facts (an ``ApiEvents``)."""

    def __init__(self, target: str, created: float, wall: Callable[[], float] = time.time) -> None:
        self._target = target
        self._created = created
        self._wall = wall
        self._failures: deque[FailedRequest] = deque(maxlen=KEPT_REQUESTS)
        self._requests: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[tuple[str, str]] = Counter()
        self._error_codes: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._durations = {name: [0] * (len(REQUEST_SECONDS) + 1) for name in OPERATIONS}
        self._duration_sums: dict[str, float] = dict.fromkeys(OPERATIONS, 0.0)
        self._throttle_wait = 0.0
        self._rate_limit: float | None = None
        self._rejected = False
        self._denied = False
        self._expiry: float | None = None
        self._polling = True
        self._view: ApiView | None = None

    def polling(self, polling: bool) -> None:
        """Does this process poll the target? Otherwise what is so at present is another one's to say."""
        self._polling = polling
        self._view = None

    def request(self, operation: str, code: str, seconds: float) -> None:
        if operation not in self._durations:
            return
        self._requests[operation, code if _STATUS.fullmatch(code) else OTHER] += 1
        self._durations[operation][bisect.bisect_left(REQUEST_SECONDS, seconds)] += 1
        self._duration_sums[operation] += seconds
        self._view = None

    def error(self, error: ApiError) -> None:
        operation, kind, code = error.operation, error.kind, error.code or ""
        if operation in self._durations:
            self._errors[operation, kind if kind in _KINDS else OTHER] += 1
        if code:
            self._error_codes[self._bounded(code)] += 1
        failed = FailedRequest(
            time=self._wall(),
            target=self._target,
            operation=operation,
            kind=str(kind),
            http_status=error.status,
            error_code=code[:_CODE_LIMIT],
            request_id=(error.request_id or "")[:_CODE_LIMIT],
            message=error.message[:_MESSAGE_LIMIT],
        )
        self._failures.append(failed)
        self._view = None

    def retry(self, operation: str) -> None:
        if operation in self._durations:
            self._retries[operation] += 1
        self._view = None

    def throttle_wait(self, seconds: float) -> None:
        self._throttle_wait += max(seconds, 0.0)
        self._view = None

    def rate_limit(self, requests_per_second: float) -> None:
        self._rate_limit = requests_per_second
        self._view = None

    def credentials_rejected(self, rejected: bool) -> None:
        self._rejected = rejected
        self._view = None

    def access_denied(self, denied: bool) -> None:
        self._denied = denied
        self._view = None

    def credentials_expiry(self, timestamp: float | None) -> None:
        self._expiry = timestamp
        self._view = None

    def view(self) -> ApiView:
        """The facts so far; the same object until another one arrives."""
        if self._view is None:
            self._view = ApiView(
                target=self._target,
                created=self._created,
                requests=dict(self._requests),
                errors=dict(self._errors),
                error_codes=dict(self._error_codes),
                retries=dict(self._retries),
                durations={
                    name: Histogram(REQUEST_SECONDS, tuple(counts), self._duration_sums[name])
                    for name, counts in self._durations.items()
                },
                throttle_wait=self._throttle_wait,
                rate_limit=self._rate_limit if self._polling else None,
                credentials_rejected=self._rejected and self._polling,
                access_denied=self._denied and self._polling,
                credentials_expiry=self._expiry if self._polling else None,
                failed_requests=tuple(reversed(self._failures)),
            )
        return self._view

    def _bounded(self, error_code: str) -> str:
        """The code itself while it is well-formed and there is room: it comes from outside."""
        if not _ERROR_CODE.fullmatch(error_code):
            return OTHER
        known = self._error_codes
        if error_code in known or len(known.keys() - {OTHER}) < MAX_ERROR_CODES:
            return error_code
        return OTHER


class ApiMetrics:
    """The receivers of all targets. ``created`` is the process' start, Unix seconds."""

    def __init__(self, created: float) -> None:
        self._created = created
        self._targets: dict[str, ApiTarget] = {}

    def target(self, name: str) -> ApiTarget:
        """The receiver of this target; the same one each time, so counts survive a reload."""
        return self._targets.setdefault(name, ApiTarget(name, self._created))

    def remove(self, name: str) -> None:
        """Drop what was counted of a target that is no longer configured."""
        self._targets.pop(name, None)

    def views(self) -> tuple[ApiView, ...]:
        return tuple(target.view() for target in self._targets.values())
