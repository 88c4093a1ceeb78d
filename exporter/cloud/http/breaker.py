"""Keeps refused credentials from being tried again too soon, and from being locked.

A refusal speaks of the place it came from: an endpoint, with the project and user asked for. Elsewhere the
same credentials go on. But bad signatures lock an access key, and wrong passwords a user, wherever they are
sent: all places together are allowed only a few of those, and each request without an answer may be one.
Knows no HTTP; clocks are arguments.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, TypeVar

import msgspec

from exporter.errors import ApiError, ErrorKind

_COOLDOWN: Final = 300.0
"""Five bad signatures in a row lock an access key for five minutes (APIG FAQ)."""
_DENIED: Final = 60.0
"""Permissions take minutes to arrive: asking more often would only be impolite."""
TRIALS: Final = 3
"""Signatures under way, and refusals within five minutes, of all places together. One more is kept for an
endpoint that accepted the credentials and has not refused them since: it tells whether they are good."""
_PATIENCE: Final = 2.0
"""Seconds after which a request that ended without an answer makes its place a silent one."""
_TURN: Final = 60.0
"""Seconds that a place has to take its turn before another one may."""
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
    settled: bool = False
    """Some place accepted the credentials afterwards: the refusal speaks of its own place alone."""
    correctable: bool = False
    """A corrected clock may help, and no answer has said yet whether it does: it may be tried at once."""


class _Held(NamedTuple):
    refused: Refused
    ends: float
    """As ``until``, on the monotonic clock: a step of the wall clock changes nothing."""
    number: int = 0
    """Of all refusals, in order of arrival."""


class Use:
    """Credentials in use at one place, until it is known what became of them there."""

    def __init__(self, breaker: Breaker, credential: str, place: str) -> None:
        self.credential = credential
        self.place = place
        self.signatures = 0
        """Sent or about to be sent, and not yet known to be good or bad."""
        self.began = 0
        """Refusals that had arrived when the latest was sent."""
        self.sent = 0.0
        self._breaker = breaker

    async def begin(self, seconds: float) -> None:
        """Wait at most so long until one signature may be sent.

        Raises ApiError (kind auth) when the credentials are refused meanwhile, TimeoutError.
        """
        await self._breaker.wait_for_room(self, seconds)

    def back(self) -> None:
        """It was not sent after all."""
        self._breaker.take_back(self)

    def accept(self) -> None:
        """The API took them."""
        self._breaker.accept(self.credential, self.place, began=self.began)


class Breaker:
    """Of all targets with the same credentials.

    Nothing tells a request that is never answered from one that will be refused late. So few are under way at
    a time: three, two of them at one endpoint. Of those to places that have not accepted the credentials, or
    did not answer last time, at most two, one of them at one endpoint: what hangs leaves room for the others.
    """

    def __init__(
        self, *, wall: Callable[[], float], monotonic: Callable[[], float], trials: int = TRIALS
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._trials = trials
        self._refused: dict[tuple[str, str], _Held] = {}
        """By credentials and place, also when their time is over; the longest ago first."""
        self._accepted: dict[str, str | None] = {}
        """By place, the credentials that it accepted last; ``None`` when that was before a restart."""
        self._silent: dict[str, None] = {}
        """Places whose last request was not answered."""
        self._refusals = 0
        self._under_way: dict[Use, None] = {}
        self._waiting: dict[Use, asyncio.Future[None]] = {}
        """In order of arrival."""

    @property
    def state(self) -> tuple[Refused, ...]:
        """Plain data for a store."""
        now = self._monotonic()
        refused = (held.refused for held in self._refused.values() if held.ends > now)
        return (
            *refused,
            *(Refused("", 0.0, "", place, signatures=0, accepted=True) for place in self._accepted),
        )

    def restore(self, state: Iterable[Refused]) -> None:
        """Take over what a store kept; what is known already wins."""
        now, wall = self._monotonic(), self._wall()
        state = tuple(state)
        accepted: dict[str, str | None] = {known.place: None for known in state if known.accepted}
        self._accepted = accepted | self._accepted
        kept = {
            (refused.fingerprint, refused.place): _Held(refused, now + min(refused.until - wall, _COOLDOWN))
            for refused in state
            if refused.until > wall
        }
        self._refused = kept | self._refused

    @asynccontextmanager
    async def use(self, credential: str, place: str) -> AsyncIterator[Use]:
        """Enter to use the credentials with this fingerprint at ``place``.

        What came of it is reported before leaving. Raises ApiError (kind auth) while they are refused.
        """
        self.check(credential, place)
        use = Use(self, credential, place)
        answered = True
        try:
            yield use
        except BaseException as error:
            answered = isinstance(error, ApiError) and error.status is not None
            raise
        finally:
            if use in self._under_way:
                self._note_silence(use, answered=answered)
                del self._under_way[use]
            self._let_in()

    def _note_silence(self, use: Use, *, answered: bool) -> None:
        if answered:
            self._silent.pop(use.place, None)
        elif self._monotonic() - use.sent > _PATIENCE:
            _remember(self._silent, use.place, None)

    async def wait_for_room(self, use: Use, seconds: float) -> None:
        """For ``Use.begin``."""
        self._waiting[use] = waiting = asyncio.get_running_loop().create_future()
        self._let_in()
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await waiting
        finally:
            self._waiting.pop(use, None)

    def take_back(self, use: Use) -> None:
        """For ``Use.back``."""
        use.signatures -= 1
        if not use.signatures:
            self._under_way.pop(use, None)
        self._let_in()

    def _let_in(self) -> None:
        """Those that wait and have room now; whoever has none keeps nobody behind him waiting.

        Endpoints that did not answer come last: a target that is new must not wait behind all of theirs.
        """
        silent = {_endpoint(place) for place in self._silent}
        for use, waiting in sorted(
            self._waiting.items(), key=lambda item: _endpoint(item[0].place) in silent
        ):
            if waiting.done():
                continue
            try:
                self._check(use.credential, use.place, again=use.signatures > 0)
            except ApiError as error:
                waiting.set_exception(error)
                continue
            if self._has_room(use):
                use.signatures += 1
                use.began, use.sent = self._refusals, self._monotonic()
                self._under_way[use] = None
                waiting.set_result(None)

    def _has_room(self, use: Use) -> bool:
        under_way, now = list(self._under_way), self._monotonic()
        counted = [held for held in self._refused.values() if held.refused.signatures and held.ends > now]
        in_doubt = [held.refused for held in counted if not held.refused.settled]
        spent = sum(refused.signatures for refused in in_doubt) + sum(other.signatures for other in under_way)
        if spent >= self._limit(use, in_doubt):
            return False
        if not self._accepts(use.credential, use.place):
            trials = sum(held.refused.signatures for held in counted) + sum(
                other.signatures for other in under_way if not self._accepts(other.credential, other.place)
            )
            if trials >= self._allowed(use.credential, use.place, again=use.signatures > 0):
                return False
        if use.signatures:
            return True
        few = self._trials - 1
        here = [other for other in under_way if _endpoint(other.place) == _endpoint(use.place)]
        if self._is_unsure(use):
            unsure_here = sum(map(self._is_unsure, here))
            return not unsure_here and len(here) < few and sum(map(self._is_unsure, under_way)) < few
        return len(here) < few

    def _limit(self, use: Use, in_doubt: list[Refused]) -> int:
        """Bad signatures that there may be, with those under way, before this one is sent."""
        refusing = {_endpoint(refused.place) for refused in in_doubt}
        if use.signatures:
            refusing.add(_endpoint(use.place))
        if not refusing:
            return self._trials
        others = any(
            _endpoint(place) not in refusing
            for place in self._accepted
            if self._accepts(use.credential, place)
        )
        return self._trials if others and _endpoint(use.place) in refusing else self._trials + 1

    def _accepts(self, credential: str, place: str) -> bool:
        return place in self._accepted and self._accepted[place] in (credential, None)

    def _is_unsure(self, use: Use) -> bool:
        return use.place in self._silent or not self._accepts(use.credential, use.place)

    def accept(self, credential: str, place: str, *, began: int | None = None) -> None:
        """The API took them, in a request that was sent after so many refusals had arrived; ``None``: all."""
        self._refused.pop((credential, place), None)
        _remember(self._accepted, place, credential)
        for key, held in self._refused.items():
            if not held.refused.settled and (began is None or held.number <= began):
                self._refused[key] = held._replace(
                    refused=msgspec.structs.replace(held.refused, settled=True)
                )
        self._let_in()

    def refuse(
        self, credential: str, place: str, reason: str, *, signatures: int = 1, correctable: bool = False
    ) -> None:
        """The API refused them after so many signatures, for ``reason`` (redacted text).

        ``correctable``: the next signature will be another one, by a corrected clock.
        """
        if self._accepts(credential, place):
            del self._accepted[place]
        self._refusals += 1
        before = self._refused.get((credential, place))
        if before is not None and before.ends > self._monotonic():
            signatures += before.refused.signatures
        correctable = correctable and signatures < self._trials
        until = self._wall() + _COOLDOWN
        refused = Refused(credential, until, reason, place, signatures, correctable=correctable)
        self._hold(refused, seconds=_COOLDOWN)

    def deny(self, credential: str, place: str, reason: str) -> None:
        """The API knows them and does not allow what was asked there, for ``reason``."""
        refused = Refused(credential, self._wall() + _DENIED, reason, place, signatures=0, denied=True)
        self._hold(refused, seconds=_DENIED)

    def check(self, credential: str, place: str) -> None:
        """Raises ApiError (kind auth) while they are refused: ask again after a wait, before sending."""
        self._check(credential, place, again=False)

    def _check(self, credential: str, place: str, *, again: bool) -> None:
        now = self._monotonic()
        mine = self._refused.get((credential, place))
        if mine is not None and mine.ends > now and not mine.refused.correctable:
            raise _error(mine, now)
        counted = [held for held in self._refused.values() if held.refused.signatures]
        allowed = self._allowed(credential, place, again=again)
        if self._accepts(credential, place):
            counted = [held for held in counted if not held.refused.settled]
            allowed = self._trials + 1
        spent = [held for held in counted if held.ends > now]
        if sum(held.refused.signatures for held in spent) >= allowed:
            left = min((held.ends - now for held in spent), default=_TURN)
            text = (
                "credentials were refused for other targets and, so that they are not locked, are not tried "
                f"for this one for {left:.0f} s or until they change: {counted[-1].refused.reason}"
            )
            raise ApiError(ErrorKind.AUTH, text)

    def _allowed(self, credential: str, place: str, *, again: bool) -> int:
        """How many refusals of all places together still leave a place its trial that did not accept them."""
        counted = [held for held in self._refused.values() if held.refused.signatures]
        mine = self._refused.get((credential, place))
        again = again or (mine is not None and mine.refused.correctable)
        if again or all(held.refused.fingerprint != credential for held in counted):
            # a corrected clock, or others than those refused: somebody corrected them
            return self._trials + 1
        if mine is None or not mine.refused.signatures:
            return self._trials
        mine_next = counted[0] is mine or self._monotonic() >= max(held.ends for held in counted) + _TURN
        return 1 if mine_next else 0

    def _hold(self, refused: Refused, *, seconds: float) -> None:
        _remember(
            self._refused,
            (refused.fingerprint, refused.place),
            _Held(refused, self._monotonic() + seconds, self._refusals),
        )
        self._let_in()


def _endpoint(place: str) -> str:
    return place.partition("/")[0]


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
