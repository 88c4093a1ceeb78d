"""What keeps us from harming an account: how often we ask, how many requests at a time, when not at all.

The rate belongs to credentials, wherever they are used. A pause belongs to credentials *at one endpoint*,
places to one target there: who is throttled, or never answered, holds up nothing that is sent elsewhere.
Knows no HTTP; clocks and sleep are arguments.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from exporter.errors import ApiError, ErrorKind

_OF_A_TARGET: Final = 2
"""Requests of one target under way at one endpoint."""
_PROMPT: Final = 3
"""Requests with the same credentials under way anywhere, of those that may be answered at any moment: when a
key turns bad, as many bad signatures are on their way. Five of them lock it (APIG FAQ)."""
_PATIENCE: Final = 2.0
"""Seconds after which a request without an answer keeps those of other targets waiting no longer."""
_GIVE_WAY: Final = 60.0
"""Seconds at most for which a throttled target lets the others at its endpoint go first."""


def fingerprint(*parts: str) -> str:
    """Tells credentials apart and reveals nothing of them."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class NoTimeLeft(ApiError):  # noqa: N818 - a turn of events, not a fault
    """The next request would be allowed only after the deadline.

    ``kind``: ``timeout`` for our own limit, ``throttled`` for the API's.
    """

    def __init__(self, why: str, kind: ErrorKind) -> None:
        super().__init__(kind, why)


class Places:
    """So many at a time, in order of arrival; one held for longer than ``patience`` keeps nobody waiting."""

    def __init__(self, number: int, *, patience: float | None = None) -> None:
        self._free = asyncio.Semaphore(number)
        self._patience = patience

    @asynccontextmanager
    async def take(self, seconds: float) -> AsyncIterator[None]:
        """Raises TimeoutError when none is free within ``seconds``."""
        async with asyncio.timeout(max(seconds, 0.0)):
            await self._free.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        loop = asyncio.get_running_loop()
        timer = None if self._patience is None else loop.call_later(self._patience, give_back)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            give_back()


class RateLimiter:
    """Token bucket over all requests with the same credentials, retries included, in order of arrival."""

    def __init__(
        self,
        rate: float,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        burst: int = 1,
    ) -> None:
        self.rate = rate
        self.monotonic = monotonic
        self.sleep = sleep
        self.prompt = Places(_PROMPT, patience=_PATIENCE)
        self._burst = burst
        self._full_at = monotonic()
        """When the bucket is full again; each request moves it on by the time that earns one token."""
        self._endpoints: dict[str, EndpointLimiter] = {}

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
        now = self.monotonic()
        at = max(self._full_at - (self._burst - 1) / self.rate, now)
        if at >= deadline:
            why = f"the deadline passed: rate_limit allows the next request only in {at - now:.1f} s"
            raise NoTimeLeft(why, ErrorKind.TIMEOUT)
        self._full_at = max(self._full_at, now) + 1 / self.rate
        if at > now:
            await self.sleep(at - now)


class EndpointLimiter:
    """Requests with the same credentials to one endpoint: none while it throttles, then as they came."""

    def __init__(self, host: str, credentials: RateLimiter) -> None:
        self._host = host
        self._credentials = credentials
        self._monotonic = credentials.monotonic
        self._targets: dict[str, _Target] = {}
        self._line = asyncio.Lock()
        self._quiet_until = float("-inf")
        self._reason = ""

    @property
    def forgettable(self) -> bool:
        """Is there nothing left to know?"""
        return not self._targets and self._quiet_until <= self._monotonic()

    def keep(self, targets: Set[str]) -> None:
        """Forget the others."""
        self._targets = {name: target for name, target in self._targets.items() if name in targets}

    def pause(self, target: str, seconds: float, reason: str) -> None:
        """No request for so long: this target was throttled, and refused requests count against the limit.

        Afterwards the others come first: they waited longer. ``reason`` is what the API said, redacted.
        """
        until = self._monotonic() + seconds
        if until > self._quiet_until:
            self._quiet_until, self._reason = until, reason
        if self._targets.keys() - {target}:
            self._of(target).gives_way_until = until + min(seconds, _GIVE_WAY)

    @asynccontextmanager
    async def slot(self, target: str, deadline: float) -> AsyncIterator[float]:
        """Room for one request; gives the seconds waited for the rate and for pauses.

        Raises NoTimeLeft, TimeoutError.
        """
        me = self._of(target)
        began = self._monotonic()
        await self._wait(lambda: me.gives_way_until, deadline)
        waited = self._monotonic() - began
        async with me.places.take(deadline - self._monotonic()), AsyncExitStack() as held:
            began = self._monotonic()
            async with self._turn(deadline):
                while True:
                    await self._wait(lambda: self._quiet_until, deadline)
                    if not me.slow:
                        left = deadline - self._monotonic()
                        await held.enter_async_context(self._credentials.prompt.take(left))
                    await self._credentials.token(deadline)
                    if self._quiet_until <= self._monotonic():
                        break
                    await held.aclose()  # throttled in the meantime
            sent = self._monotonic()
            try:
                yield waited + sent - began
            finally:
                me.slow = self._monotonic() - sent > _PATIENCE

    @asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        """The head of the line."""
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

    def _of(self, target: str) -> _Target:
        return self._targets.setdefault(target, _Target())

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


class _Target:
    """What is known of one target at an endpoint."""

    def __init__(self) -> None:
        self.places = Places(_OF_A_TARGET)
        self.gives_way_until = float("-inf")
        """It was throttled: until then the others go first."""
        self.slow = False
        """Its last request was answered late, or not at all."""
