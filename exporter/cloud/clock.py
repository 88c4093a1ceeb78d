"""The API's clock, learned from its answers (R3, docs/counting.md).

A time that is believed too early costs requests; one that is believed too late loses jobs. So a ``Date`` is
believed only as far as a second witness allows: our own clock, the newest ``create_time`` that was listed, or
an earlier answer and the time that passed since then. Pure: both of our clocks are arguments.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from exporter.cloud.times import parse_http_date

_ANSWERS: Final = 10
_NEEDED: Final = 2
"""One answer alone may carry a gateway's stale date."""
_CLOSE: Final = 60.0
"""Clocks that differ by no more than this (seconds) agree."""
_FASTEST: Final = 10.0
"""A clock may run so many times as fast as ours (simulators do)."""
_JUMP: Final = 10.0
"""One that gains so many seconds more than that has jumped."""


class _Sighting(NamedTuple):
    """One ``Date`` as offsets from the monotonic clock, in seconds."""

    least: float
    """The API's clock was at least this much ahead of the monotonic one."""
    most: float
    likely: float


class ApiClock:
    """Bounds on the API's present time, from the last ten usable answers and what else is known of time."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        """``monotonic`` may stop while the machine sleeps; ``wall`` may be wrong, and may be set."""
        self._monotonic = monotonic
        self._wall = wall
        self._sightings: deque[_Sighting] = deque(maxlen=_ANSWERS)
        self._believed: float | None = None
        """The offset that now counts as certain. All offsets: seconds ahead of the monotonic clock."""
        self._shown: float | None = None
        """The offset that earlier answers and records have shown: the API's clock has reached it."""
        self._shown_at = 0.0
        """When an answer last agreed with ``_shown``, on the monotonic clock."""
        self._trust_wall = True
        """Did our wall clock agree with the last ``Date`` that was believed?"""

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
            self._reached(newest / 1000 - received, received)
        date = parse_http_date(date_header)
        if date is not None and (age_header is None or age_header.strip() == "0"):
            # Date is cut to whole seconds and was written somewhere between sending and receiving.
            likely = date + 0.5 - (sent + received) / 2
            self._sightings.append(_Sighting(date - received, date + 1.0 - sent, likely))
        if len(self._sightings) >= _NEEDED:
            self._believe(self._wall() - received, received)

    def reached(self, ms: int) -> None:
        """The API's clock was found to have passed this time (milliseconds) by a former run."""
        if self._shown is None:
            now = self._monotonic()
            self._reached(ms / 1000 - now, now)

    def _reached(self, offset: float, now: float) -> None:
        if self._shown is None or offset > self._shown - _CLOSE:
            self._shown = offset if self._shown is None else max(offset, self._shown)
            self._shown_at = now

    def _believe(self, wall: float, now: float) -> None:
        """Weigh the witnesses, after an answer; the table is in docs/counting.md."""
        date = min(sighting.least for sighting in self._sightings)
        agree = abs(wall - date) <= _CLOSE
        if self._shown is not None:
            # Ten answers in a row that tell an earlier time are believed.
            self._shown = min(self._shown, max(sighting.least for sighting in self._sightings))
        if self._shown is None:
            allowed = wall
        elif self._trust_wall or agree:
            allowed = max(wall, self._shown)
        else:
            jumped = date - self._shown > _JUMP + (_FASTEST - 1) * (now - self._shown_at)
            allowed = self._shown if jumped else date
        self._believed = min(date, allowed)
        if self._believed == date:
            self._trust_wall, self._shown_at = agree, now
            self._shown = self._believed if self._shown is None else max(self._shown, self._believed)

    def now_ms(self) -> int | None:
        """Milliseconds that the API's clock has certainly reached; ``None`` before two usable answers."""
        if self._believed is None:
            return None
        return int((self._believed + self._monotonic()) * 1000)

    def latest_ms(self) -> int | None:
        """Milliseconds that the API's clock has not passed, if the time that is believed is right."""
        if self._believed is None:
            return None
        first, last = (min(bounds) for bounds in list(zip(*self._sightings, strict=True))[:2])
        return int((self._believed + max(0.0, last - first) + self._monotonic()) * 1000)

    def furthest_ms(self) -> int | None:
        """The latest time (milliseconds) that any of the last answers told, believed or not."""
        latest = self.latest_ms()
        if latest is None:
            return None
        most = max(sighting.most for sighting in self._sightings)
        return max(latest, int((most + self._monotonic()) * 1000))

    def skew(self, wall_now: float) -> float | None:
        """The API's clock minus ours in seconds: the median, so that one false date changes nothing."""
        if len(self._sightings) < _NEEDED:
            return None
        likely = statistics.median(sighting.likely for sighting in self._sightings)
        return likely + self._monotonic() - wall_now

    def undecided(self, tolerance: float) -> bool:
        """Could further answers change much? Until there are ten, while they differ from our clock."""
        skew = self.skew(self._wall())
        return skew is None or (len(self._sightings) < _ANSWERS and abs(skew) > tolerance)
