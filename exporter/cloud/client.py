"""The client of one target: ``list_jobs``, with retries inside a deadline.

Start reading the cloud package here. ``connect.py`` makes a client of a target's configuration.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import httpx
import msgspec

from exporter import log
from exporter.cloud.auth import Credential, CredentialSource, iam, signing
from exporter.cloud.clock import ApiClock
from exporter.cloud.events import ApiEvents, Operation
from exporter.cloud.http import (
    MAX_LIST_BYTES,
    ApiRefusedError,
    Breaker,
    Connections,
    Destination,
    Exchange,
    HttpAnswer,
    Network,
    NoTimeLeft,
    RateLimiter,
    place,
    too_large,
)
from exporter.cloud.records import Decoder
from exporter.cloud.redact import MessageRedactor
from exporter.cloud.session import Session
from exporter.cloud.times import format_time
from exporter.config import TargetConfig
from exporter.errors import ApiError, ErrorKind
from exporter.ledger import JobsQuery, Page

MAX_ATTEMPTS: Final = 5
_MAX_UNDECODABLE: Final = 2
"""One answer may be damaged on its way. If the second cannot be decoded either, a third would be the same."""
_FIRST_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 30.0
_THROTTLED_LEAST: Final = 2.0
"""Huawei's advice after throttling: try again after 2 to 5 seconds."""
_THROTTLED_SPREAD: Final = 3.0
_LIMITED: Final = frozenset[str](
    ("list_jobs", "get_job", "create_token", "get_project", "get_service_configs")
)
"""Operations that the rate limit applies to. (``get_credentials`` asks the machine itself.)"""
_JOBS: Final = "ttsc/tts-jobs"
_SERVICE_CONFIGS: Final = "tenants/service-configs"
_PROJECT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

_T = TypeVar("_T")


class Client:
    """Lists the jobs of one target. Use from one event loop; ``aclose`` when done."""

    def __init__(
        self,
        target: TargetConfig,
        *,
        credentials: CredentialSource,
        limiter: RateLimiter,
        breaker: Breaker,
        events: ApiEvents,
        network: Network,
        redactor: log.Redactor,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._target = target
        self._limiter = limiter
        self._events = events
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._clock = ApiClock(monotonic, wall)
        self._decoder = Decoder(target.time_zone)
        self._project_id = target.project_id
        self._connections = Connections(network, transport=transport)
        self._jobs = Destination(limiter.at(iam.host(target.endpoint)), breaker, scope(target))
        region = place(target.iam_endpoint, target.region)
        self._iam = Destination(limiter.at(iam.endpoint(target)), breaker, region)
        self._session = Session(
            Exchange(self._connections, events, monotonic, wall, redactor),
            credentials,
            events,
            self._clock,
            target=target.name,
            monotonic=monotonic,
            wall=wall,
        )
        self._reported_rate = 0.0
        self._report_rate()

    @property
    def clock(self) -> ApiClock:
        """The API's clock, learned from valid list answers."""
        return self._clock

    @property
    def project_id(self) -> str | None:
        """From the configuration, the credentials or a request to IAM; ``None`` until it is known."""
        return self._project_id

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        """One page. ``deadline`` is on the monotonic clock; nothing is sent or waited for after it.

        Bounds finer than the target's ``time_format`` are widened to it (seconds, unless ``unix_ms``).
        With ``time_filters: false`` they are not sent. Raises ApiError with the last real reason, or
        CredentialsError when there is nothing to authenticate with.
        """
        operation: Operation = "list_jobs" if query.job_id is None else "get_job"
        answer, page = await self._with_retries(
            operation,
            lambda: self._call(
                operation,
                _JOBS,
                self._pairs(query),
                self._target.app_user_id,
                lambda answer, redact: (answer, self._read_page(answer, redact, query)),
                self._jobs,
                deadline,
            ),
            deadline,
        )
        # Only good answers teach the clock: an error may come from a proxy with a clock of its own.
        self._learn_time(answer, latest_created(page, query))
        return page

    async def ask_list(
        self, pairs: Iterable[tuple[str, object]], *, app_user_id: str | None, deadline: float
    ) -> HttpAnswer:
        """A list request with these parameters alone, whatever the target's configuration says: its answer as
        it came, which is a list. Raises as ``list_jobs`` does.
        """
        pairs = list(pairs)
        to = self._jobs._replace(place=scope(msgspec.structs.replace(self._target, app_user_id=app_user_id)))

        def read(answer: HttpAnswer, redact: MessageRedactor) -> HttpAnswer:
            self._read_page(answer, redact, JobsQuery())
            return answer

        answer = await self._with_retries(
            "list_jobs",
            lambda: self._call("list_jobs", _JOBS, pairs, app_user_id, read, to, deadline),
            deadline,
        )
        self._learn_time(answer, None)
        return answer

    async def ask_service_configs(self, *, deadline: float) -> HttpAnswer:
        """The tenant's settings (docs/api.md), which need a permission of their own. Raises as above."""
        target = self._target
        to = self._jobs._replace(place=place(target.endpoint, target.region, _SERVICE_CONFIGS))
        return await self._with_retries(
            "get_service_configs",
            lambda: self._call(
                "get_service_configs", _SERVICE_CONFIGS, (), None, lambda answer, _: answer, to, deadline
            ),
            deadline,
        )

    async def _with_retries(
        self, operation: Operation, attempt_once: Callable[[], Awaitable[_T]], deadline: float
    ) -> _T:
        self._report_rate()
        last: ApiError | None = None
        undecodable = 0
        for attempt in itertools.count(1):
            try:
                return await attempt_once()
            except NoTimeLeft as error:
                error.operation = operation
                raise (last or error) from None
            except TimeoutError:
                why = "other requests with these credentials were in the way"
                raise last or self._no_time(operation, why) from None
            except ApiError as error:
                error.operation = error.operation or operation
                undecodable += error.kind is ErrorKind.DECODE
                spent = attempt >= MAX_ATTEMPTS or undecodable >= _MAX_UNDECODABLE
                await self._wait_for_retry(error, attempt, operation, deadline, spent=spent)
                last = error
        raise AssertionError("unreachable")  # pragma: no cover

    async def _call(
        self,
        operation: Operation,
        path: str,
        pairs: Iterable[tuple[str, object]],
        app_user_id: str | None,
        read: Callable[[HttpAnswer, MessageRedactor], _T],
        to: Destination,
        deadline: float,
    ) -> _T:
        """One attempt at a GET request below the project's path."""
        if self._monotonic() >= deadline:
            raise self._no_time(operation, "this request was not sent")
        credential = await self._in_time(self._session.credential(), operation, deadline)
        project_id = self._project_id
        if project_id is None:
            project_id = self._project_id = await self._find_project(credential, deadline)
            credential = await self._in_time(self._session.credential(), operation, deadline)
        # As text: httpx would write blanks as ``+``, and not sort as the signature does.
        query = signing.canonical_query(list(pairs))
        url = f"{self._target.endpoint}/v1/{signing.encode(project_id)}/{path}{'?' if query else ''}{query}"
        headers = {b"X-App-UserId": app_user_id.encode()} if app_user_id else {}
        return await self._session.call(
            operation,
            lambda: self._connections.build_request("GET", url, headers=headers),
            read,
            to=to,
            credential=credential,
            project_id=project_id,
            deadline=deadline,
        )

    def _learn_time(self, answer: HttpAnswer, newest: int | None) -> None:
        headers = answer.headers
        self._clock.observe(headers.get("date"), headers.get("age"), answer.sent, answer.received, newest)

    async def _in_time(self, awaitable: Awaitable[_T], operation: Operation, deadline: float) -> _T:
        try:
            async with asyncio.timeout(max(deadline - self._monotonic(), 0.0)):
                return await awaitable
        except TimeoutError:
            raise self._no_time(operation, "no credentials in time") from None

    async def _find_project(self, credential: Credential, deadline: float) -> str:
        if credential.project_id:
            return _checked_project(credential.project_id)
        found = await self._session.call(
            "get_project",
            lambda: self._connections.build_request("GET", iam.project_url(self._target)),
            lambda answer, redact: iam.read_project(answer, redact, self._target.region),
            to=self._iam,
            credential=credential,
            project_id=None,
            deadline=deadline,
        )
        return _checked_project(found)

    def _read_page(self, answer: HttpAnswer, redact: MessageRedactor, query: JobsQuery) -> Page:
        try:
            if answer.cut:
                raise too_large(answer.status, MAX_LIST_BYTES)
            page = self._decoder.decode(answer.body, redact=redact)
        except ApiError as error:
            alone = query.limit == 1 and error.kind is ErrorKind.TOO_LARGE
            record = self._decoder.decode_beginning(answer.body, redact=redact) if alone else None
            if record is None:
                raise
            return Page((record,))
        return page

    def _pairs(self, query: JobsQuery) -> list[tuple[str, object]]:
        style, filters = self._target.time_format, self._target.filters
        pairs: dict[str, object | None] = {
            "limit": query.limit,
            "offset": query.offset,
            "job_id": query.job_id,
            "job_type": query.job_type or filters.job_type,
            "tts_service_enum": filters.tts_service_enum,
            "business_type": filters.business_type,
        }
        if self._target.time_filters and query.since is not None:
            pairs["create_since"] = format_time(query.since, style, up=False)
        if self._target.time_filters and query.until is not None:
            pairs["create_until"] = format_time(query.until, style, up=True)
        return [(name, value) for name, value in pairs.items() if value is not None]

    async def _wait_for_retry(
        self, error: ApiError, attempt: int, operation: Operation, deadline: float, *, spent: bool
    ) -> None:
        """Return when it is time for one more attempt; raise ``error`` when there is to be none."""
        wait = self._backoff(error, attempt)
        throttled = error.kind is ErrorKind.THROTTLED and error.operation in _LIMITED
        if throttled:
            # All targets with these credentials pause there: refused requests count against the limit, too.
            to = self._jobs if error.operation == operation else self._iam
            to.limiter.pause(self._target.name, wait, error.message)
        if spent or not error.retryable or self._monotonic() + wait >= deadline:
            raise error
        self._events.retry(operation)
        if not throttled:
            await self._sleep(wait)
            if error.retry_after is not None:
                self._events.throttle_wait(wait)

    def _backoff(self, error: ApiError, attempt: int) -> float:
        """Seconds: exponential with full jitter; what the API asks for when it says so."""
        if error.retry_after is not None:
            return error.retry_after + self._jitter()
        growth = 2.0 ** (attempt - 1)
        if error.kind is not ErrorKind.THROTTLED:
            return self._jitter() * min(_FIRST_BACKOFF * growth, _MAX_BACKOFF)
        wait = _THROTTLED_LEAST + self._jitter() * min(_THROTTLED_SPREAD * growth, _MAX_BACKOFF)
        window = error.window if isinstance(error, ApiRefusedError) else None
        return wait if window is None else min(wait, window)

    @staticmethod
    def _no_time(operation: Operation, why: str) -> ApiError:
        return ApiError(ErrorKind.TIMEOUT, f"the deadline passed: {why}", operation=operation)

    def _report_rate(self) -> None:
        if (rate := self._limiter.rate) != self._reported_rate:
            self._reported_rate = rate
            self._events.rate_limit(self._reported_rate)


def scope(target: TargetConfig) -> str:
    """What a refusal of this target's requests applies to; not to other regions, projects and users."""
    return place(target.endpoint, target.region, target.project_id or "", target.app_user_id or "")


def latest_created(page: Page, query: JobsQuery) -> int | None:
    """The latest ``create_time`` (milliseconds) in a page that is within the bounds asked for."""
    times = (record.create_time for record in page.records if query.job_id is None)
    since, until = query.since or 0, query.until or (1 << 62)
    return max((time for time in times if time is not None and since <= time <= until), default=None)


def _checked_project(found: str) -> str:
    """Raise ApiError unless the text is a project id: it becomes part of a path and of a label."""
    if not _PROJECT_ID.fullmatch(found):
        raise ApiError(ErrorKind.CLIENT, "the project id found is not one; set project_id")
    return found
