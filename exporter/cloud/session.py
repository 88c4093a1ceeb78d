"""Requests in the name of one target: its credentials, its rate, and what a refusal still allows.

Knows when one more attempt may help at once (a corrected clock, a new token) and when the credentials must
be left alone. Retries that wait are ``client.py``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import httpx

from exporter.cloud.auth import Credential, Keys, auth_for
from exporter.cloud.clock import ApiClock
from exporter.cloud.codes import Remedy
from exporter.cloud.credentials import CredentialSource
from exporter.cloud.events import ApiEvents, Operation
from exporter.cloud.exchange import Answer, Exchange
from exporter.cloud.limits import Breaker, NoTimeLeft, RateLimiter
from exporter.cloud.mapping import RefusedError
from exporter.cloud.redact import Redactor
from exporter.errors import ApiError, CredentialsError, ErrorKind

_NOTABLE: Final = 60.0
"""The gateway tolerates 15 minutes; below one minute our own clock is as good as theirs."""

_T = TypeVar("_T")


class Session:
    """Sends requests with the target's credentials, and reports what becomes of those."""

    def __init__(
        self,
        exchange: Exchange,
        credentials: CredentialSource,
        limiter: RateLimiter,
        breaker: Breaker,
        events: ApiEvents,
        clock: ApiClock,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._limiter = limiter
        self._breaker = breaker
        self._events = events
        self._clock = clock
        self._monotonic = monotonic
        self._wall = wall
        self._corrected: float | None = None
        """API's clock minus ours as a refusal taught it; wins over what ``Date`` of good answers says."""

    async def credential(self) -> Credential:
        """The credentials of the moment. Raises CredentialsError, ApiError."""
        try:
            credential = await self._credentials.get()
        except CredentialsError as error:
            self._events.error("get_credentials", ErrorKind.AUTH, None, message=str(error))
            raise
        except ApiError as error:
            if error.kind is ErrorKind.AUTH:
                self._events.credentials_rejected(True)
            raise
        self._events.credentials_expiry(credential.expires)
        return credential

    async def call(
        self,
        operation: Operation,
        request: Callable[[], httpx.Request],
        read: Callable[[Answer, Redactor], _T],
        *,
        credential: Credential,
        project_id: str | None,
        deadline: float,
    ) -> _T:
        """One attempt, and at most one more where a refusal says what was wrong. Raises ApiError."""

        async def send(with_: Credential, offset: float) -> _T:
            async with self._limiter.slot(deadline) as waited:
                if waited > 0:
                    self._events.throttle_wait(waited)
                # Another request may have been refused during the wait: five bad signatures lock the key.
                self._breaker.check(with_.fingerprint)
                return await self._exchange.call(
                    operation,
                    request(),
                    read,
                    auth=auth_for(with_, project_id, lambda: self._wall() + offset),
                    secrets=with_.secrets,
                    deadline=deadline,
                )

        try:
            async with self._breaker.permit(credential.fingerprint, deadline - self._monotonic()):
                return await self._attempts(operation, send, credential, deadline)
        except ApiError as error:
            if error.kind is ErrorKind.AUTH:
                self._events.credentials_rejected(True)
            raise

    async def _attempts(
        self,
        operation: Operation,
        send: Callable[[Credential, float], Awaitable[_T]],
        credential: Credential,
        deadline: float,
    ) -> _T:
        offset = self._offset()
        try:
            result = await send(credential, offset)
        except RefusedError as refusal:
            async with asyncio.timeout(max(deadline - self._monotonic(), 0.0)):
                second = await self._second_attempt(refusal, credential, offset)
            if second is None:
                self._refused(credential, refusal)
                raise
            credential, offset = second
            self._events.retry(operation)
            try:
                result = await send(credential, offset)
            except RefusedError as again:
                self._refused(credential, again)
                raise
            except NoTimeLeft:
                raise refusal from None
        self._breaker.accept(credential.fingerprint)
        self._events.credentials_rejected(False)
        return result

    async def _second_attempt(
        self, refusal: RefusedError, credential: Credential, offset: float
    ) -> tuple[Credential, float] | None:
        """What to try at once, or ``None``: never the same keys with the same clock again."""
        if refusal.remedy is Remedy.CORRECT_CLOCK and isinstance(credential, Keys):
            better = self._better_offset(refusal, offset)
            if better is not None:
                self._corrected = better
                return credential, better
        if refusal.kind is not ErrorKind.AUTH and refusal.remedy is Remedy.NONE:
            return None
        if refusal.remedy is not Remedy.NONE:
            self._credentials.forget(credential)
        fresh = await self.credential()
        return (fresh, offset) if fresh != credential else None

    def _better_offset(self, refusal: RefusedError, used: float) -> float | None:
        """The clock of the refusal itself, else our own: whichever the refused signature did not use."""
        candidates = [0.0] if refusal.date is None else [refusal.date - self._wall(), 0.0]
        return next((offset for offset in candidates if abs(offset - used) > _NOTABLE), None)

    def _offset(self) -> float:
        """Seconds to add to our clock for a signature."""
        if self._corrected is not None:
            return self._corrected
        skew = self._clock.skew(self._wall())
        return skew if skew is not None and abs(skew) > _NOTABLE else 0.0

    def _refused(self, credential: Credential, refusal: RefusedError) -> None:
        if refusal.kind is ErrorKind.AUTH:
            self._breaker.refuse(credential.fingerprint, refusal.message)
