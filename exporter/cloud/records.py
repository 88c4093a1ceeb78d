"""Bytes of one list answer -> records, decoded once and tolerantly.

Knows the wire format of ShowTtsJob. Every field may be missing, null, of a wrong type or no JSON at all;
unknown fields and values pass; ``files`` (signed download links) is not declared, so it is never decoded.
"""

from __future__ import annotations

import hashlib
import re
from datetime import tzinfo
from typing import Final, TypeVar

import msgspec

from exporter.cloud.http import bad_page, loose_json
from exporter.cloud.redact import MessageRedactor
from exporter.cloud.times import parse_time
from exporter.config import zone
from exporter.errors import ApiError, ErrorKind
from exporter.ledger import Page, Record
from exporter.ledger import record as model

_LABEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DOCUMENTED: Final = frozenset(model.JOB_TYPES + model.TTS_SERVICES)
_STATES: Final = frozenset((model.WAITING, model.PROCESSING, *model.FINAL_STATES))
RECORDS_LIMIT: Final = 500
"""On a page. At most 100 are asked for, but an API may not respect ``limit``."""
_OBJECTS_LIMIT: Final = 50_000
"""Brackets that a page may open before its records are counted; each costs the decoder a hundred bytes."""
_BEGINNING_LIMIT: Final = 60 * 1024
"""Bytes that are read of a record that is too large: always as many, so that the result is the same each
time."""
_ID_LIMIT: Final = 256
_MESSAGE_LIMIT: Final = 4096
_LENGTH_LIMIT: Final = 2**31 - 1
_NO_ERROR: Final = (b"null", b'""', b'"0"', b"0", b"{}", b"false")
_ABSENT: Final = msgspec.Raw(b"null")

_T = TypeVar("_T")


class _ListedJob(msgspec.Struct, gc=False):
    """The fields that are read, with the types they ought to have."""

    job_id: str | int | None = None
    create_time: str | int | float | None = None
    job_state: str | None = None
    job_type: str | None = None
    tts_service_enum: str | None = None
    text_length: int | None = None
    fail_msg: str | None = None
    asset_id: str | None = None
    websocket_job_id: str | None = None


class _Signs(msgspec.Struct, gc=False):
    """Names under which an error hides in an answer with status 200."""

    error_code: msgspec.Raw = _ABSENT
    errorCode: msgspec.Raw = _ABSENT  # noqa: N815 - the name on the wire
    error: msgspec.Raw = _ABSENT


class _ListAnswer(_Signs, gc=False):
    count: int | None = None
    data: list[_ListedJob] | None = None


_answer: Final = msgspec.json.Decoder(_ListAnswer)
_job: Final = msgspec.json.Decoder(_ListedJob)
_whole: Final = msgspec.json.Decoder(int)
_number: Final = msgspec.json.Decoder(int | float)


class Decoder:
    """Reads pages whose zoneless times are in ``time_zone``. Raises ValueError for an unknown zone."""

    def __init__(self, time_zone: str) -> None:
        self._zone = zone(time_zone)

    def decode(self, body: bytes, *, redact: MessageRedactor) -> Page:
        """The page, its elements in the order sent.

        Raises ApiError when the body is no list answer: kind ``decode``, or what the error object inside
        it says.
        """
        if len(body) > _OBJECTS_LIMIT and body.count(b"{") > _OBJECTS_LIMIT:
            return self._decode_loosely(body, redact)
        try:
            answer = _answer.decode(body)
        except loose_json.UNDECODABLE:
            return self._decode_loosely(body, redact)
        signs = (bytes(answer.error_code), bytes(answer.errorCode), bytes(answer.error))
        if answer.data is None or _has_error(signs):
            return _without_data(body, signs, answer.count, redact)
        if len(answer.data) > RECORDS_LIMIT:
            raise _too_many()
        local = self._zone
        return Page(tuple([_record(job, local, redact) for job in answer.data]), _sane_count(answer.count))

    def decode_beginning(self, body: bytes, *, redact: MessageRedactor) -> Record | None:
        """The one record of a list answer that is too large, as far as its beginning shows it.

        ``None`` where that is no list, or a list of several records. Of fields with equal names, the first is
        read.
        """
        body = body.removeprefix(loose_json.BYTE_ORDER_MARK)
        begin = loose_json.list_start(body)
        if begin is None:
            return None
        element = body[begin : begin + _BEGINNING_LIMIT].lstrip()
        return None if loose_json.begins_again(element) else self._plain(element, redact)

    def _decode_loosely(self, body: bytes, redact: MessageRedactor) -> Page:
        """Record by record and field by field: what cannot be decoded costs only its own place."""
        body = body.removeprefix(loose_json.BYTE_ORDER_MARK).strip()
        try:
            answer, elements = _taken_apart(body)
        except loose_json.TooManyError:
            raise _too_many() from None
        except ValueError as error:
            raise bad_page(body, redact) from error
        count = _sane_count(_field(_whole, answer.get("count")))
        signs = tuple(answer[name] for name in _Signs.__struct_fields__ if name in answer)
        if elements is None or _has_error(signs):
            return _without_data(body, signs, count, redact)
        return Page(tuple([self._element(element, redact) for element in elements]), count)

    def _element(self, element: bytes, redact: MessageRedactor) -> Record:
        try:
            return _record(_job.decode(element), self._zone, redact)
        except loose_json.UNDECODABLE:
            pass
        try:
            sent = loose_json.members(element)
        except ValueError:
            return self._plain(element, redact)
        return self._read(sent, redact)

    def _plain(self, element: bytes, redact: MessageRedactor) -> Record:
        """Read an element that cannot be taken apart: it is a record all the same if it shows an id."""
        if element.startswith(b"{"):
            record = self._read(loose_json.plain_members(element), redact)
            if record.job_id is not None:
                return record
        return _malformed(element)

    def _read(self, sent: dict[str, bytes], redact: MessageRedactor) -> Record:
        job = _ListedJob(
            job_id=_text(sent.get("job_id")) or _field(_whole, sent.get("job_id")),
            create_time=_text(sent.get("create_time")) or _field(_number, sent.get("create_time")),
            job_state=_text(sent.get("job_state")),
            job_type=_text(sent.get("job_type")),
            tts_service_enum=_text(sent.get("tts_service_enum")),
            text_length=_field(_whole, sent.get("text_length")),
            fail_msg=_text(sent.get("fail_msg")),
            asset_id=_text(sent.get("asset_id")),
            websocket_job_id=_text(sent.get("websocket_job_id")),
        )
        return _record(job, self._zone, redact)


def _taken_apart(body: bytes) -> tuple[dict[str, bytes], list[bytes] | None]:
    """The members of an answer and its records, as they are written. Raises ValueError."""
    try:
        answer = loose_json.members(body)
        data = answer.get("data", b"null")
        return answer, None if data == b"null" else loose_json.elements(data, RECORDS_LIMIT)
    except loose_json.TooManyError:
        raise
    except ValueError:
        return loose_json.unpaired(body, RECORDS_LIMIT)


def _without_data(body: bytes, signs: tuple[bytes, ...], count: int | None, redact: MessageRedactor) -> Page:
    """An answer without ``data``: an empty list if its ``count`` is 0, otherwise no list."""
    if count == 0 and not _has_error(signs):
        return Page((), 0)
    raise bad_page(body, redact)


def _too_many() -> ApiError:
    text = "the page is far larger than the 100 records that were asked for; check endpoint"
    return ApiError(ErrorKind.TOO_LARGE, text, status=200)


def _record(job: _ListedJob, local: tzinfo, redact: MessageRedactor) -> Record:
    state, length, message = job.job_state, job.text_length, job.fail_msg
    job_type, service = job.job_type, job.tts_service_enum
    created, other = parse_time(job.create_time, local)
    return Record(
        _identity(job.job_id),
        created,
        state if state in _STATES else model.UNKNOWN,
        job_type if job_type in _DOCUMENTED else _label(job_type),
        service if service in _DOCUMENTED else _label(service),
        length if length is not None and 0 <= length <= _LENGTH_LIMIT else None,
        _clean(redact.field(message, _MESSAGE_LIMIT), _MESSAGE_LIMIT) if message else "",
        _clean(job.asset_id, _ID_LIMIT) if job.asset_id else "",
        _clean(job.websocket_job_id, _ID_LIMIT) if job.websocket_job_id else "",
        "",
        other,
    )


def _identity(job_id: str | int | None) -> str | None:
    """An id that cannot be one (empty, absurdly long, with a NUL, which databases refuse) is no id."""
    text = str(job_id) if isinstance(job_id, int) else job_id
    return text if text and len(text) <= _ID_LIMIT and "\x00" not in text else None


def _label(value: str | None) -> str:
    """The label of a value that is not documented."""
    if not value:
        return model.UNKNOWN
    return value if _LABEL.fullmatch(value) else model.OTHER


def _clean(text: str, limit: int) -> str:
    return text[:limit].replace("\x00", "\ufffd")


def _malformed(element: bytes) -> Record:
    digest = hashlib.sha256(element).hexdigest()[:32]
    return Record(None, None, model.UNKNOWN, model.UNKNOWN, model.UNKNOWN, malformed=digest)


def _text(value: bytes | None) -> str | None:
    return loose_json.decode_text(value) if value is not None else None


def _field(decoder: msgspec.json.Decoder[_T], value: bytes | None) -> _T | None:
    try:
        return decoder.decode(value) if value is not None else None
    except loose_json.UNDECODABLE:
        return None


def _sane_count(count: int | None) -> int | None:
    return count if count is not None and 0 <= count <= _LENGTH_LIMIT else None


def _has_error(signs: tuple[bytes, ...]) -> bool:
    return any(sign not in _NO_ERROR for sign in signs)
