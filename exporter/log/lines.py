"""Log lines: constant messages with fields, as logfmt or JSON, on the standard ``logging`` module.

Knows how a line is written; must not know what is logged or why. Everything here may carry untrusted
text, so values are escaped, bounded and searched for registered secrets, whoever logs them.

    logger = logging.getLogger(__name__)
    log.info(logger, "poll complete", target=target.name, requests=3)

A field that is an exception shows as its one line.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO
from urllib.parse import quote

from exporter.errors import ExporterError
from exporter.log.writer import LineWriter

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["logfmt", "json"]

VALUE_LIMIT: Final = 1000
_TRACE_LIMIT: Final = 16_000
_RENEWED_LIMIT: Final = 200
"""Some hours of every target's temporary keys: those before have ended."""
_MASK: Final = "***"
_LEVELS: Final[dict[Level, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_QUIET: Final = ("asyncio", "httpcore", "httpx", "uvicorn", "uvicorn.access", "uvicorn.error")
"""Libraries that narrate every request or start; their warnings are heard."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@%+,*()<>\[\]{}~^$!?&;|-]+")
"""What logfmt needs no quotes for."""
_KEY: Final = re.compile("[^A-Za-z0-9_.]")


class Redactor:
    """The secrets that no line may show; more can be added at any time, as they are read or renewed."""

    def __init__(self) -> None:
        self._lasting: set[str] = set()
        self._renewed: dict[str, None] = {}
        self._spellings: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        """From now on ``***`` stands in its place, also where it is written as in JSON, Python or a URL."""
        self._lasting.add(secret)
        self._spell()

    def add_renewed(self, secret: str) -> None:
        """Like ``add``, for secrets that are told at every use and replaced in time: the latest are kept."""
        known = secret in self._renewed
        if not known and len(self._renewed) >= _RENEWED_LIMIT:
            del self._renewed[next(iter(self._renewed))]
        self._renewed.pop(secret, None)
        self._renewed[secret] = None
        if not known:
            self._spell()

    def _spell(self) -> None:
        spellings = {""}
        for secret in (*self._lasting, *self._renewed):
            spellings |= {
                secret,
                quote(secret, safe="", errors="replace"),
                json.dumps(secret)[1:-1],
                repr(secret)[1:-1],
            }
        # The longest first: one secret may be the beginning of another.
        self._spellings = tuple(sorted(spellings - {""}, key=len, reverse=True))

    def mask(self, text: str) -> str:
        for secret in self._spellings:
            text = text.replace(secret, _MASK)
        return text


def debug(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.DEBUG, message, fields)


def info(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.INFO, message, fields)


def warn(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.WARNING, message, fields)


def error(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.ERROR, message, fields)


def configure(
    level: Level, style: Format, stream: TextIO, *, redactor: Redactor, root: logging.Logger | None = None
) -> None:
    """Sends every log line of the process to ``stream``; called again, it replaces what was set before.

    A stream with a file descriptor is written by a thread: whoever logs does not wait for its reader.
    """
    root = root or logging.getLogger()
    handler: logging.Handler
    try:
        handler = LineWriter(stream.fileno())
    except (OSError, ValueError):  # in memory, or closed
        handler = logging.StreamHandler(stream)
    formatter = {"logfmt": LogfmtFormatter, "json": JsonFormatter}[style]
    handler.setFormatter(formatter(redactor, traces=level == "debug"))
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    for name in _QUIET:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(logging.WARNING, _LEVELS[level]))


class _FieldsFormatter(logging.Formatter):
    """What both styles share: a record as pairs of a key and a masked, bounded value."""

    def __init__(self, redactor: Redactor, *, traces: bool) -> None:
        super().__init__()
        self._redactor = redactor
        self._traces = traces

    def pairs(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        yield "ts", moment.replace("+00:00", "Z")
        yield "level", "warn" if record.levelno == logging.WARNING else record.levelname.lower()
        yield "logger", record.name
        yield "msg", self._value(record.getMessage())
        caught: BaseException | None = None
        for key, value in getattr(record, "fields", {}).items():
            caught = value if isinstance(value, BaseException) else caught
            yield _KEY.sub("_", key), self._value(value)
        if record.exc_info and (caught := record.exc_info[1]) is not None:
            yield "error", self._value(f"{type(caught).__name__}: {caught}")
        if caught is not None:
            yield from self._place(caught)

    def _place(self, caught: BaseException) -> Iterator[tuple[str, Any]]:
        """Where a defect is to be found; the whole traceback at level debug only."""
        frames = traceback.extract_tb(caught.__traceback__)
        if frames and not isinstance(caught, ExporterError):
            yield "at", f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        if self._traces:
            trace = "".join(traceback.format_exception(caught))
            yield "trace", self._redactor.mask(trace)[-_TRACE_LIMIT:]

    def _value(self, value: object) -> object:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return round(value, 6)
        if isinstance(value, BaseException):
            value = str(value) or type(value).__name__
        text = self._redactor.mask(str(value))
        return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


class LogfmtFormatter(_FieldsFormatter):
    """``ts=… level=info logger=exporter.polling.poller msg="poll complete" target=production``"""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_logfmt(value)}" for key, value in self.pairs(record))


class JsonFormatter(_FieldsFormatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        values = {key: _json_number(value) for key, value in self.pairs(record)}
        return _escaped(json.dumps(values, ensure_ascii=False, allow_nan=False))


def _log(logger: logging.Logger, level: int, message: str, fields: dict[str, object]) -> None:
    logger.log(level, message, extra={"fields": fields}, stacklevel=3)


def _logfmt(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if _PLAIN.fullmatch(text) else _escaped(json.dumps(text, ensure_ascii=False))


def _json_number(value: object) -> object:
    """JSON has no word for infinity or NaN."""
    return str(value) if isinstance(value, float) and value - value != 0 else value


def _escaped(quoted: str) -> str:
    """JSON text with its unprintable characters (direction marks, half surrogate pairs) as escapes."""
    if quoted.isprintable():
        return quoted
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in quoted)
