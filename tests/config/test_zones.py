"""Names of time zones, read once for the configuration and the client."""

from __future__ import annotations

import errno
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest

from exporter.config import values, zones
from exporter.config.yaml_nodes import ValueRefusedError


@pytest.mark.parametrize(
    ("name", "hours"),
    [("UTC", 0.0), ("+08:00", 8.0), ("-03:30", -3.5), ("+14:00", 14.0), ("Asia/Shanghai", 8.0)],
    ids=str,
)
def test_a_zone_is_utc_an_offset_or_a_known_name(name: str, hours: float) -> None:
    """Both its clocks and the configuration go by the same parser."""
    assert datetime(2026, 1, 1, tzinfo=zones.zone(name)).utcoffset() == timedelta(hours=hours)
    assert values.time_zone(name) == name


@pytest.mark.parametrize("name", ["+14:30", "+15:00", "+08:60", "+8", "+0800", "utc", "Z", "Asia", " UTC"])
def test_what_the_configuration_refuses_is_no_zone(name: str) -> None:
    """There is no second, more tolerant parser."""
    with pytest.raises(ValueError, match="neither UTC"):
        zones.zone(name)
    with pytest.raises(ValueRefusedError, match="must be a time zone"):
        values.time_zone(name)


def test_only_named_zones_set_their_clocks_back() -> None:
    """An offset is the same all year."""
    assert [zones.longest_repeat(name) for name in ("UTC", "+08:00", "Europe/Berlin")] == [0.0, 0.0, 7200.0]
    assert not zones.has_daylight_saving("Asia/Shanghai", 2026)
    assert zones.has_daylight_saving("Europe/Berlin", 2026)
    assert zones.zone("UTC") is UTC


def test_zone_data_that_cannot_be_read_is_no_unknown_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Correcting the name would not help: the message says what is missing."""

    def refuse(name: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(zoneinfo, "ZoneInfo", refuse)
    with pytest.raises(ValueRefusedError, match="data cannot be read: too many open files"):
        values.time_zone("Europe/Berlin")
