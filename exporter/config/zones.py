"""A name of a time zone -> what its clocks do. The one parser of such names.

Pure, but for the time zone data that Python reads from the machine.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

_OFFSET: Final = re.compile("([+-])(0[0-9]|1[0-3]|14(?=:00)):([0-5][0-9])")


def zone(name: str) -> tzinfo:
    """``UTC``, an offset such as ``+08:00`` (at most 14 hours), or an IANA name.

    Raises ValueError for anything else; its cause says whether the machine's data could not be read.
    """
    if name == "UTC":
        return UTC
    if offset := _OFFSET.fullmatch(name):
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    from zoneinfo import ZoneInfo  # not at the top: few configurations name a zone

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name!r} is neither UTC, an offset such as +08:00, nor a known zone") from error


def has_daylight_saving(name: str, year: int) -> bool:
    """Whether its clocks change in that year."""
    local = zone(name)
    if isinstance(local, timezone):
        return False
    days = (datetime(year, 1, 1, tzinfo=local) + timedelta(days=day) for day in range(365))
    return len({day.utcoffset() for day in days}) > 1


def longest_repeat(name: str) -> float:
    """How many seconds its clocks may be set back: two hours at most, by any rule in force today."""
    return 0.0 if isinstance(zone(name), timezone) else 7200.0
