"""Log lines, and the secrets that none of them may show.

Knows how a line is written and how it gets out; must not know what is logged or why.
"""

from exporter.log.lines import (
    VALUE_LIMIT,
    Format,
    JsonFormatter,
    Level,
    LogfmtFormatter,
    Redactor,
    configure,
    debug,
    error,
    info,
    warn,
)

__all__ = [
    "VALUE_LIMIT",
    "Format",
    "JsonFormatter",
    "Level",
    "LogfmtFormatter",
    "Redactor",
    "configure",
    "debug",
    "error",
    "info",
    "warn",
]
