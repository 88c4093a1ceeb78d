"""Rate limiters and breakers of all credentials, shared by the targets that use the same ones.

Knows which credentials have a limiter and a breaker; what those do is in ``http``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from contextlib import suppress
from typing import Final

import msgspec

from exporter.cloud.http import (
    TRIALS,
    Breaker,
    Claims,
    PlaceRecord,
    RateLimiter,
    SharedBreaker,
)

_IAM: Final = "iam:"
"""Begins the key of a breaker for a password."""
COMMAND_PART: Final = 0.5
"""Of the rate, for a command that asks; the exporter has the rest meanwhile."""
_PASSWORD_TRIALS: Final = 2
"""Wrong passwords within five minutes: fewer than bad signatures, as a lock may count those of fifteen."""


class SharedLimits:
    """Rate limiters and breakers by credentials: targets with the same credentials share them.

    One for the life of the process, kept through reloads. ``states`` and ``restore`` keep breakers across
    restarts.
    """

    def __init__(
        self,
        *,
        claims: Callable[[str], Claims] | None,
        command_asks: Callable[[str], bool] = lambda _: False,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``claims``, where other processes use the same credentials: of each breaker, by its key.
        ``command_asks``: does a command ask the API with these credentials now? Must not wait.
        """
        self.breakers: dict[str, Breaker] = {}
        self.limiters: dict[str, RateLimiter] = {}
        self._rates: dict[str, dict[str, float]] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        """By credentials: how commands know them."""
        self._replicas = 1
        self._polled: Set[str] | None = None
        """Targets that this process polls; ``None``: all."""
        self._states: dict[str, tuple[int | None, str]] = {}
        """By credentials: what ``states`` returned last."""
        self._claims = claims
        self._command_asks = command_asks
        self._monotonic = monotonic
        self._wall = wall
        self._sleep = sleep

    def known_as(self, key: str, names: tuple[str, ...]) -> None:
        """Commands that use these credentials ask by one of these names (``credentials_names``)."""
        self._names[key] = tuple({*self._names.get(key, ()), *names})

    def limiter(self, key: str, target: str, rate: float) -> RateLimiter:
        """The one limiter of these credentials; the lowest rate that a target asks for is in force."""
        rates = self._rates.setdefault(key, {})
        rates[target] = rate
        limiter = self.limiters.get(key)
        if limiter is None:
            limiter = RateLimiter(
                rate, monotonic=self._monotonic, sleep=self._sleep, part=lambda: self.part(key)
            )
            self.limiters[key] = limiter
        limiter.whole = min(rates.values())
        return limiter

    def divide(self, replicas: int, polled: Set[str]) -> None:
        """So many processes use these credentials, and this one polls these targets.

        Of the rate it has the part that its targets are of all with the same credentials. Only one process
        polls a target at a time: so all together never have more than the whole, whoever takes or leaves one.
        """
        self._replicas, self._polled = replicas, polled
        for breaker in self.breakers.values():
            if isinstance(breaker, SharedBreaker):
                breaker.divide(replicas)

    def part(self, key: str) -> float:
        """What this process may use of the credentials' rate now, above 0 and up to 1."""
        asks = any(map(self._command_asks, self._names.get(key, (key,))))
        whole = 1.0 - COMMAND_PART if asks else 1.0
        targets = self._rates.get(key, {}).keys()
        if self._polled is None or not targets:
            return whole
        return whole * max(1, len(targets & self._polled)) / len(targets)

    def password_breaker(self, key: str) -> Breaker:
        """The one breaker of this password: fewer wrong ones are allowed than bad signatures."""
        return self.breaker(_IAM + key)

    def breaker(self, key: str) -> Breaker:
        """The one breaker of these credentials."""
        if key not in self.breakers:
            self.breakers[key] = self._new_breaker(key)
        return self.breakers[key]

    def _new_breaker(self, key: str) -> Breaker:
        trials = _PASSWORD_TRIALS if key.startswith(_IAM) else TRIALS
        if self._claims is None:
            return Breaker(wall=self._wall, monotonic=self._monotonic, trials=trials)
        breaker = SharedBreaker(self._claims(key), wall=self._wall, monotonic=self._monotonic, trials=trials)
        breaker.divide(self._replicas)
        return breaker

    def keep(self, targets: frozenset[str]) -> None:
        """After a reload: targets that are gone no longer hold a shared rate down."""
        for key, rates in self._rates.items():
            self._rates[key] = {name: rate for name, rate in rates.items() if name in targets}
            self.limiters[key].keep(targets)
            if self._rates[key]:
                self.limiters[key].whole = min(self._rates[key].values())

    def states(self) -> dict[str, str]:
        """What a store must keep so that a restart does not try refused credentials again."""
        states = {key: self._state(key, breaker) for key, breaker in self.breakers.items()}
        return {key: state for key, state in states.items() if state}

    def _state(self, key: str, breaker: Breaker) -> str:
        """Written when it changed: it is asked for several times a second, and holds hundreds of places."""
        version, (written_as, text) = breaker.state_version, self._states.get(key, (None, ""))
        if version is None or version != written_as:
            state = breaker.state
            text = msgspec.json.encode(state).decode() if state else ""
            self._states[key] = version, text
        return text

    def restore(self, states: Mapping[str, str]) -> None:
        """Take over what a store kept; what cannot be read is dropped: at worst some more bad signatures."""
        for key, text in states.items():
            with suppress(msgspec.DecodeError):
                self.breaker(key).restore(msgspec.json.decode(text, type=tuple[PlaceRecord, ...]))
