"""Credentials that end: kept until shortly before their end, renewed by one request at a time.

Knows nothing of where they come from. Their life is measured on the monotonic clock from the answer that
brought them, so that a wrong wall clock of ours renews them neither too early nor too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

from exporter.cloud.auth.request_auth import KeyPair, Token
from exporter.errors import ApiError, CredentialsError

_PAUSE: Final = 60.0
"""Renewal is tried at most once a minute while there is something to go on with."""

_C = TypeVar("_C", bound=KeyPair | Token)


class Expiring(NamedTuple, Generic[_C]):
    credential: _C
    life: float
    """Seconds that it was still valid when it came."""


class RenewingSource(Generic[_C]):
    """Gives what ``fetch`` fetched until ``margin(life)`` seconds before it ends."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Expiring[_C]]],
        margin: Callable[[float], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._margin = margin
        self._monotonic = monotonic
        self._one_at_a_time = asyncio.Lock()
        self._held: _C | None = None
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._tried_at: float | None = None

    async def get(self) -> _C:
        """The credential in hand, renewed when it is time. Raises ApiError, CredentialsError."""
        if self._held is not None and not self._due():
            return self._held
        async with self._one_at_a_time:
            if self._held is not None and not self._due():
                return self._held  # another request has just renewed it
            try:
                return await self._renew()
            except (ApiError, CredentialsError):
                if self._held is not None and self._monotonic() < self._ends_at:
                    return self._held
                raise

    def forget(self, refused: KeyPair | Token) -> None:
        """Renew at the next ``get``, unless that has been done meanwhile or less than a minute ago."""
        if refused == self._held and not self._tried_lately():
            self._held = None

    async def _renew(self) -> _C:
        self._tried_at = self._monotonic()
        fetched = await self._fetch()
        now = self._monotonic()
        self._held = fetched.credential
        self._ends_at = now + fetched.life
        self._renew_at = self._ends_at - self._margin(fetched.life)
        return fetched.credential

    def _due(self) -> bool:
        now = self._monotonic()
        return now >= self._ends_at or (now >= self._renew_at and not self._tried_lately())

    def _tried_lately(self) -> bool:
        return self._tried_at is not None and self._monotonic() - self._tried_at < _PAUSE
