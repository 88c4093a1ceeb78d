"""Asks one question after the other, by the client that the exporter itself uses, and keeps what it cost.

Knows requests and how they fail; must not know what is asked for, or why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from exporter.cloud import ApiRefusedError, Client, HttpAnswer, parse_http_date
from exporter.commands.doctor.answers import RawPage, read_list
from exporter.config import TargetConfig
from exporter.errors import ApiError, CredentialsError, ErrorKind, ExporterError

_PATIENCE: Final = 120.0
"""Seconds that a question may take, with retries and the pauses of an API that throttles."""

_BAD_REQUEST: Final = 400
_CONNECTION: Final = (ErrorKind.CONNECT, ErrorKind.TLS, ErrorKind.TIMEOUT, ErrorKind.DECODE)
_IAM: Final = ("create_token", "get_project")
_ACCEPTED: Final = {"create_token": ("201",), "get_project": ("200",), "list_jobs": ("400",)}
"""By operation: answers that only good credentials get, beside a list of jobs."""

Pairs = tuple[tuple[str, object], ...]


class Unanswered(msgspec.Struct, frozen=True):
    """A question that got no answer."""

    text: str
    """Redacted, one line."""
    status: int | None
    by_rule: bool
    """The API does not allow what was asked for; otherwise something went wrong."""

    @property
    def denied(self) -> bool:
        return self.status == 403


class StoppedError(ExporterError):
    """Nothing more can be asked: no credentials, refused ones, or no way to the API."""

    def __init__(self, cause: ExporterError) -> None:
        super().__init__(str(cause))
        self.unavailable = isinstance(cause, CredentialsError) or (
            isinstance(cause, ApiError) and cause.operation == "get_credentials"
        )
        """There are no credentials: none can be read, or the machine or the pod gives none."""
        self.refused = (
            isinstance(cause, ApiError)
            and cause.kind is ErrorKind.AUTH
            and not cause.denied
            and not self.unavailable
        )
        """By the API, or by the identity service (401)."""
        self.denied = isinstance(cause, ApiError) and cause.denied
        """They are good, but not allowed to do this (403)."""
        broken = isinstance(cause, ApiError) and cause.status is None and cause.kind in _CONNECTION
        self.unreachable = cause.message if isinstance(cause, ApiError) and broken else ""
        """Name, connection, proxy or TLS: why no answer came."""


class AskEvents:
    """What the client reports while doctor asks."""

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0
        self.seconds: list[float] = []
        """Of list requests that were answered as they should be."""
        self.refusal_seconds: list[float] = []
        """Of list requests that got another answer, such as a 401."""
        self.waited = 0.0
        """For the rate limit and for an API that throttles."""
        self.throttled = 0
        """Answers with status 429."""
        self.expiry: float | None = None
        """When the credentials end, Unix seconds."""
        self.accepted = False
        """The identity service gave what was asked for, or the API judged a question (400)."""
        self._asked_iam = 0
        self._iam_error = ""

    def request(self, operation: str, code: str, seconds: float) -> None:
        self.requests += 1
        self._asked_iam += operation in _IAM
        self.accepted |= code in _ACCEPTED.get(operation, ())
        if operation == "list_jobs" and code.isdecimal():
            (self.seconds if code == "200" else self.refusal_seconds).append(seconds)

    def error(self, error: ApiError) -> None:
        self.throttled += error.status == 429
        if error.operation in _IAM:
            self._iam_error = str(error)

    @property
    def iam(self) -> tuple[int, str] | None:
        """How often the identity service was asked, and its last error; ``None`` where nothing was needed."""
        return (self._asked_iam, self._iam_error) if self._asked_iam or self._iam_error else None

    def retry(self, operation: str) -> None:
        self.retries += 1

    def throttle_wait(self, seconds: float) -> None:
        self.waited += seconds

    def rate_limit(self, requests_per_second: float) -> None:
        """It was set before the first question."""

    def credentials_rejected(self, rejected: bool) -> None:
        """The error says so, too."""

    def access_denied(self, denied: bool) -> None:
        """The error says so, too."""

    def credentials_expiry(self, timestamp: float | None) -> None:
        self.expiry = timestamp


Heard = Callable[[str, Pairs, bool, "HttpAnswer | Unanswered"], None]
"""Called with each question: its path, its parameters, whether it named a user, and what came."""


class Asker:
    """Asks the API of one target."""

    def __init__(
        self,
        client: Client,
        target: TargetConfig,
        *,
        heard: Heard = lambda *_: None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``target`` as ``HalfRate`` returned it; the client is made for it."""
        self._client = client
        self._app_user_id = target.app_user_id
        self.rate = target.rate_limit
        self._heard = heard
        self._monotonic = monotonic
        self._wall = wall
        self.answered = False
        """With a list of jobs."""
        self.skews: list[float] = []
        """The API's clock minus ours, seconds, by each ``Date``."""
        self.date: float | None = None
        """The last ``Date``, Unix seconds."""

    def now_ms(self) -> int:
        """The API's time, as far as it is known."""
        return int((self._wall() + (self.skews[0] if self.skews else 0.0)) * 1000)

    async def list(self, **pairs: object) -> RawPage | Unanswered:
        """One page, for the target's ``app_user_id``. Raises StoppedError when nothing more can be asked."""
        return await self._list(self._app_user_id, pairs)

    async def list_without_user(self, **pairs: object) -> RawPage | Unanswered:
        """The same without ``app_user_id``."""
        return await self._list(None, pairs)

    async def _list(self, user: str | None, pairs: Mapping[str, object]) -> RawPage | Unanswered:
        asked = tuple(sorted((name, value) for name, value in pairs.items() if value is not None))
        try:
            answer = await self._client.ask_list(asked, app_user_id=user, deadline=self._deadline())
            self._learn(answer)
            found = read_list(answer.body)
        except ApiError as error:
            return self._refused("tts-jobs", asked, user is not None, error)
        except CredentialsError as error:
            raise StoppedError(error) from error
        except ValueError:
            return Unanswered("the answer cannot be decoded", 200, by_rule=False)
        self.answered = True
        self._heard("tts-jobs", asked, user is not None, answer)
        return found

    async def service_configs(self) -> dict[str, object] | Unanswered:
        """The tenant's settings. Raises StoppedError."""
        try:
            answer = await self._client.ask_service_configs(deadline=self._deadline())
            found = msgspec.json.decode(answer.body, type=dict[str, object])
        except ApiError as error:
            return self._refused("service-configs", (), False, error)
        except CredentialsError as error:
            raise StoppedError(error) from error
        except ValueError:
            return Unanswered("the answer cannot be decoded", 200, by_rule=False)
        self._heard("service-configs", (), False, answer)
        return found

    def _refused(self, path: str, asked: Pairs, named_user: bool, error: ApiError) -> Unanswered:
        if isinstance(error, ApiRefusedError) and error.date is not None:
            self.date = error.date  # a wrong clock is a usual cause of a signature that is refused
            self.skews.append(error.date + 0.5 - self._wall())
        wrong_credentials = error.kind is ErrorKind.AUTH and not error.denied
        if wrong_credentials or not (self.answered or error.status == _BAD_REQUEST):
            raise StoppedError(error) from error
        refusal = Unanswered(str(error), error.status, by_rule=error.status == _BAD_REQUEST)
        self._heard(path, asked, named_user, refusal)
        return refusal

    def _learn(self, answer: HttpAnswer) -> None:
        date = parse_http_date(answer.headers.get("date"))
        if date is not None:
            self.date = date
            # Cut to whole seconds, and written somewhere between sending and receiving.
            middle = self._wall() - (self._monotonic() - (answer.sent + answer.received) / 2)
            self.skews.append(date + 0.5 - middle)

    def _deadline(self) -> float:
        return self._monotonic() + _PATIENCE + 2 / self.rate
