"""The API's clock, learned from its answers (R3, docs/counting.md).

If the time that we assume is too early, it costs requests; if it is too late, jobs are lost. So a ``Date`` is
believed only as far as a second source confirms it: our own clock, the newest ``create_time`` that was
listed, or an earlier answer and the time that passed since then. Where answers carry no usable ``Date``, our
own clock is used instead. Pure: both of our clocks are arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from exporter.cloud.times import parse_http_date
from exporter.ledger import JUMP, has_jumped
from exporter.units import SECOND

_ANSWERS: Final = 10
_NEEDED: Final = 2
"""One answer alone may carry a gateway's stale date."""
_CLOSE: Final = 60.0
"""Clocks that differ by no more than this (seconds) agree."""
_FROZEN: Final = 60.0
"""A ``Date`` that stays the same for so long (seconds) is not written anew for each answer."""


class _DateBounds(msgspec.Struct, frozen=True, gc=False):
    """One ``Date`` as offsets from the monotonic clock, in seconds."""

    least: float
    """The API's clock was at least this much ahead of the monotonic one."""
    most: float
    likely: float


class ApiClock:
    """Bounds on the API's present time, from the last ten usable answers and the other sources."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        """``monotonic`` may stop while the machine sleeps; ``wall`` may be wrong, and may be set."""
        self._monotonic = monotonic
        self._wall = wall
        self._dates: deque[_DateBounds] = deque(maxlen=_ANSWERS)
        self._believed: float | None = None
        """The offset that is believed. All offsets are seconds that a clock is ahead of the monotonic one."""
        self._certain: float | None = None
        """The offset that the API's clock has certainly reached, by earlier answers and by records."""
        self._certain_at = 0.0
        """When an answer last agreed with ``_certain``, on the monotonic clock."""
        self._trust_wall = True
        """Did our wall clock agree with the last ``Date`` that was believed?"""
        self.on_our_clock = False
        """Is our wall clock used, because answers have no usable ``Date``? Until one has."""
        self._undated = 0
        """Answers in a row without a usable ``Date``."""
        self._date: float | None = None
        """The last ``Date``, when it first came (monotonic), and for how many seconds answers have had it."""
        self._date_since = self._date_same_for = 0.0
        self._refuted: float | None = None
        """A ``Date`` that came with a record that is newer than it."""

    def use_our_clock(self) -> None:
        """Answers came, and none had a usable ``Date``: from now on ours counts as theirs."""
        self.on_our_clock = True
        now = self._monotonic()
        ours = self._wall() - now
        self._certain = ours if self._certain is None else max(ours, self._certain)
        for _ in range(_NEEDED):
            self._see_our_clock(None, now)
        self._believe(ours, now)

    def observe(
        self,
        date_header: str | None,
        age_header: str | None,
        sent: float,
        received: float,
        newest: int | None = None,
    ) -> None:
        """Learn from one answer; ``sent`` and ``received`` are on the monotonic clock.

        ``newest`` is the latest ``create_time`` in it (milliseconds): no record is made in the future. An
        answer from a cache (``Age`` above 0 or unreadable) or without a readable date teaches nothing else.
        """
        if newest is not None:
            self._note_passed(newest / SECOND - received, received)
        date = parse_http_date(date_header)
        if date != self._date:
            self._date, self._date_since = date, received
        self._date_same_for = received - self._date_since
        if date is not None and newest is not None and newest / SECOND > date + _CLOSE:
            self._refuted = date
        if date is not None and date != self._refuted and (age_header is None or age_header.strip() == "0"):
            # Date is cut to whole seconds and was written somewhere between sending and receiving.
            likely = date + 0.5 - (sent + received) / 2
            self._dates.append(_DateBounds(date - received, date + 1.0 - sent, likely))
            self.on_our_clock, self._undated = False, 0
        else:
            self._undated += 1
            self.on_our_clock |= self._undated >= _ANSWERS and self._believed is not None
            if self.on_our_clock:
                self._see_our_clock(newest, received)
        if len(self._dates) >= _NEEDED:
            self._believe(self._wall() - received, received)

    def _see_our_clock(self, newest: int | None, received: float) -> None:
        """Ours, or the newest record's time where ours is behind that."""
        time = max(self._wall(), 0.0 if newest is None else newest / SECOND) - received
        self._dates.append(_DateBounds(time, time, time))

    def note_passed(self, ms: int) -> None:
        """The API's clock has passed this time (milliseconds): an earlier run found that."""
        if self._certain is None:
            now = self._monotonic()
            self._note_passed(ms / SECOND - now, now)

    def _note_passed(self, offset: float, now: float) -> None:
        if self._certain is None or offset > self._certain - _CLOSE:
            self._certain = offset if self._certain is None else max(offset, self._certain)
            self._certain_at = now

    def _believe(self, wall: float, now: float) -> None:
        """Decide after an answer what to believe: the table in docs/counting.md, "Whose clock is right"."""
        date = min(bounds.least for bounds in self._dates)
        agree = abs(wall - date) <= _CLOSE
        if self._certain is not None:
            # Ten answers in a row with an earlier time are believed.
            self._certain = min(self._certain, max(bounds.least for bounds in self._dates))
        if self.on_our_clock and self._certain is not None:
            # Our clock cannot confirm itself: a step of it is believed when records confirm it.
            self._believed = self._certain if abs(date - self._certain) > JUMP / SECOND else date
            self._certain = self._believed
            return
        if self._certain is None:
            allowed = wall
        elif self._trust_wall or agree:
            allowed = max(wall, self._certain)
        else:
            passed = now - self._certain_at
            gained = date - self._certain + passed
            allowed = self._certain if has_jumped(gained * SECOND, passed * SECOND) else date
        self._believed = min(date, allowed)
        if self._believed == date:
            self._trust_wall, self._certain_at = agree, now
            self._certain = self._believed if self._certain is None else max(self._certain, self._believed)

    def now_ms(self) -> int | None:
        """Milliseconds that the API's clock has certainly reached; ``None`` before two usable answers."""
        if self._believed is None:
            return None
        return int((self._believed + self._monotonic()) * SECOND)

    def latest_ms(self) -> int | None:
        """Milliseconds that the API's clock has not passed, if the time that is believed is right."""
        if self._believed is None:
            return None
        least = min(bounds.least for bounds in self._dates)
        most = min(bounds.most for bounds in self._dates)
        return int((self._believed + max(0.0, most - least) + self._monotonic()) * SECOND)

    def furthest_ms(self) -> int | None:
        """The latest time (milliseconds) in any of the last answers, believed or not.

        Or ours, when all have the same for a while: a record that is newer than such a ``Date`` refutes it.
        """
        latest, now = self.latest_ms(), self._monotonic()
        if latest is None:
            return None
        most = max(bounds.most for bounds in self._dates)
        if self._date_same_for > _FROZEN:
            most = max(most, self._wall() - now)
        return max(latest, int((most + now) * SECOND))

    def skew(self, wall_now: float) -> float | None:
        """The API's clock minus ours in seconds: the median, so that one false date changes nothing."""
        if len(self._dates) < _NEEDED:
            return None
        if self.on_our_clock and self._believed is not None:
            return self._believed + self._monotonic() - wall_now
        likely = sorted(bounds.likely for bounds in self._dates)
        median = (likely[len(likely) // 2] + likely[(len(likely) - 1) // 2]) / 2
        return median + self._monotonic() - wall_now

    def undecided(self, tolerance: float) -> bool:
        """Could further answers change much? Until there are ten, while they differ from our clock."""
        skew = self.skew(self._wall())
        return skew is None or (len(self._dates) < _ANSWERS and abs(skew) > tolerance)
