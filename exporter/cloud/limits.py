"""What keeps us from harming an account: a rate limit, and a breaker against locking its key.

Both are shared by all targets with the same credentials. Knows no HTTP; clocks and sleep are arguments.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec

from exporter.errors import ApiError, ErrorKind

_CONCURRENT: Final = 2
_COOLDOWN: Final = 300.0
"""Five bad signatures in a row lock an access key for five minutes (APIG FAQ)."""
_REMEMBERED: Final = 64

_T = TypeVar("_T")


def fingerprint(*parts: str) -> str:
    """Tells credentials apart and reveals nothing of them."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class NoTimeLeft(Exception):  # noqa: N818 - a turn of events, not an error of its own
    """The next request would be allowed only after the deadline, in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the rate limit allows the next request only in {seconds:.1f} s")
        self.seconds = seconds


class RateLimiter:
    """Token bucket over requests, retries included, and at most two of them at a time."""

    def __init__(
        self,
        rate: float,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        burst: int = 1,
    ) -> None:
        self.rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._sleep = sleep
        self._full_at = monotonic()
        """When the bucket is full again; each request moves it on by the time that earns one token."""
        self._quiet_until = self._full_at
        self._concurrent = asyncio.Semaphore(_CONCURRENT)

    def pause(self, seconds: float) -> None:
        """No request for so long: the API throttled us, and refused requests count against the limit."""
        self._quiet_until = max(self._quiet_until, self._monotonic() + seconds)

    @asynccontextmanager
    async def slot(self, deadline: float) -> AsyncIterator[float]:
        """Room for one request; gives the seconds waited for the rate. Raises NoTimeLeft, TimeoutError."""
        async with asyncio.timeout(max(deadline - self._monotonic(), 0.0)):
            await self._concurrent.acquire()
        try:
            yield await self._token(deadline)
        finally:
            self._concurrent.release()

    async def _token(self, deadline: float) -> float:
        waited = 0.0
        while True:
            now = self._monotonic()
            earliest = self._full_at - (self._burst - 1) / self.rate
            wait = max(earliest - now, self._quiet_until - now, 0.0)
            if now + wait >= deadline:
                raise NoTimeLeft(wait)
            if wait == 0:
                self._full_at = max(self._full_at, now) + 1 / self.rate
                return waited
            await self._sleep(wait)  # then look again: another may have taken it, or asked for quiet
            waited += self._monotonic() - now


class Refused(msgspec.Struct, frozen=True):
    """Credentials that the API refused, as a store may keep it: no secret in it."""

    fingerprint: str
    until: float
    """Unix seconds; after that they may be tried again."""
    reason: str


class Breaker:
    """Keeps refused credentials from being tried again until they change or five minutes passed.

    Credentials not yet known to be good are tried by one request at a time, however many targets
    share them: otherwise the first second of a misconfigured exporter could lock the key.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._refused: dict[str, Refused] = {}
        self._accepted: dict[str, None] = {}
        self._trial = asyncio.Lock()

    @property
    def state(self) -> tuple[Refused, ...]:
        """Plain data for a store."""
        return tuple(self._refused.values())

    def restore(self, state: Iterable[Refused]) -> None:
        """Take over what a store kept; what is known already wins."""
        self._refused = {refused.fingerprint: refused for refused in state} | self._refused

    @asynccontextmanager
    async def permit(self, credential: str, seconds: float) -> AsyncIterator[None]:
        """Enter to use the credentials with this fingerprint, waiting at most ``seconds``.

        Raises ApiError (kind auth) while they are refused, TimeoutError.
        """
        self.check(credential)
        if credential in self._accepted:
            yield
            return
        async with asyncio.timeout(max(seconds, 0.0)):
            await self._trial.acquire()
        try:
            self.check(credential)
            yield
        finally:
            self._trial.release()

    def accept(self, credential: str) -> None:
        """The API took them."""
        self._refused.pop(credential, None)
        _remember(self._accepted, credential, None)

    def refuse(self, credential: str, reason: str) -> None:
        """The API refused them, for ``reason`` (redacted text)."""
        self._accepted.pop(credential, None)
        _remember(self._refused, credential, Refused(credential, self._wall() + _COOLDOWN, reason))

    def check(self, credential: str) -> None:
        """Raises ApiError (kind auth) while they are refused: ask again after a wait, before sending."""
        refused = self._refused.get(credential)
        if refused is None:
            return
        left = refused.until - self._wall()
        if left <= 0:
            del self._refused[credential]
            return
        if left > _COOLDOWN:  # our clock was set back: five minutes from now are enough
            self._refused[credential] = Refused(credential, self._wall() + _COOLDOWN, refused.reason)
        raise ApiError(
            ErrorKind.AUTH,
            "credentials were refused and are not tried again for "
            f"{min(left, _COOLDOWN):.0f} s or until they change: {refused.reason}",
        )


def _remember(known: dict[str, _T], key: str, value: _T) -> None:
    """Newest last, bounded: temporary keys change every hour for years."""
    known.pop(key, None)
    known[key] = value
    while len(known) > _REMEMBERED:
        del known[next(iter(known))]
