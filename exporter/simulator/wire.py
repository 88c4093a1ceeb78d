"""How the API writes records, times and error bodies. Pure; as on the ShowTtsJob page.

Knows jobs and bytes; must not know requests.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, UnsetType

from .job import FAILED, SUCCEED, SimulatedJob

WireTimeFormat = Literal["rfc3339", "rfc3339_ms", "offset", "blank", "naive", "false_utc", "unix", "unix_ms"]
"""``false_utc``: the time of the zone, with a ``Z`` behind it."""
FilterTimeFormat = Literal["rfc3339", "unix", "unix_ms"]
Rounding = Literal["down", "nearest", "up"]
_UP: Final[dict[Rounding, int]] = {"down": 0, "nearest": 500, "up": 999}
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?", re.IGNORECASE | re.ASCII
)


class WireRecord(msgspec.Struct, gc=False):
    """TtsJobDetail; what is UNSET is left out."""

    job_id: str | UnsetType
    asset_id: str
    tts_service_enum: str | UnsetType
    text_length: int | UnsetType
    create_time: str | int | UnsetType
    job_type: str | UnsetType
    job_state: str | UnsetType
    audio_format: str = "WAV"
    need_timestamp: bool = False
    gen_srt: bool = False
    websocket_job_id: str | UnsetType = UNSET
    fail_msg: str | UnsetType = UNSET
    files: msgspec.Raw | UnsetType = UNSET


class WirePage(msgspec.Struct):
    count: int | UnsetType
    data: list[WireRecord]


class WireStyle(msgspec.Struct, frozen=True):
    """The choices that the documentation leaves open."""

    time_format: WireTimeFormat = "rfc3339"
    zone_hours: float = 0.0
    """Zone of written times; those without a zone are read in it, too."""
    files: bool = True
    rounding: Rounding = "down"
    zone: str = ""
    """IANA name of a zone, with its daylight saving; used instead of ``zone_hours``."""

    def time(self, at_ms: int) -> str | int:
        """A creation time as it is shown."""
        if self.time_format not in ("rfc3339_ms", "unix_ms"):
            at_ms = (at_ms + _UP[self.rounding]) // 1000 * 1000
        return write_time(at_ms, self.time_format, self.zone_hours, self.zone)


_encode = msgspec.json.Encoder().encode


def page(jobs: Iterable[SimulatedJob], count: int | None, now: float, style: WireStyle) -> bytes:
    """A whole answer; without a ``count`` if that is ``None``."""
    shown = [record(job, now, style) for job in jobs]
    return _encode(WirePage(UNSET if count is None else count, shown))


def record(job: SimulatedJob, now: float, style: WireStyle) -> WireRecord:
    """One job as the list shows it now."""
    state = job.shown_state_at(now)
    job_id = job.job_id
    shown = WireRecord(
        job_id=job_id,
        asset_id=job.asset_id,
        tts_service_enum=job.shown_service_at(now),
        text_length=job.text_length,
        create_time=style.time(job.created_ms),
        job_type=job.job_type,
        job_state=state,
    )
    if job.job_type == "WEBSOCKET":
        shown.websocket_job_id = f"ws-{job_id[:6]}"
    if state == FAILED:
        shown.fail_msg = job.fail_msg
    elif state == SUCCEED and style.files and not job.lacks("job_id"):
        shown.files = _files(job_id)
    if job.quirk is not None:
        if "job_id" in job.quirk.without:  # nothing made from its number may tell a twin from the other
            shown.websocket_job_id = UNSET
        for field in job.quirk.without:
            setattr(shown, field, UNSET)
    return shown


def _files(job_id: str) -> msgspec.Raw:
    url = f"https://simulated-obs.invalid/tts/{job_id}.wav?AWSAccessKeyId=SIMULATED&Expires=3600&Signature="
    return msgspec.Raw(f'[{{"audio_file_url":"{url}{job_id[:8]}%2B{job_id[-12:]}%3D"}}]'.encode())


@lru_cache(maxsize=8192)
def write_time(at_ms: int, time_format: WireTimeFormat, zone_hours: float, zone_name: str = "") -> str | int:
    """A creation time in one of the formats that such services use."""
    if time_format == "unix":
        return at_ms // 1000
    if time_format == "unix_ms":
        return at_ms
    zone: tzinfo = timezone(timedelta(hours=zone_hours)) if zone_hours else UTC
    if zone_name:
        zone = ZoneInfo(zone_name)
    at = datetime.fromtimestamp(at_ms // 1000, zone)
    if time_format == "blank":
        return at.strftime("%Y-%m-%d %H:%M:%S")
    text = at.strftime("%Y-%m-%dT%H:%M:%S")
    if time_format == "naive":
        return text
    if time_format == "false_utc":
        return text + "Z"
    if time_format == "rfc3339_ms":
        text += f".{at_ms % 1000:03d}"
    if zone is not UTC or time_format == "offset":
        offset = at.strftime("%z")
        return f"{text}{offset[:3]}:{offset[3:]}"
    return text + "Z"


def read_time(
    text: str,
    zone_hours: float,
    formats: Container[FilterTimeFormat] = ("rfc3339", "unix", "unix_ms"),
    *,
    zone_ignored: bool = False,
) -> int:
    """A filter's time in milliseconds: RFC 3339, or a number of seconds or milliseconds.

    Raises ValueError for one in none of these formats.
    """
    if text.isascii() and text.isdigit() and len(text) in (9, 10, 12, 13):
        if ("unix" if len(text) <= 10 else "unix_ms") not in formats:
            raise ValueError("not a time")
        return int(text) * (1000 if len(text) <= 10 else 1)
    match = _RFC3339.fullmatch(text)
    if match is None or "rfc3339" not in formats:
        raise ValueError("not a time")
    day, clock, fraction, zone = match.groups()
    if zone_ignored:
        zone = None
    at = datetime.fromisoformat(f"{day}T{clock}{(zone or '').upper()}")
    if at.tzinfo is None:
        at = at.replace(tzinfo=timezone(timedelta(hours=zone_hours)))
    return int(at.timestamp()) * 1000 + int(float(fraction or 0) * 1000 + 0.5)


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The error body of MetaStudio and of its gateway."""
    return _encode({"error_code": code, "error_msg": message, "request_id": request_id})
