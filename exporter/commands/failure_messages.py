"""Failure messages in a file, as people have them: a message or a record of the API a line, or whole answers.

Untrusted: what is in memory at a time is bounded. Knows no rules.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import msgspec

from exporter.errors import ExporterError
from exporter.failures import CLASSIFIED_LIMIT
from exporter.ledger import FAILED

_LINE_LIMIT: Final = 1 << 20
"""Bytes of a line that are read at a time: only the first 4,096 characters of a message count."""
_DOCUMENT_LIMIT: Final = 32 << 20
"""Bytes of JSON that goes over several lines: some hundred pages of the API."""


class _Line(msgspec.Struct):
    """A record of the API as one JSON line; ``job_state`` tells failures from other jobs."""

    job_id: str | None = None
    fail_msg: str | None = None
    job_state: str = FAILED


_LINES: Final = msgspec.json.Decoder(_Line)
_JSON: Final = (b"{", b"[")
_MAY_BE_JSON: Final = (*_JSON, b'"', b"n", b" ", b"\t")
_PRETTY: Final = re.compile(rb'\s*[{\[]\s*\n\s*["{\[]')
"""Begins as indented JSON does: a bracket alone in its line, and then more of it."""
_VALUES: Final = json.JSONDecoder(strict=False)


class MessageFile:
    """The messages of a file, one after the other; then ``doubts`` says what may be meant otherwise."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._not_utf8 = 0
        self._no_records = 0
        self._left_out = 0

    def __iter__(self) -> Iterator[str]:
        """Raises ExporterError for UTF-16, OSError."""
        first = self._line()
        if first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise ExporterError(
                f"{self._name} is UTF-16: make it UTF-8 first, as with iconv -f UTF-16 -t UTF-8"
            )
        first = first.removeprefix(BOM_UTF8)
        while first and not first.strip():
            yield from self._of(first)
            first = self._line()
        lines = [first]
        if first.lstrip()[:1] in _JSON and _messages_of_line(first) is None:
            document = first + self._file.read(_DOCUMENT_LIMIT)
            values = _values(document)
            if values is not None:
                for value in values:
                    messages = _messages_of(value)
                    self._left_out += messages is None
                    yield from messages or ()
                return
            if len(document) > _DOCUMENT_LIMIT or _PRETTY.match(document):
                raise ExporterError(
                    f"{self._name} begins like JSON of several lines, and cannot be read as that: it may be"
                    f" cut off, or have more than {_DOCUMENT_LIMIT >> 20} MiB; write a record a line, as by"
                    " jq -c '.data[]'"
                )
            *whole, rest = document.split(b"\n")
            lines = [*(line + b"\n" for line in whole), rest + self._line()]
        for line in lines:
            yield from self._of(line)
        while line := self._line():
            if line[:1] in _MAY_BE_JSON or len(line) > CLASSIFIED_LIMIT:
                yield from self._of(line)
                continue
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                yield from self._of(line)

    @property
    def doubts(self) -> list[str]:
        """One line each."""
        found = []
        if self._not_utf8:
            found.append(f"lines that are not UTF-8: {self._not_utf8}; rules for them would match nothing")
        if self._no_records:
            found.append(
                f"lines that begin like JSON, and are no records: {self._no_records}; they count as messages"
            )
        if self._left_out:
            found.append(f"JSON that is no record of the API: {self._left_out} left out")
        return [f"{self._name}: {doubt}" for doubt in found]

    def _line(self) -> bytes:
        line = self._file.readline(_LINE_LIMIT)
        if line[:1] in _JSON and len(line) == _LINE_LIMIT and not line.endswith(b"\n"):
            line += self._file.readline(_DOCUMENT_LIMIT)
            return line
        if not line.endswith(b"\n") and len(line) == _LINE_LIMIT:
            while (rest := self._file.readline(_LINE_LIMIT)) and not rest.endswith(b"\n"):
                pass
        return line

    def _of(self, line: bytes) -> Iterator[str]:
        if not line:
            return
        if (begins := line.lstrip()[:1]) in (*_JSON, b'"') or line.strip() == b"null":
            if (messages := _messages_of_line(line)) is not None:
                yield from messages
                return
            self._no_records += begins == b"{"
        shown = line[: 4 * CLASSIFIED_LIMIT]
        try:
            text = shown.decode()
        except UnicodeDecodeError as error:
            text = shown.decode("utf-8", "replace")
            self._not_utf8 += error.start < len(shown) - 4 or len(shown) == len(line)
        yield text.rstrip("\r\n")[:CLASSIFIED_LIMIT]


def _messages_of_line(line: bytes) -> list[str] | None:
    """Of a record, an answer or an array on one line; ``None`` for what is none of these."""
    try:
        record = _LINES.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    else:
        if record.fail_msg is not None or record.job_id is not None:
            return [_clean(record.fail_msg)] if record.job_state == FAILED else []
    values = _values(line)
    return None if values is None or len(values) != 1 else _messages_of(values[0])


def _values(text: bytes) -> list[Any] | None:
    """The JSON values that stand one after the other; ``None`` where there is anything else."""
    rest, at, values = text.decode("utf-8", "replace"), 0, []
    try:
        while at < len(rest):
            if rest[at].isspace():
                at += 1
                continue
            value, at = _VALUES.raw_decode(rest, at)
            values.append(value)
    except (ValueError, RecursionError):
        return None
    return values


def _messages_of(value: object) -> list[str] | None:
    """Of the records in it that failed; ``None`` where it is no record, no answer and no list of records."""
    if value is None or isinstance(value, str):  # a ``fail_msg`` by itself
        return [_clean(value)]
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    listed: list[object] = value if isinstance(value, list) else [value]
    records = [one for one in listed if isinstance(one, dict) and one.keys() & {"job_id", "fail_msg"}]
    if len(records) != len(listed):
        return None
    return [_clean(one.get("fail_msg")) for one in records if one.get("job_state", FAILED) == FAILED]


def _clean(message: object) -> str:
    """Half a surrogate pair, which JSON can spell, is no text."""
    text = message if isinstance(message, str) else ""
    return text[:CLASSIFIED_LIMIT].encode("utf-8", "replace").decode()
