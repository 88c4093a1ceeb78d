"""How often requests are sent, and when none may be sent because the API throttles.

The rate applies to credentials, at whatever endpoint they are used. A pause applies to credentials *at one
endpoint*; to one target alone, if others were answered there since. How many requests are under way at a time
is decided by the breaker. Knows no HTTP; clocks and sleep are arguments.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from typing import Final

from exporter.cloud.http.breaker import CredentialUse
from exporter.errors import ApiError, ErrorKind

_GIVE_WAY: Final = 60.0
"""Seconds, at most, by which a throttled target waits longer than the others at its endpoint."""


def fingerprint(*parts: str) -> str:
    """A hash by which credentials are compared, which reveals nothing of them."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class NoTimeLeft(ApiError):  # noqa: N818 - nothing went wrong: there is only no time for another request
    """The next request would be allowed only after the deadline.

    ``kind``: ``timeout`` for our own limit, ``throttled`` for the API's.
    """

    def __init__(self, why: str, kind: ErrorKind) -> None:
        super().__init__(kind, why)


class RateLimiter:
    """Token bucket over all requests with the same credentials, retries included, in order of arrival.

    A request waits here until there is a token. ``ClientRateLimiter`` of the web package, which counts by
    clients and never waits, answers instead how long a client would have to: so they share no code.
    """

    def __init__(
        self,
        rate: float,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        burst: int = 1,
        part: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """``part``: how much of ``rate`` is for this process now. The rest is for others."""
        self.whole = rate
        """Requests a second, of all processes together."""
        self._part = part
        self.monotonic = monotonic
        self.sleep = sleep
        self._burst = burst
        self._full_at = monotonic()
        """When the bucket is full again; each request moves it on by the time that earns one token."""
        self._endpoints: dict[str, EndpointLimiter] = {}

    @property
    def rate(self) -> float:
        """Requests a second, now."""
        return self.whole * self._part()

    def at(self, host: str) -> EndpointLimiter:
        """The limits at one endpoint, named by host and port."""
        return self._endpoints.setdefault(host, EndpointLimiter(host, self))

    def keep(self, targets: Set[str]) -> None:
        """Forget the other targets, and endpoints that nobody asks any more."""
        for endpoint in self._endpoints.values():
            endpoint.keep(targets)
        self._endpoints = {host: at for host, at in self._endpoints.items() if not at.forgettable}

    async def token(self, deadline: float) -> None:
        """Wait for the rate. Raises NoTimeLeft."""
        now, rate = self.monotonic(), self.rate
        at = max(self._full_at - (self._burst - 1) / rate, now)
        if at >= deadline:
            why = f"the deadline passed: rate_limit allows the next request only in {at - now:.1f} s"
            raise NoTimeLeft(why, ErrorKind.TIMEOUT)
        self._full_at = max(self._full_at, now) + 1 / rate
        if at > now:
            await self.sleep(at - now)


class EndpointLimiter:
    """Requests with the same credentials to one endpoint: none while it throttles, then as they came."""

    def __init__(self, host: str, credentials: RateLimiter) -> None:
        self._host = host
        self._credentials = credentials
        self._monotonic = credentials.monotonic
        self._targets: dict[str, _TargetState] = {}
        self._line = asyncio.Lock()
        self._quiet_until = float("-inf")
        self._reason = ""

    @property
    def forgettable(self) -> bool:
        """Is there no target and no pause left?"""
        return not self._targets and self._quiet_until <= self._monotonic()

    def keep(self, targets: Set[str]) -> None:
        """Forget the others."""
        self._targets = {name: target for name, target in self._targets.items() if name in targets}

    def pause(self, target: str, seconds: float, reason: str) -> None:
        """Send no request for so long: this target was throttled, and refused requests count against the
        limit, too.

        Afterwards the other targets come first: they waited longer. If one of them was answered since this
        target was last throttled, only this target pauses. ``reason`` is what the API said, redacted.
        """
        me, now = self._of(target), self._monotonic()
        others = [other for other in self._targets.values() if other is not me]
        alone = any(other.answered > me.throttled for other in others)
        me.throttled, until = now, now + seconds
        self._reason = reason
        if alone:
            me.waits_until = max(me.waits_until, until)
            return
        self._quiet_until = max(self._quiet_until, until)
        if others:
            me.waits_until = until + min(seconds, _GIVE_WAY)

    @asynccontextmanager
    async def slot(
        self, target: str, deadline: float, use: CredentialUse | None = None
    ) -> AsyncIterator[float]:
        """Enter to send one request; gives the seconds waited for the rate and for pauses.

        ``use`` has begun then. Raises NoTimeLeft, TimeoutError; what ``use.begin`` raises.
        """
        me = self._of(target)
        began = self._monotonic()
        while not await self._sent(me, deadline, use):
            pass
        yield self._monotonic() - began
        me.answered = self._monotonic()

    async def _sent(self, me: _TargetState, deadline: float, use: CredentialUse | None) -> bool:
        """Wait for the turn of one request; false when a pause has begun in the meantime."""
        await self._wait(lambda: me.waits_until, deadline)
        async with self._turn(deadline):
            await self._wait(lambda: self._quiet_until, deadline)
        if use is not None:  # without the turn: other requests here may be allowed already
            await use.begin(deadline - self._monotonic())
        async with self._turn(deadline):
            if not self._paused(me):
                await self._credentials.token(deadline)
        paused = self._paused(me)
        if paused and use is not None:
            use.not_sent()
        return not paused

    def _paused(self, me: _TargetState) -> bool:
        return max(self._quiet_until, me.waits_until) > self._monotonic()

    @asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        """One request at a time, in order of arrival."""
        self._in_time(self._quiet_until, deadline)
        try:
            async with asyncio.timeout(max(deadline - self._monotonic(), 0.0)):
                await self._line.acquire()
        except TimeoutError:
            self._in_time(self._quiet_until, deadline)
            raise
        try:
            yield
        finally:
            self._line.release()

    def _of(self, target: str) -> _TargetState:
        return self._targets.setdefault(target, _TargetState())

    async def _wait(self, end: Callable[[], float], deadline: float) -> None:
        """Until the ``end`` of a pause, which may be put off in the meantime."""
        while (wait := end() - self._monotonic()) > 0:
            self._in_time(end(), deadline)
            await self._credentials.sleep(wait)

    def _in_time(self, end: float, deadline: float) -> None:
        """Raises NoTimeLeft when a pause ends too late."""
        wait = end - self._monotonic()
        if wait > 0 and end >= deadline:
            why = f"{self._host} throttles these credentials: nothing is sent for {wait:.1f} s"
            raise NoTimeLeft(f"{why}: {self._reason}", ErrorKind.THROTTLED)


class _TargetState:
    """What is known of one target at an endpoint."""

    def __init__(self) -> None:
        self.waits_until = float("-inf")
        """It was throttled: until then the others go first, or it alone pauses."""
        self.throttled = float("inf")
        """When it was last throttled."""
        self.answered = float("-inf")
        """When a request of it was last answered as it should be."""
