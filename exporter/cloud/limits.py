"""What keeps us from harming an account: how often we ask, how many requests at a time, when not at all.

The rate belongs to credentials, wherever they are used. Places and pauses belong to credentials *at one
endpoint*: an endpoint that throttles, or that never answers, holds up nothing that is sent to another.
Knows no HTTP; clocks and sleep are arguments.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from exporter.errors import ApiError, ErrorKind

AT_AN_ENDPOINT: Final = 2
"""Requests under way at one endpoint with the same credentials."""
_PROMPT: Final = 3
"""Requests under way at all endpoints together, of those that may be answered at any moment: when a key turns
bad, as many bad signatures are on their way. Five of them lock it (APIG FAQ)."""
_PATIENCE: Final = 2.0
"""Seconds after which a request without an answer keeps no other endpoint's request waiting."""
_GIVE_WAY: Final = 60.0
"""Seconds at most for which a throttled target lets the others at its endpoint go first."""


def fingerprint(*parts: str) -> str:
    """Tells credentials apart and reveals nothing of them."""
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class NoTimeLeft(ApiError):  # noqa: N818 - a turn of events, not a fault
    """The next request would be allowed only after the deadline, in ``seconds``.

    ``kind``: ``timeout`` for our own limit, ``throttled`` for the API's.
    """

    def __init__(self, seconds: float, why: str = "", kind: ErrorKind = ErrorKind.TIMEOUT) -> None:
        super().__init__(
            kind, why or f"the deadline passed: rate_limit allows the next request only in {seconds:.1f} s"
        )


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
        """Forget targets that are gone, and endpoints of which nothing is left to know."""
        for endpoint in self._endpoints.values():
            endpoint.targets &= targets
        self._endpoints = {
            host: endpoint
            for host, endpoint in self._endpoints.items()
            if endpoint.targets or endpoint.quiet_until > self.monotonic()
        }

    async def token(self, deadline: float) -> float:
        """Wait for the rate; gives the seconds waited. Raises NoTimeLeft."""
        now = self.monotonic()
        at = max(self._full_at - (self._burst - 1) / self.rate, now)
        if at >= deadline:
            raise NoTimeLeft(at - now)
        self._full_at = max(self._full_at, now) + 1 / self.rate
        if at > now:
            await self.sleep(at - now)
        return self.monotonic() - now


class EndpointLimiter:
    """Requests with the same credentials to one endpoint: a few at a time, and none while it throttles."""

    def __init__(self, host: str, credentials: RateLimiter) -> None:
        self._host = host
        self._credentials = credentials
        self._places = Places(AT_AN_ENDPOINT)
        self.quiet_until = float("-inf")
        self._reason = ""
        self.targets: set[str] = set()
        """Who sends requests here."""
        self._gives_way: dict[str, float] = {}
        """Until when a throttled target lets the others go first."""
        self._slow = False
        """The last request was answered late, or not at all."""

    def pause(self, target: str, seconds: float, reason: str) -> None:
        """No request for so long: this target was throttled, and refused requests count against the limit.

        Afterwards the others come first: they waited longer. ``reason`` is what the API said, redacted.
        """
        until = self._credentials.monotonic() + seconds
        if until > self.quiet_until:
            self.quiet_until, self._reason = until, reason
        self._gives_way = {name: at for name, at in self._gives_way.items() if name in self.targets}
        if self.targets - {target}:
            self._gives_way[target] = until + min(seconds, _GIVE_WAY)

    @asynccontextmanager
    async def slot(self, target: str, deadline: float) -> AsyncIterator[float]:
        """Room for one request; gives the seconds waited for the rate and for pauses.

        Raises NoTimeLeft, TimeoutError.
        """
        monotonic, credentials = self._credentials.monotonic, self._credentials
        self.targets.add(target)
        waited = await self._pause_over(deadline, self._gives_way.get(target, 0.0))
        async with self._places.take(deadline - monotonic()):
            while True:
                waited += await self._pause_over(deadline)
                prompt = nullcontext() if self._slow else credentials.prompt.take(deadline - monotonic())
                async with prompt:
                    waited += await credentials.token(deadline)
                    if self.quiet_until > monotonic():
                        continue  # throttled in the meantime
                    sent = monotonic()
                    try:
                        yield waited
                    finally:
                        self._slow = monotonic() - sent > _PATIENCE
                    return

    async def _pause_over(self, deadline: float, not_before: float = 0.0) -> float:
        waited = 0.0
        while (wait := max(self.quiet_until, not_before) - (now := self._credentials.monotonic())) > 0:
            if now + wait >= deadline:
                why = f"{self._host} throttles these credentials: nothing is sent for {wait:.1f} s"
                raise NoTimeLeft(wait, f"{why}: {self._reason}", ErrorKind.THROTTLED)
            await self._credentials.sleep(wait)  # then look again: it may have been prolonged
            waited += self._credentials.monotonic() - now
        return waited
