"""``--from FILE``: answers as somebody's API gave them to ``doctor --save``, moved to the present.

A question that was asked then gets its answer; a bound in time may differ a little. Any other one is answered
from all the records in the file, as documented. Everybody is let in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import wire
from .simulation import PROJECT_ID

_BOUNDS: Final = ("create_since", "create_until")
_TOLERANCE_MS: Final = 120_000
"""A bound that follows the clock comes a little earlier or later than it did then."""
_TEXT: Final = re.compile(r"(\d{4}-\d\d-\d\d)([Tt ])(\d\d:\d\d:\d\d)(.*)")
_MILLISECONDS: Final = 100_000_000_000
"""A larger number is in milliseconds."""
_JSON: Final = "application/json;charset=UTF-8"


Scalar = str | int | float


class RecordingHead(msgspec.Struct):
    """The first line."""

    format: int
    began: Annotated[int, msgspec.Meta(ge=0, le=1 << 32)]
    """The API's time, Unix seconds."""
    region: str = ""
    program: str = ""


class RecordedBody(msgspec.Struct, omit_defaults=True):
    """Of the list, or of the tenant's settings."""

    count: int | UnsetType = UNSET
    data: list[dict[str, Scalar]] | UnsetType = UNSET
    sub_account_control_config: dict[str, bool | None] | UnsetType = UNSET


class RecordedAnswer(msgspec.Struct):
    """Each further line: one question, and what came."""

    path: str
    query: dict[str, str | int] = {}
    user: bool = False
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    text: str = ""
    body: RecordedBody = msgspec.field(default_factory=RecordedBody)


class Recording(msgspec.Struct, frozen=True):
    """A whole file."""

    head: RecordingHead
    exchanges: tuple[RecordedAnswer, ...]


def read_recording(path: Path) -> Recording:
    """Raises OSError, ValueError with a line that says what is wrong."""
    lines = path.read_bytes().splitlines()
    try:
        head = msgspec.json.decode(lines[0] if lines else b"", type=RecordingHead)
        if head.format != 1:
            raise ValueError(f"line 1: format {head.format} is not known here")
        exchanges = tuple(msgspec.json.decode(line, type=RecordedAnswer) for line in lines[1:])
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a file of doctor --save: {error}") from None
    return Recording(head, exchanges)


def build_playback(recording: Recording, clock: Callable[[], float]) -> Starlette:
    """The API of the recording; it began when this is called."""
    playback = Playback(recording, clock)
    return Starlette(
        routes=[
            Route("/v1/{project_id}/ttsc/tts-jobs", playback.list_jobs, methods=["GET"]),
            Route("/v1/{project_id}/tenants/service-configs", playback.service_configs, methods=["GET"]),
            Route("/v3/projects", playback.list_projects, methods=["GET"]),
        ]
    )


class Playback:
    """The endpoints."""

    def __init__(self, recording: Recording, clock: Callable[[], float]) -> None:
        self._recording = recording
        self._clock = clock
        self._shift = int(clock()) - recording.head.began
        """Seconds from then to now."""
        records = [
            record
            for exchange in recording.exchanges
            for record in exchange.body.data or ()
            if exchange.path == "tts-jobs"
        ]
        self._records = {record.get("job_id", number): record for number, record in enumerate(records)}

    async def list_jobs(self, request: Request) -> Response:
        """``GET /v1/{project_id}/ttsc/tts-jobs``"""
        asked = dict(request.query_params)
        exchange = self._asked_before(asked, "x-app-userid" in request.headers)
        if exchange is not None:
            return self._replay(exchange)
        if not all(asked.get(name, "0").isdecimal() for name in ("offset", "limit")):
            return self._answer(400, _error("MSS.000000003", "offset and limit must be numbers"))
        return self._answer(200, self._from_all(asked))

    async def service_configs(self, _request: Request) -> Response:
        """``GET /v1/{project_id}/tenants/service-configs``"""
        found = [it for it in self._recording.exchanges if it.path == "service-configs"]
        return self._replay(found[0]) if found else self._answer(404, _error("APIG.0101", "not in the file"))

    async def list_projects(self, request: Request) -> Response:
        """``GET /v3/projects``"""
        name = request.query_params.get("name", self._recording.head.region)
        return self._answer(200, {"projects": [{"id": PROJECT_ID, "name": name}]})

    def _replay(self, exchange: RecordedAnswer) -> Response:
        if exchange.status != 200:
            return self._answer(exchange.status or 503, _error("MSS.000000003", exchange.text))
        body = exchange.body
        if body.data is not UNSET:
            body = replace(body, data=[self._present(record) for record in body.data])
        return self._answer(200, body)

    def _answer(self, status: int, body: object) -> Response:
        headers = {"content-type": _JSON, "date": formatdate(int(self._clock()), usegmt=True)}
        return Response(msgspec.json.encode(body), status, headers)

    def _asked_before(self, asked: Mapping[str, str], user: bool) -> RecordedAnswer | None:
        """The same question, with the nearest bounds."""
        alike = [
            (far, number)
            for number, it in enumerate(self._recording.exchanges)
            if it.path == "tts-jobs"
            and it.user == user
            and (far := self._distance(it.query, asked)) is not None
        ]
        return self._recording.exchanges[min(alike)[1]] if alike else None

    def _distance(self, then: Mapping[str, str | int], asked: Mapping[str, str]) -> int | None:
        """How far its bounds are from those asked for, milliseconds; ``None`` when it is another question."""
        if then.keys() != asked.keys():
            return None
        far = 0
        for name, value in then.items():
            if name in _BOUNDS:
                if _style(str(value)) != _style(asked[name]):
                    return None
                past = 946_684_800_000 + 10_000
                now = _ms(asked[name])
                shift = 0 if _ms(str(value)) < past else self._shift * 1000
                far += abs(_ms(str(value)) + shift - now)
            elif name == "job_id":
                if asked[name] != value and (asked[name] in self._records or value in self._records):
                    return None
            elif str(value) != asked[name]:
                return None
        return far if far <= _TOLERANCE_MS else None

    def _from_all(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """As documented, newest first."""
        found = [self._present(record) for record in self._records.values()]
        for name in ("job_id", "job_type", "tts_service_enum"):
            if name in asked:
                found = [record for record in found if record.get(name) == asked[name]]
        timed = [(_ms(str(record.get("create_time", 0))), record) for record in found]
        for name, sign in (("create_since", 1), ("create_until", -1)):
            if name in asked:
                bound = _ms(asked[name])
                timed = [(at, record) for at, record in timed if (at - bound) * sign >= 0]
        timed.sort(key=lambda it: it[0], reverse=True)
        offset, limit = int(asked.get("offset", "0")), int(asked.get("limit", "10"))
        return {"count": len(timed), "data": [record for _, record in timed[offset : offset + limit]]}

    def _present(self, record: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The record with its time moved on."""
        if "create_time" not in record:
            return dict(record)
        try:
            return {**record, "create_time": moved(record["create_time"], self._shift)}
        except (ValueError, OverflowError):  # no date of any calendar
            return dict(record)


def moved(value: Scalar, seconds: int) -> Scalar:
    """A time in the same writing, so many seconds later. Raises ValueError, OverflowError for an odd one."""
    if not isinstance(value, str):
        return value + (seconds * 1000 if value > _MILLISECONDS else seconds)
    if value.isdecimal():
        return str(moved(int(value), seconds))
    match = _TEXT.fullmatch(value)
    if match is None:
        return value
    day, between, time, rest = match.groups()
    at = datetime.fromisoformat(f"{day}T{time}") + timedelta(seconds=seconds)
    return f"{at:%Y-%m-%d}{between}{at:%H:%M:%S}{rest}"


def _style(text: str) -> str:
    if not text.isdecimal():
        return "text"
    return "unix_ms" if int(text) > _MILLISECONDS else "unix"


def _ms(text: str) -> int:
    """0 for what is no time."""
    try:
        return wire.read_time(text, 0.0)
    except ValueError:
        return 0


def _error(code: str, text: str) -> dict[str, str]:
    return {"error_code": code, "error_msg": text, "request_id": ""}
