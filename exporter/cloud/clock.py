"""The API's clock, learned from its answers (rule R3).

Pure: the monotonic clock is an argument, the wall clock only a number to compare with.
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


class _Sighting(NamedTuple):
    """One ``Date`` as offsets from the monotonic clock, in seconds."""

    least: float
    """The API's clock was at least this much ahead of the monotonic one."""
    most: float
    likely: float


class ApiClock:
    """Bounds on the API's present time, from the last ten usable answers."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._sightings: deque[_Sighting] = deque(maxlen=_ANSWERS)

    def observe(self, date_header: str | None, age_header: str | None, sent: float, received: float) -> None:
        """Learn from one answer; ``sent`` and ``received`` are on the monotonic clock.

        An answer from a cache (``Age`` above 0 or unreadable) or without a readable date teaches nothing.
        """
        date = parse_http_date(date_header)
        if date is None or (age_header is not None and age_header.strip() != "0"):
            return
        # Date is cut to whole seconds and was written somewhere between sending and receiving.
        self._sightings.append(
            _Sighting(date - received, date + 1.0 - sent, date + 0.5 - (sent + received) / 2)
        )

    def now_ms(self) -> int | None:
        """Milliseconds that the API's clock has certainly reached; ``None`` before two usable answers."""
        if len(self._sightings) < _NEEDED:
            return None
        return int((min(sighting.least for sighting in self._sightings) + self._monotonic()) * 1000)

    def latest_ms(self) -> int | None:
        """Milliseconds that the API's clock has not passed, as far as the same answers tell."""
        now = self.now_ms()
        if now is None:
            return None
        most = min(sighting.most for sighting in self._sightings)
        return max(now, int((most + self._monotonic()) * 1000))

    def skew(self, wall_now: float) -> float | None:
        """The API's clock minus ours in seconds: the median, so that one false date changes nothing."""
        if len(self._sightings) < _NEEDED:
            return None
        likely = statistics.median(sighting.likely for sighting in self._sightings)
        return likely + self._monotonic() - wall_now
