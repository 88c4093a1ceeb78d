"""The breaker of credentials that several processes use, so that together they do not lock them.

All of ``breaker.py`` holds in each process, with the refusals that they tell each other; those for the time
that was signed concern one process. Besides, of its own signatures only one may be in doubt at a time, none
where there are more processes than ``N``. For one more (credentials or a clock were corrected, or accepted
before, or the first hangs) it must hold the *claim*, which all of them have one of, and for 300 s none when
it is refused. So all of them together send N + 1 bad signatures at most. Must not know where that is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from exporter.cloud.http.breaker import REFUSED_SECONDS, UNANSWERED_SECONDS, Breaker, CredentialUse
from exporter.cloud.http.refusals import PlaceRecord, PlaceRefusal, refused_elsewhere
from exporter.errors import ApiError

_ASK_AGAIN: Final = UNANSWERED_SECONDS
"""Seconds after which a request that waits looks whether those under way hang."""


class Claims(Protocol):
    """The one signature beyond their shares that all processes have together. Never raises."""

    async def take(self) -> float:
        """0 when this process may send it. Otherwise seconds: wait so long and ask again."""

    async def end(self, seconds: float) -> None:
        """It is answered, and nobody may take it for so long: 0 unless it was refused."""


class SharedBreaker(Breaker):
    """See the module."""

    def __init__(
        self, claims: Claims, *, wall: Callable[[], float], monotonic: Callable[[], float], trials: int
    ) -> None:
        super().__init__(wall=wall, monotonic=monotonic, trials=trials)
        self._claims = claims
        self._share = 1
        """How many signatures may be in doubt at a time without the claim."""
        self._claimed_by: CredentialUse | None = None
        self._claimed = 0
        """How many signatures that request may have made with the claim."""
        self._claimed_first = False
        """Was it taken for the first of them?"""

    def divide(self, processes: int) -> None:
        """So many use the credentials. One that seems alone may be the first of some that start."""
        self._share = min(1, self._trials // processes)

    @asynccontextmanager
    async def use(self, credential: str, place: str) -> AsyncIterator[CredentialUse]:
        used: CredentialUse | None = None
        try:
            async with super().use(credential, place) as used:
                yield used
        finally:
            if used is not None and self._claimed_by is used:
                await self._end_claim(used)

    @property
    def state(self) -> tuple[PlaceRecord, ...]:
        """What others have to know: a refusal for its time is a matter of one process's clock."""
        return tuple(record for record in super().state if not record.clock)

    async def wait_for_room(self, use: CredentialUse, seconds: float) -> None:
        async with asyncio.timeout(max(seconds, 0.0)):
            made = use.signatures
            while use.signatures == made:
                with suppress(TimeoutError):
                    await super().wait_for_room(use, _ASK_AGAIN)
            if self._claimed_by is use:
                await self._take_claim(use)

    async def _take_claim(self, use: CredentialUse) -> None:
        try:
            while (wait := await self._claims.take()) > 0:
                if wait > UNANSWERED_SECONDS:
                    raise self._refused_for_all(wait)  # noqa: TRY301 - as is whatever ends the wait
                await asyncio.sleep(wait)
        except BaseException:
            self._claimed_by = None
            self.take_back(use)
            raise

    async def _end_claim(self, use: CredentialUse) -> None:
        mine = self._refusals.get((use.credential, use.place))
        refused = mine is not None and mine.counts and mine.number > use.refusals_before
        if mine is not None and mine.record.correctable and not self._claimed_first:
            refused = False  # the first signature was, which had no claim: the corrected one was not answered
        try:
            await self._claims.end(REFUSED_SECONDS if refused else 0.0)
        finally:
            self._claimed_by = None
            self._admit_waiting()

    def _has_room(self, use: CredentialUse) -> bool:
        return super()._has_room(use) and self._is_in_share(use)

    def _is_in_share(self, use: CredentialUse) -> bool:
        """Or is it the one more, for which the claim is taken? Raises ApiError when that is for others."""
        if self._claimed_by is use:
            if use.signatures < self._claimed:
                return True
            raise self._refused_for_all(REFUSED_SECONDS)
        now, refusals = self._monotonic(), self._own_refusals(use)
        refused = use.signatures + sum(refusal.record.signatures for refusal in refusals)
        sent = [other for other in self._under_way if other not in (use, self._claimed_by)]
        if refused + sum(other.signatures for other in sent) < self._share:
            return True
        hang = any(now - other.sent_at > UNANSWERED_SECONDS for other in sent)
        if self._claimed_by is not None or (refused < self._share and not hang):
            return False
        if refusals and not self._accepts(use.credential, use.place) and not self._may_differ(use):
            raise self._refused_for_all(min(refusal.ends for refusal in refusals) - now)
        # One more, or two where there is none without it, for a corrected clock.
        self._claimed_by, self._claimed = use, use.signatures + 2 - self._share
        self._claimed_first = not use.signatures
        return True

    def _own_refusals(self, use: CredentialUse) -> list[PlaceRefusal]:
        """Of this process; where the credentials are accepted, those that speak of other places count not."""
        accepts = self._accepts(use.credential, use.place)
        return [
            refusal
            for refusal in self._refusals.values()
            if refusal.number and refusal.counts and refusal.ends > self._monotonic()
            if not (accepts and refusal.record.settled)
        ]

    def _may_differ(self, use: CredentialUse) -> bool:
        """Corrected credentials, or a corrected clock, unless another endpoint shows that they are good."""
        corrected = use.signatures > 0
        allowed = self._allowed_unless_accepted(use.credential, use.place, corrected=corrected)
        return allowed > self._trials and not self._is_accepted_elsewhere(use)

    def _refused_for_all(self, left: float) -> ApiError:
        reasons = [refusal.record.reason for refusal in self._refusals.values() if refusal.counts]
        return refused_elsewhere(reasons[-1] if reasons else "a request of another replica", left)
