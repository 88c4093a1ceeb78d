"""The time formats that this API and its neighbours speak, read tolerantly and written strictly.

Pure. Milliseconds since 1970 UTC for what the ledger needs, Unix seconds for headers and expiries.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, Literal

TimeFormat = Literal["rfc3339", "unix", "unix_ms"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED_LENGTH: Final = 40
"""Characters. Longer texts are not cached: no usual time is so long, and memory stays small."""
_LATEST_MS: Final = 253_402_300_799_999  # end of the year 9999
_SECONDS_BELOW: Final = 100_000_000_000  # 11 digits: a smaller number is in seconds, a larger in ms
_TIMESTAMP: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})? ?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)
_NUMBER: Final = re.compile(r"\d{9,14}(?:\.\d{1,9})?", re.ASCII)


def format_time(ms: int, style: TimeFormat, *, up: bool) -> str:
    """A bound of the time filter; what the style cannot express is rounded outward (``up``: an end).

    Years end with 9999: whatever is later, as after a ``Date`` of that year, is cut to its end.
    """
    ms = min(ms, _LATEST_MS)
    if style == "unix_ms":
        return str(ms)
    seconds = min(-(-ms // 1000) if up else ms // 1000, _LATEST_MS // 1000)
    if style == "unix":
        return str(seconds)
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


PossibleTimes = tuple[int | None, int | None]
"""Milliseconds that a text means, and the later time that it may mean as well: mostly ``None``."""
_UNREADABLE: Final[PossibleTimes] = (None, None)


def parse_time(value: str | int | float | None, local: tzinfo) -> PossibleTimes:
    """Milliseconds of a ``create_time`` in any format of docs/api.md, section 3; ``None`` when unreadable.

    ``local`` is the zone of a text that names none. Where that zone sets its clocks back, such a text means
    two times; where it sets them forward, a text that should not be written may mean two as well.
    """
    if isinstance(value, str):
        return _remembered(value, local) if len(value) <= _REMEMBERED_LENGTH else _parse_text(value, local)
    return (_from_number(value), None) if value is not None else _UNREADABLE


def parse_expiry(text: str) -> float | None:
    """Unix seconds of an ``expires_at``, with or without a fraction; UTC when no zone is named."""
    ms, _ = _parse_text(text, UTC)
    return ms / 1000 if ms is not None else None


def parse_http_date(text: str | None) -> float | None:
    """Unix seconds of a ``Date`` or ``Retry-After`` header; ``None`` when absent or unreadable."""
    if not text or len(text) > 64:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _parse_text(text: str, local: tzinfo) -> PossibleTimes:
    if not _TIMESTAMP.fullmatch(text):
        text = text.strip()
        if _NUMBER.fullmatch(text):
            return _from_number(float(text) if "." in text else int(text)), None
        if not _TIMESTAMP.fullmatch(text):
            return _UNREADABLE
    try:
        moment = datetime.fromisoformat(_isoformat(text))
        if moment.tzinfo is not None:
            return _since_1970(moment), None
        times = {_since_1970(moment.replace(tzinfo=local, fold=fold)) for fold in (0, 1)}
    except (ValueError, OverflowError):
        return _UNREADABLE
    first, *later = sorted(time for time in times if time is not None) or (None,)
    return first, later[0] if later else None


def _since_1970(moment: datetime) -> int | None:
    age = moment - _EPOCH
    ms = (age.days * 86_400 + age.seconds) * 1000 + age.microseconds // 1000
    return ms if ms > 0 else None


_remembered: Final = lru_cache(maxsize=256)(_parse_text)
"""Records that follow each other on a page were often created in the same second."""


def _isoformat(text: str) -> str:
    """The same time in the spelling that ``fromisoformat`` reads."""
    if text[-1] == "Z" and len(text) == 20:
        return text
    return text.upper().replace(",", ".").replace(" ", "T", 1).replace(" ", "")


def _from_number(value: float) -> int | None:
    if not 0 < value <= _LATEST_MS:  # also refuses NaN
        return None
    return int(value * 1000) if value < _SECONDS_BELOW else int(value)
