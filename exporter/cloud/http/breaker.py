"""Keeps refused credentials from being tried again too soon, and from being locked.

Five bad signatures in a row lock an access key for five minutes, and wrong passwords lock a user, whatever
endpoint they are sent to (docs/api.md, section 5). So all requests with the same credentials share a breaker.
A *signature* is a signed request, or a password sent. A *place* is an endpoint with the project and user
asked for there: a refusal stops its own place, and elsewhere the same credentials go on.
``N`` is ``trials``: 3 for signatures, 2 for passwords.

What counts, as signatures that may be bad:

    refused (401)         its signatures, for 300 s; meanwhile its own place sends nothing
    denied (403)          nothing; for 60 s its own place sends nothing
    sent, not answered    its signatures, until there is an answer or the request ends
    accepted              nothing: the place's own refusal is forgotten, and what other places refused before
                          this was sent is *settled*: it speaks of those places alone

What may be sent. Each line that applies must hold; counts are those before the new signature:

    all places together   unsettled refusals and signatures under way: fewer than N, or than N + 1 once
                          something is refused. But fewer than N at an endpoint that refused, while another
                          one, that did not, accepts the credentials: the last signature is kept for that one,
                          as it shows whether they are good
    a place that does     all refusals, and signatures under way to such places:
    not accept them         never refused             fewer than N
                            refused before            none, and it is its turn: the place refused longest ago
                                                      has a minute for it, then any
                            other credentials than    fewer than N + 1: somebody corrected them
                            were refused
                            a corrected clock         fewer than N + 1: the same request once more
    under way at once     at one endpoint fewer than N - 1; to an *unproven* place (it does not accept them,
                          or left its last request unanswered) none at its endpoint that is unproven, too,
                          and fewer than N - 1 such at all endpoints. A corrected request is under way already

Requests without room wait in order of arrival, those to endpoints that did not answer behind all others.

Where several processes use the same credentials: ``shared_breaker.py``.

For example, five targets A to E with one access key, whose secret is wrong (N = 3):

    0 s     A, B and C are refused, one after the other; with three refusals, D and E send nothing
    300 s   these refusals are over. It is A's turn, refused longest ago; D and E were never refused, and have
            the two trials that are left. All three are refused
    600 s   it is B's turn, and 300 s later C's
    then    the secret is corrected: other credentials, which each target tries at once

Knows no HTTP; clocks are arguments.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Set
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from exporter.bounded import BoundedDict
from exporter.cloud.http.refusals import PlaceRecord, PlaceRefusal, refused_elsewhere, refused_here
from exporter.errors import ApiError

TRIALS: Final = 3
"""``N`` for signatures."""
REFUSED_SECONDS: Final = 300.0
"""As long as a lock lasts (APIG FAQ)."""
_DENIED_SECONDS: Final = 60.0
"""New permissions take minutes to apply: to ask more often would only cost requests."""
UNANSWERED_SECONDS: Final = 2.0
"""A place whose last request ended without an answer, after more than so long, counts as unanswered."""
_TURN_SECONDS: Final = 60.0
"""How long a place has to take its turn before another one may."""
_REMEMBERED: Final = 4096
"""Places of each kind: more than targets share credentials; temporary keys change every hour for years."""


class CredentialUse:
    """One request with credentials at one place, until it is known what became of them there."""

    def __init__(self, breaker: Breaker, credential: str, place: str) -> None:
        self.credential = credential
        """Their fingerprint."""
        self.place = place
        self.endpoint = _endpoint(place)
        self.signatures = 0
        """Sent or about to be sent, and not yet known to be good or bad."""
        self.refusals_before = 0
        """Refusals that had arrived when the latest of them was sent."""
        self.sent_at = 0.0
        """When that was, on the monotonic clock."""
        self._breaker = breaker

    async def begin(self, seconds: float) -> None:
        """Wait at most so long until one signature may be sent.

        Raises ApiError (kind auth) when the credentials are refused meanwhile, TimeoutError.
        """
        await self._breaker.wait_for_room(self, seconds)

    def not_sent(self) -> None:
        """The signature that ``begin`` allowed was not sent after all."""
        self._breaker.take_back(self)

    def accept(self) -> None:
        """The API accepted the credentials."""
        self._breaker.accept(self.credential, self.place, refusals_before=self.refusals_before)


class Breaker:
    """Shared by all targets with the same credentials: decides by the tables above what may be sent."""

    def __init__(
        self, *, wall: Callable[[], float], monotonic: Callable[[], float], trials: int = TRIALS
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._trials = trials
        self.accepted_time: float | None = None
        """The time of the last signature that was accepted, minus the monotonic clock."""
        self._refusals = BoundedDict[tuple[str, str], PlaceRefusal](limit=_REMEMBERED)
        """By credentials and place, also when their time is over; the longest ago first."""
        self._refusals_arrived = 0
        self._accepted = BoundedDict[str, str | None](limit=_REMEMBERED)
        """By place, the credentials that it accepted last; ``None`` when that was before a restart."""
        self._accepted_changes = 0
        """How often that was changed."""
        self._unanswered = BoundedDict[str, None](limit=_REMEMBERED)
        """Places whose last request was not answered."""
        self._under_way: dict[CredentialUse, None] = {}
        self._waiting: dict[CredentialUse, asyncio.Future[None]] = {}
        """In order of arrival."""

    # --- across restarts ------------------------------------------------------------------------------

    @property
    def state(self) -> tuple[PlaceRecord, ...]:
        """Plain data for a store."""
        now = self._monotonic()
        return (
            *(refusal.record for refusal in self._refusals.values() if refusal.ends > now),
            *(PlaceRecord("", 0.0, "", place, signatures=0, accepted=True) for place in self._accepted),
        )

    @property
    def state_version(self) -> int | None:
        """While this is the same number, ``state`` is the same. ``None`` while a refusal is remembered."""
        return None if self._refusals else self._accepted_changes

    def restore(self, state: Iterable[PlaceRecord]) -> None:
        """Take over what a store kept; what is known already wins."""
        self._accepted_changes += 1
        now, wall = self._monotonic(), self._wall()
        state = tuple(state)
        accepted: dict[str, str | None] = {record.place: None for record in state if record.accepted}
        self._accepted.put_before(accepted)
        refusals = {
            (record.fingerprint, record.place): PlaceRefusal(
                record, now + min(record.until - wall, REFUSED_SECONDS)
            )
            for record in state
            if record.until > wall
        }
        self._refusals.put_before(refusals)

    # --- one request ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def use(self, credential: str, place: str) -> AsyncIterator[CredentialUse]:
        """Enter to use the credentials with this fingerprint at ``place``.

        What came of it is reported before leaving. Raises ApiError (kind auth) while they are refused.
        """
        self.check(credential, place)
        use = CredentialUse(self, credential, place)
        answered = True
        try:
            yield use
        except BaseException as error:
            answered = isinstance(error, ApiError) and error.status is not None
            raise
        finally:
            if use in self._under_way:
                self._note_answer(use, answered=answered)
                del self._under_way[use]
            self._admit_waiting()

    def _note_answer(self, use: CredentialUse, *, answered: bool) -> None:
        if answered:
            self._unanswered.pop(use.place, None)
        elif self._monotonic() - use.sent_at > UNANSWERED_SECONDS:
            self._unanswered.remember(use.place, None)

    async def wait_for_room(self, use: CredentialUse, seconds: float) -> None:
        """For ``CredentialUse.begin``."""
        self._waiting[use] = admitted = asyncio.get_running_loop().create_future()
        self._admit_waiting()
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await admitted
        finally:
            self._waiting.pop(use, None)

    def take_back(self, use: CredentialUse) -> None:
        """For ``CredentialUse.not_sent``."""
        use.signatures -= 1
        if not use.signatures:
            self._under_way.pop(use, None)
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Those that wait and have room now; one that has none keeps nobody behind it waiting.

        Endpoints that did not answer come last: a target that is new must not wait behind all of theirs.
        """
        waiting = list(self._waiting.items())
        if self._unanswered:
            unanswered = {_endpoint(place) for place in self._unanswered}
            waiting.sort(key=lambda item: item[0].endpoint in unanswered)
        full = self._full_endpoints()
        for use, admitted in waiting:
            if admitted.done() or (use.endpoint in full and not use.signatures):
                continue
            try:
                self._check(use.credential, use.place, corrected=use.signatures > 0)
                has_room = self._has_room(use)
            except ApiError as error:
                admitted.set_exception(error)
                continue
            if has_room:
                use.signatures += 1
                use.refusals_before, use.sent_at = self._refusals_arrived, self._monotonic()
                self._under_way[use] = None
                admitted.set_result(None)
                full = self._full_endpoints()

    def _full_endpoints(self) -> set[str]:
        """Those without room for any first signature, while nothing is refused: of hundreds that wait there,
        none needs a closer look.
        """
        if self._refusals:
            return set()
        counts = Counter(use.endpoint for use in self._under_way)
        return {endpoint for endpoint, count in counts.items() if count >= self._trials - 1}

    # --- what the API said ----------------------------------------------------------------------------

    def accept(self, credential: str, place: str, *, refusals_before: int | None = None) -> None:
        """The API accepted them, in a request sent after so many refusals had arrived; ``None``: all."""
        self._refusals.pop((credential, place), None)
        if place in self._accepted:
            self._accepted[place] = credential  # in its place: another order would be stored anew
        else:
            self._accepted.remember(place, credential)
            self._accepted_changes += 1
        for key, refusal in self._refusals.items():
            if not refusal.record.settled and (refusals_before is None or refusal.number <= refusals_before):
                self._refusals[key] = refusal._replace(
                    record=msgspec.structs.replace(refusal.record, settled=True)
                )
        self._admit_waiting()

    def refuse(
        self,
        credential: str,
        place: str,
        reason: str,
        *,
        signatures: int = 1,
        clock: bool = False,
        correctable: bool = False,
    ) -> None:
        """The API refused them after so many signatures, for ``reason`` (redacted text): ``clock``, for the
        time that was signed; ``correctable``, and the next one will be signed by a corrected clock.
        """
        if self._accepts(credential, place):
            del self._accepted[place]
        self._refusals_arrived += 1
        before = self._refusals.get((credential, place))
        if before is not None and before.ends > self._monotonic():
            signatures += before.record.signatures
            clock = clock and before.record.clock
        correctable = correctable and signatures < self._trials
        until = self._wall() + REFUSED_SECONDS
        record = PlaceRecord(
            credential, until, reason, place, signatures, clock=clock, correctable=correctable
        )
        self._note_refusal(record, seconds=REFUSED_SECONDS)

    def deny(self, credential: str, place: str, reason: str) -> None:
        """The API knows them and does not allow what was asked there, for ``reason``."""
        until = self._wall() + _DENIED_SECONDS
        record = PlaceRecord(credential, until, reason, place, signatures=0, denied=True)
        self._note_refusal(record, seconds=_DENIED_SECONDS)

    def _note_refusal(self, record: PlaceRecord, *, seconds: float) -> None:
        refusal = PlaceRefusal(record, self._monotonic() + seconds, self._refusals_arrived)
        self._refusals.remember((record.fingerprint, record.place), refusal)
        self._admit_waiting()

    # --- what may be sent -----------------------------------------------------------------------------

    def check(self, credential: str, place: str) -> None:
        """Raises ApiError (kind auth) while they are refused: ask again after a wait, before sending.

        Goes by refusals alone; whether there is room beside what is under way is for ``begin``.
        """
        self._check(credential, place, corrected=False)

    def _check(self, credential: str, place: str, *, corrected: bool) -> None:
        """``corrected``: the request was refused once and is signed again with another time."""
        now = self._monotonic()
        mine = self._refusals.get((credential, place))
        if mine is not None and mine.ends > now and not mine.record.correctable:
            raise refused_here(mine, now)
        counted = [refusal for refusal in self._refusals.values() if refusal.counts]
        if self._accepts(credential, place):
            counted = [refusal for refusal in counted if not refusal.record.settled]
            allowed = self._trials + 1
        else:
            allowed = self._allowed_unless_accepted(credential, place, corrected=corrected)
        current = [refusal for refusal in counted if refusal.ends > now]
        if _signatures(current) >= allowed:
            left = min((refusal.ends - now for refusal in current), default=_TURN_SECONDS)
            raise refused_elsewhere(counted[-1].record.reason, left)

    def _has_room(self, use: CredentialUse) -> bool:
        """Beside what is under way, for one more signature."""
        under_way, now = list(self._under_way), self._monotonic()
        refusals = [refusal for refusal in self._refusals.values() if refusal.counts and refusal.ends > now]
        unsettled = [refusal for refusal in refusals if not refusal.record.settled]
        in_doubt = _signatures(unsettled) + sum(other.signatures for other in under_way)
        if in_doubt >= self._allowed_altogether(use, unsettled):
            return False
        if not self._accepts(use.credential, use.place):
            trials = _signatures(refusals) + sum(
                other.signatures for other in under_way if not self._accepts(other.credential, other.place)
            )
            corrected = use.signatures > 0
            if trials >= self._allowed_unless_accepted(use.credential, use.place, corrected=corrected):
                return False
        return use.signatures > 0 or self._is_among_few(use, under_way)

    def _is_among_few(self, use: CredentialUse, under_way: list[CredentialUse]) -> bool:
        """Few requests are under way at a time: one that is not answered yet may still be refused.

        Fewer still at unproven places, so that requests that hang leave room for the others.
        """
        few = self._trials - 1
        here = [other for other in under_way if other.endpoint == use.endpoint]
        if len(here) >= few:
            return False
        if not self._is_unproven(use):
            return True
        return not any(map(self._is_unproven, here)) and sum(map(self._is_unproven, under_way)) < few

    def _allowed_altogether(self, use: CredentialUse, unsettled: list[PlaceRefusal]) -> int:
        """Signatures of all places that may be in doubt before this one is sent."""
        refusing = {_endpoint(refusal.record.place) for refusal in unsettled}
        if use.signatures:  # it was refused just now
            refusing.add(use.endpoint)
        if not refusing:
            return self._trials
        others_accept = self._is_accepted_elsewhere(use, refusing)
        return self._trials if others_accept and use.endpoint in refusing else self._trials + 1

    def _allowed_unless_accepted(self, credential: str, place: str, *, corrected: bool) -> int:
        """How many refusals of all places still leave a trial to this one, which did not accept them."""
        counted = [refusal for refusal in self._refusals.values() if refusal.counts]
        mine = self._refusals.get((credential, place))
        corrected = corrected or (mine is not None and mine.record.correctable)
        if corrected or all(refusal.record.fingerprint != credential for refusal in counted):
            return self._trials + 1
        if mine is None or not mine.counts:
            return self._trials
        turn_missed = max(refusal.ends for refusal in counted) + _TURN_SECONDS
        return 1 if counted[0] is mine or self._monotonic() >= turn_missed else 0

    def _accepts(self, credential: str, place: str) -> bool:
        return place in self._accepted and self._accepted[place] in (credential, None)

    def _is_accepted_elsewhere(self, use: CredentialUse, endpoints: Set[str] = frozenset()) -> bool:
        """At another endpoint than its own and these."""
        here = {use.endpoint, *endpoints}
        return any(
            _endpoint(place) not in here for place in self._accepted if self._accepts(use.credential, place)
        )

    def _is_unproven(self, use: CredentialUse) -> bool:
        return use.place in self._unanswered or not self._accepts(use.credential, use.place)


def _endpoint(place: str) -> str:
    return place.partition("/")[0]


def _signatures(refusals: Iterable[PlaceRefusal]) -> int:
    return sum(refusal.record.signatures for refusal in refusals)
