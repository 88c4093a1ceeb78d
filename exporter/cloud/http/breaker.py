"""Keeps refused credentials from being tried again too soon, and from being locked.

A refusal speaks of the place it came from: an endpoint, with the project and user asked for. Elsewhere the
same credentials go on. But bad signatures lock an access key, and wrong passwords a user, wherever they are
sent: all places together are allowed only a few of those. Knows no HTTP; clocks are arguments.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, TypeVar

import msgspec

from exporter.cloud.http.rate_limit import Places
from exporter.errors import ApiError, ErrorKind

_COOLDOWN: Final = 300.0
"""Five bad signatures in a row lock an access key for five minutes (APIG FAQ)."""
_DENIED: Final = 60.0
"""Permissions take minutes to arrive: asking more often would only be impolite."""
TRIALS: Final = 3
"""Refusals within five minutes, of all places together, before one that was never tried has to wait, too."""
_HANDOVER: Final = 1.0
"""Seconds without an answer after which the next place may try credentials not yet known to be good: one that
never answers must not keep the others waiting."""
_TURN: Final = 60.0
"""Seconds that a place has to take its turn before another one may."""
_TURNED: Final = 2
"""Places that accepted the credentials and refuse them now, one after the other: then they ended everywhere.
"""
_REMEMBERED: Final = 64

_K = TypeVar("_K")
_T = TypeVar("_T")


class Refused(msgspec.Struct, frozen=True):
    """Credentials that the API refused at one place, as a store may keep it: no secret in it."""

    fingerprint: str
    until: float
    """Unix seconds; after that they may be tried again."""
    reason: str
    place: str = ""
    """Empty in what an older version stored: it counts, and concerns no place of today."""
    signatures: int = 1
    """Bad signatures, or wrong passwords, that it took to learn this."""
    denied: bool = False
    """The credentials are good, but not allowed to do this: a matter of permissions."""
    accepted: bool = False
    """Nothing of the kind: the place accepted them, whatever others say. Then no fingerprint is kept."""


class _Held(NamedTuple):
    refused: Refused
    ends: float
    """As ``until``, on the monotonic clock: a step of the wall clock changes nothing."""


class Breaker:
    """Of all targets with the same credentials.

    Credentials not yet known to be good at a place are tried by one request at a time, however many targets
    share them: otherwise the first second of a misconfigured exporter could lock the key.
    """

    def __init__(
        self, *, wall: Callable[[], float], monotonic: Callable[[], float], trials: int = TRIALS
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._trials = trials
        self._refused: dict[tuple[str, str], _Held] = {}
        """By credentials and place, also when their time is over; the longest ago first."""
        self._accepted: dict[tuple[str, str], None] = {}
        self._accepted_before: set[str] = set()
        """Places that accepted credentials before a restart."""
        self._turned = 0
        """Places that accepted them and then refused them, since any place last accepted them."""
        self._trial = Places(1, patience=_HANDOVER)

    @property
    def state(self) -> tuple[Refused, ...]:
        """Plain data for a store."""
        now = self._monotonic()
        refused = (held.refused for held in self._refused.values() if held.ends > now)
        good = {place for _, place in self._accepted} | self._accepted_before
        return (
            *refused,
            *(
                Refused("", 0.0, "", place, signatures=0, accepted=True)
                for place in sorted(good)[:_REMEMBERED]
            ),
        )

    def restore(self, state: Iterable[Refused]) -> None:
        """Take over what a store kept; what is known already wins."""
        now, wall = self._monotonic(), self._wall()
        state = tuple(state)
        self._accepted_before |= {known.place for known in state if known.accepted}
        kept = {
            (refused.fingerprint, refused.place): _Held(refused, now + min(refused.until - wall, _COOLDOWN))
            for refused in state
            if refused.until > wall
        }
        self._refused = kept | self._refused

    @asynccontextmanager
    async def permit(self, credential: str, place: str, seconds: float) -> AsyncIterator[None]:
        """Enter to use the credentials with this fingerprint at ``place``, waiting at most ``seconds``.

        Raises ApiError (kind auth) while they are refused, TimeoutError.
        """
        self.check(credential, place)
        if (credential, place) in self._accepted and not self._turned:
            yield
            return
        async with self._trial.take(seconds):
            self.check(credential, place)
            yield

    def accept(self, credential: str, place: str) -> None:
        """The API took them."""
        self._refused.pop((credential, place), None)
        _remember(self._accepted, (credential, place), None)
        self._accepted_before.discard(place)
        self._turned = 0

    def refuse(self, credential: str, place: str, reason: str, *, signatures: int = 1) -> None:
        """The API refused them after so many signatures, for ``reason`` (redacted text)."""
        if (credential, place) in self._accepted or place in self._accepted_before:
            self._accepted.pop((credential, place), None)
            self._accepted_before.discard(place)
            self._turned += 1
        if self._turned >= _TURNED:
            self._accepted.clear()
            self._accepted_before.clear()
        before = self._refused.get((credential, place))
        if before is not None and before.ends > self._monotonic():
            signatures += before.refused.signatures
        self._hold(
            Refused(credential, self._wall() + _COOLDOWN, reason, place, signatures), seconds=_COOLDOWN
        )

    def deny(self, credential: str, place: str, reason: str) -> None:
        """The API knows them and does not allow what was asked there, for ``reason``."""
        refused = Refused(credential, self._wall() + _DENIED, reason, place, signatures=0, denied=True)
        self._hold(refused, seconds=_DENIED)

    def check(self, credential: str, place: str) -> None:
        """Raises ApiError (kind auth) while they are refused: ask again after a wait, before sending."""
        now = self._monotonic()
        mine = self._refused.get((credential, place))
        if mine is not None and mine.ends > now:
            raise _error(mine, now)
        if (credential, place) in self._accepted or place in self._accepted_before:
            return
        counted = [held for held in self._refused.values() if held.refused.signatures]
        spent = [held for held in counted if held.ends > now]
        if sum(held.refused.signatures for held in spent) >= self._allowed(credential, mine, counted, now):
            left = min((held.ends - now for held in spent), default=_TURN)
            text = (
                "credentials were refused for other targets and, so that they are not locked, are not tried "
                f"for this one for {left:.0f} s or until they change: {counted[-1].refused.reason}"
            )
            raise ApiError(ErrorKind.AUTH, text)

    def _allowed(self, credential: str, mine: _Held | None, counted: list[_Held], now: float) -> int:
        """How many refusals of all places together still leave this one its trial."""
        if all(held.refused.fingerprint != credential for held in counted):
            return self._trials + 1  # others than those refused: somebody corrected them
        if mine is None or not mine.refused.signatures:
            return self._trials
        mine_next = counted[0] is mine or now >= max(held.ends for held in counted) + _TURN
        return 1 if mine_next else 0

    def _hold(self, refused: Refused, *, seconds: float) -> None:
        _remember(
            self._refused,
            (refused.fingerprint, refused.place),
            _Held(refused, self._monotonic() + seconds),
        )


def _error(held: _Held, now: float) -> ApiError:
    left, refused = held.ends - now, held.refused
    if refused.denied:
        text = f"access is denied and asked for again in {left:.0f} s: {refused.reason}"
    else:
        text = (
            f"credentials were refused and are not tried again for {left:.0f} s or until they change: "
            f"{refused.reason}"
        )
    return ApiError(ErrorKind.AUTH, text, denied=refused.denied)


def _remember(known: dict[_K, _T], key: _K, value: _T) -> None:
    """Newest last, bounded: temporary keys change every hour for years."""
    known.pop(key, None)
    known[key] = value
    while len(known) > _REMEMBERED:
        del known[next(iter(known))]
