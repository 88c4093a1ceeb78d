"""Log lines: how they are written, how they get out, and the secrets that none of them may show.

Must not know what is logged or why.
"""

from exporter.log.lines import (
    VALUE_LIMIT,
    JsonFormatter,
    LogfmtFormatter,
    LogFormat,
    LogLevel,
    configure,
    debug,
    error,
    info,
    warn,
)
from exporter.log.output import redacted_output
from exporter.log.redactor import REDACTED, Redactor
from exporter.log.writer import drain, dropped_lines

__all__ = [
    "REDACTED",
    "VALUE_LIMIT",
    "JsonFormatter",
    "LogFormat",
    "LogLevel",
    "LogfmtFormatter",
    "Redactor",
    "configure",
    "debug",
    "drain",
    "dropped_lines",
    "error",
    "info",
    "redacted_output",
    "warn",
]
