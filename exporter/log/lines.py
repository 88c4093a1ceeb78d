"""Log lines: constant messages with fields, as logfmt or JSON, on the standard ``logging`` module.

Knows how a line is written; must not know what is logged or why. Any value may be untrusted text, so all are
escaped, bounded and redacted here, whoever logs them.

    logger = logging.getLogger(__name__)
    log.info(logger, "poll complete", target=target.name, requests=3)

A field that is an exception is written as its message.
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

from exporter.errors import ExporterError
from exporter.log.redactor import Redactor
from exporter.log.writer import LineWriter

LogLevel = Literal["debug", "info", "warn", "error"]
LogFormat = Literal["logfmt", "json"]

VALUE_LIMIT: Final = 1000
_TRACE_LIMIT: Final = 16_000
_LEVELS: Final[dict[LogLevel, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
QUIET_LOGGERS: Final = ("asyncio", "httpcore", "httpx", "uvicorn", "uvicorn.access", "uvicorn.error")
"""Libraries that log every request or start: of these only warnings and errors are written."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/@%+,*()<>\[\]{}~^$!?&;|-]+")
"""A value that logfmt writes without quotes."""
_KEY: Final = re.compile("[^A-Za-z0-9_.]")


def debug(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.DEBUG, message, fields)


def info(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.INFO, message, fields)


def warn(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.WARNING, message, fields)


def error(logger: logging.Logger, message: str, /, **fields: object) -> None:
    _log(logger, logging.ERROR, message, fields)


def configure(
    level: LogLevel,
    line_format: LogFormat,
    stream: TextIO,
    *,
    redactor: Redactor,
    root: logging.Logger | None = None,
) -> None:
    """Sends every log line of the process to ``stream``. Called again, it replaces what was set before.

    A stream with a file descriptor is written by a thread, so that a slow reader delays nothing else.
    """
    root = root or logging.getLogger()
    handler: logging.Handler
    try:
        handler = LineWriter(stream.fileno())
    except (OSError, ValueError):  # in memory, or closed
        handler = logging.StreamHandler(stream)
    formatter = {"logfmt": LogfmtFormatter, "json": JsonFormatter}[line_format]
    handler.setFormatter(formatter(redactor, traces=level == "debug"))
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    for name in QUIET_LOGGERS:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(logging.WARNING, _LEVELS[level]))


class _FieldsFormatter(logging.Formatter):
    """What both formats share: a log record as pairs of a key and a redacted, bounded value."""

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
            yield from self._source(caught)

    def _source(self, caught: BaseException) -> Iterator[tuple[str, Any]]:
        """Where in the code an unexpected error was raised; the whole traceback at level debug only."""
        frames = traceback.extract_tb(caught.__traceback__)
        if frames and not isinstance(caught, ExporterError):
            yield "at", f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        if self._traces:
            trace = "".join(traceback.format_exception(caught))
            yield "trace", self._redactor.redact(trace)[-_TRACE_LIMIT:]

    def _value(self, value: object) -> object:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return round(value, 6)
        if isinstance(value, BaseException):
            value = str(value) or type(value).__name__
        text = self._redactor.redact(str(value))
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
    """JSON has no way to write infinity or NaN."""
    return str(value) if isinstance(value, float) and value - value != 0 else value


def _escaped(quoted: str) -> str:
    """JSON text with its unprintable characters (direction marks, half surrogate pairs) as escapes."""
    if quoted.isprintable():
        return quoted
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in quoted)
