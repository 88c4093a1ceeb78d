"""Requests in the name of one target: its credentials, its rate, and what a refusal still allows.

Knows when one more attempt may help at once (a corrected clock, a new token) and when the credentials must
not be used again. Attempts after a wait are made in ``client.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple, TypeVar

import httpx

from exporter.cloud.auth import (
    Credential,
    CredentialSource,
    KeyPair,
    auth_for,
)
from exporter.cloud.clock import ApiClock
from exporter.cloud.events import ApiEvents, Operation
from exporter.cloud.http import (
    ApiRefusedError,
    CredentialUse,
    Destination,
    Exchange,
    HttpAnswer,
    NoTimeLeft,
    Remedy,
)
from exporter.cloud.redact import MessageRedactor
from exporter.errors import ApiError, CredentialsError, ErrorKind

_NOTABLE: Final = 60.0
"""The gateway tolerates 15 minutes; below one minute our own clock is as good as theirs."""

_T = TypeVar("_T")


class Session:
    """Sends requests with the target's credentials, and reports whether they are accepted."""

    def __init__(
        self,
        exchange: Exchange,
        credentials: CredentialSource,
        events: ApiEvents,
        clock: ApiClock,
        *,
        target: str,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._events = events
        self._clock = clock
        self._target = target
        self._monotonic = monotonic
        self._wall = wall
        self._accepted: float | None = None
        """The time of the last signature that was accepted, minus the monotonic clock; preferred to
        ``Date``."""
        self._corrected: float | None = None
        """As ``_accepted``: the time that a refusal showed, until an answer shows whether it is right."""

    async def credential(self) -> Credential:
        """The credentials of the moment. Raises CredentialsError, ApiError."""
        try:
            credential = await self._credentials.get()
        except CredentialsError as error:
            self._events.error(ApiError(ErrorKind.AUTH, str(error), operation="get_credentials"))
            raise
        except ApiError as error:
            self._report(error)
            raise
        self._events.credentials_expiry(credential.expires)
        return credential

    def _report(self, error: ApiError) -> None:
        if error.kind is ErrorKind.AUTH:
            self._events.credentials_rejected(not error.denied)
            self._events.access_denied(error.denied)

    async def call(
        self,
        operation: Operation,
        request: Callable[[], httpx.Request],
        read: Callable[[HttpAnswer, MessageRedactor], _T],
        *,
        to: Destination,
        credential: Credential,
        project_id: str | None,
        deadline: float,
    ) -> _T:
        """One attempt, and at most one more where a refusal says what was wrong. Raises ApiError."""

        async def send(use: CredentialUse, with_: Credential, offset: float) -> _T:
            use.credential = with_.fingerprint
            async with to.limiter.slot(self._target, deadline, use) as waited:
                if waited > 0:
                    self._events.throttle_wait(waited)
                # Another request may have been refused during the wait: five bad signatures lock the key.
                to.breaker.check(with_.fingerprint, to.place)
                return await self._exchange.call(
                    operation,
                    request(),
                    read,
                    auth=auth_for(with_, project_id, lambda: self._wall() + offset),
                    secrets=with_.secrets,
                    deadline=deadline,
                )

        try:
            async with to.breaker.use(credential.fingerprint, to.place) as use:
                return await self._attempts(operation, partial(send, use), use, to, credential, deadline)
        except ApiError as error:
            self._report(error)
            raise

    async def _attempts(
        self,
        operation: Operation,
        send: Callable[[Credential, float], Awaitable[_T]],
        use: CredentialUse,
        to: Destination,
        credential: Credential,
        deadline: float,
    ) -> _T:
        offset, self._corrected = self._offset(to), None
        try:
            result = await send(credential, offset)
        except ApiRefusedError as refusal:
            async with asyncio.timeout(max(deadline - self._monotonic(), 0.0)):
                second = await self._second_attempt(refusal, credential, offset)
            if second is None:
                untold = _may_tell_the_time_next(refusal)
                to.refused(credential.fingerprint, refusal, clock=untold, correctable=untold)
                raise
            signatures = 2 if second.credential == credential else 1
            credential = second.credential
            self._events.retry(operation)
            try:
                result = await send(credential, second.offset)
            except BaseException as error:
                if isinstance(error, ApiRefusedError) and error.remedy is not Remedy.NONE:
                    self._credentials.forget(credential)
                if isinstance(error, ApiRefusedError) and error.kind is ErrorKind.AUTH:
                    clock = signatures > 1 and self._shows_another_time(error, second.offset)
                    to.refused(credential.fingerprint, error, signatures=signatures, clock=clock)
                elif signatures > 1:  # the corrected clock was not judged: only the first refusal counts
                    self._corrected = self._wall() + second.offset - self._monotonic()
                    to.refused(credential.fingerprint, refusal, clock=True, correctable=True)
                if isinstance(error, NoTimeLeft | TimeoutError):
                    raise refusal from None
                raise
            offset = second.offset
        self._accepted = to.breaker.accepted_time = self._wall() + offset - self._monotonic()
        use.accept()
        self._events.credentials_rejected(False)
        self._events.access_denied(False)
        return result

    async def _second_attempt(
        self, refusal: ApiRefusedError, credential: Credential, offset: float
    ) -> _SecondAttempt | None:
        """What to try at once, or ``None``: never the same keys with the same clock again."""
        if refusal.kind is ErrorKind.AUTH and isinstance(credential, KeyPair):
            # Whatever the message says: a signature with another time than the API's is refused.
            better = self._better_offset(refusal, offset)
            if better is not None:
                return _SecondAttempt(credential, better)
        if refusal.kind is not ErrorKind.AUTH and refusal.remedy is Remedy.NONE:
            return None
        if refusal.remedy is not Remedy.NONE:
            self._credentials.forget(credential)
        fresh = await self.credential()
        return _SecondAttempt(fresh, offset) if fresh != credential else None

    def _better_offset(self, refusal: ApiRefusedError, used: float) -> float | None:
        """The time in the refusal, or else our own: one that the refused signature did not use."""
        candidates = [0.0] if refusal.date is None else [refusal.date - self._wall(), 0.0]
        return next((offset for offset in candidates if abs(offset - used) > _NOTABLE), None)

    def _shows_another_time(self, refusal: ApiRefusedError, used: float) -> bool:
        """Than that of the refused signature: it was a false ``Date`` that this was corrected by."""
        return refusal.date is not None and abs(refusal.date - self._wall() - used) > _NOTABLE

    def _offset(self, to: Destination) -> float:
        """Seconds to add to our clock for a signature: such that a time that was accepted is used on.

        So neither a false ``Date`` nor a step of our own clock makes the next signature a bad one; and with a
        wrong clock the first of many targets that share credentials finds out for all of them.
        """
        known = self._corrected
        if known is None:
            known = to.breaker.accepted_time if self._accepted is None else self._accepted
        skew = self._clock.skew(self._wall()) if known is None else known + self._monotonic() - self._wall()
        return skew if skew is not None and abs(skew) > _NOTABLE else 0.0


def _may_tell_the_time_next(refusal: ApiRefusedError) -> bool:
    """The clock was wrong, and this answer had no ``Date`` to correct it by: the next one may have."""
    return refusal.remedy is Remedy.NEW_CREDENTIAL and refusal.date is None


class _SecondAttempt(NamedTuple):
    credential: Credential
    offset: float
    """Seconds to add to our clock."""
