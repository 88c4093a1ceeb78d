"""Types of configuration values: what the file says -> what the program uses, or ValueRefusedError.

Knows which values can work and how to say so; must not know where in the file a value stands.
Messages show a value only where nobody could have written a secret by accident, cut and escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from exporter.config import hosts, zones
from exporter.config.store_url import STORE_URL, store_url
from exporter.config.yaml_nodes import Parser, ValueRefusedError, YamlValue, kind_of, read_limited
from exporter.failures import NO_MESSAGE, UNCLASSIFIED, compile_rule
from exporter.process import exhausted

T = TypeVar("T")
L = TypeVar("L", bound=str)

_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION: Final = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))
_LONGEST: Final = 3650 * 86400.0
_SECRET_LIMIT: Final = 64 * 1024
_PLACEHOLDER: Final = re.compile(r"\$[A-Z_][A-Z0-9_]*|\$[{(].*[})]|\{\{.*\}\}|%[A-Z_]+%|<[A-Za-z0-9 _-]*>")
_SAMPLE: Final = re.compile(
    r"x{3,}|\*{3,}|\.{3,}|(?:change|replace)[-_ ]?me"
    r"|your[-_ ](?:[a-z]+[-_ ])*(?:key|ak|sk|token|password)(?:[-_ ]here)?",
    re.IGNORECASE,
)
"""What stands in examples in place of a secret."""
_UNFILLED: Final = "holds a variable or a placeholder, and nothing here fills it in: write the value itself"
_SHOWN: Final = 19
"""Longer values stay unseen: access keys begin at 20 characters."""


@dataclass(frozen=True)
class ValueType(Generic[T]):
    """What one value can be. Called with what the file says, it returns what the program uses."""

    parse: Parser[T]
    schema: Mapping[str, Any]
    """The same for editors, as JSON Schema: it lets pass what only the parser can refuse."""
    spell: Callable[[T], object] = lambda value: value
    """The value as one writes it in the file."""
    as_written: bool = False
    """Not as YAML reads it, which takes +10:00 for a number to the base of 60."""

    def __call__(self, value: YamlValue) -> T:
        """Raises ValueRefusedError."""
        return self.parse(value)


class Duration(ValueType[float]):
    """Seconds."""


class Ascending(NamedTuple):
    """A list of upper bounds, each greater than the one before."""

    item: ValueType[Any]
    most: int


class SomeOf:
    """A list of some of these words, of all of them or of none."""

    def __init__(self, *words: str) -> None:
        self.words: Final = words
        self.item: Final = choice(*words)


def shown(text: str) -> str:
    """A value for a message: in quotes and on one line, or only its length."""
    return f'"{_escaped(text)}"' if len(text) <= _SHOWN else f"a text of {len(text)} characters"


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def spelled(seconds: float) -> str:
    """A duration as one writes it in the file, such as ``1h30m``."""
    rest, text = round(seconds * 1000), ""
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def duration(at_least: str, at_most: float = _LONGEST) -> Duration:
    """Seconds from ``500ms``, ``30s``, ``5m``, ``1h``, ``7d`` or several such, largest first."""
    least = _seconds(at_least)

    def parse(value: YamlValue) -> float:
        text = _text(value, "a duration such as 30s or 1h30m")
        seconds = _seconds(text)
        if not least <= seconds <= at_most:
            raise ValueRefusedError(f"must be from {at_least} to {spelled(at_most)}, not {shown(text)}")
        return seconds

    schema = {
        "type": "string",
        "description": "a duration such as 30s or 1h30m",
        "pattern": f"^(?=.){_DURATION.pattern}$",
    }
    return Duration(parse, schema, spell=spelled)


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueRefusedError(
            f"must be a duration such as 500ms, 30s, 5m, 1h, 7d or 1h30m, not {shown(text)}"
        )
    sizes = zip(match.groups(), _UNITS.values(), strict=True)
    return sum(int(count) * size for count, size in sizes if count) / 1000


def integer(least: int, most: int) -> ValueType[int]:
    def parse(value: YamlValue) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            given = "a fraction" if isinstance(value, float) else kind_of(value)
            raise ValueRefusedError(f"must be a whole number, not {given}")
        if not least <= value <= most:
            raise ValueRefusedError(f"must be from {least} to {most}, not {value}")
        return value

    return ValueType(parse, {"type": "integer", "minimum": least, "maximum": most})


def number(least: float, most: float) -> ValueType[float]:
    def parse(value: YamlValue) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueRefusedError(f"must be a number, not {kind_of(value)}")
        if math.isnan(value) or not least <= value <= most:
            raise ValueRefusedError(f"must be from {least:g} to {most:g}, not {value:g}")
        return float(value)

    return ValueType(parse, {"type": "number", "minimum": least, "maximum": most})


def _boolean(value: YamlValue) -> bool:
    if not isinstance(value, bool):
        raise ValueRefusedError(f"must be true or false, not {kind_of(value)}")
    return value


boolean: Final = ValueType(_boolean, {"type": "boolean"})


def choice(*options: L) -> ValueType[L]:
    """One of the given words; YAML's own true and false count as words here."""
    expected = f"must be one of {', '.join(options)}"

    def parse(value: YamlValue) -> L:
        text = str(value).lower() if isinstance(value, bool) else value
        if not isinstance(text, str):
            raise ValueRefusedError(f"{expected}, not {kind_of(value)}")
        for option in options:
            if option == text:
                return option
        raise ValueRefusedError(f"{expected}, not {shown(text)}")

    own = [value for value in (True, False) if str(value).lower() in options]
    return ValueType(parse, {"enum": [*options, *own]})


def matching(pattern: str, what: str) -> ValueType[str]:
    """Text that fully matches a pattern; ``what`` describes it."""
    compiled = re.compile(pattern)

    def parse(value: YamlValue) -> str:
        text = _text(value, what, quotes=True)
        if not compiled.fullmatch(text):
            raise ValueRefusedError(f"must be {what}")
        return text

    return ValueType(parse, {"type": "string", "pattern": f"^(?:{pattern})$"})


def _plain_text(value: YamlValue) -> str:
    """A name as people write them, in any script."""
    text = _text(value, "text", quotes=True)
    if not 1 <= len(text) <= 128 or not text.isprintable() or text != text.strip():
        raise ValueRefusedError("must be 1 to 128 characters, no control characters, no blanks at its ends")
    if "${" in text:
        raise ValueRefusedError(_UNFILLED)
    _refuse_placeholder(text)
    return text


plain_text: Final = ValueType(_plain_text, {"type": "string", "minLength": 1, "maxLength": 128})
class_name: Final = matching("[a-z0-9_]{1,64}", "1 to 64 lower-case letters, digits or _")
region_name: Final = matching("[a-z0-9]+(?:-[a-z0-9]+)*", "a region such as cn-north-4")
project_id: Final = matching("[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, _ or -")
_user_id: Final = matching(
    "[!-~](?:[ -~]{0,254}[!-~])?",
    "1 to 256 printable ASCII characters, no blanks at its ends (it is sent in a header)",
)
filter_value: Final = matching("[A-Za-z0-9_.-]{1,64}", "1 to 64 letters, digits, _, . or -")


def _filled_user_id(value: YamlValue) -> str:
    text = _user_id(value)
    _refuse_placeholder(text)
    return text


def _failure_class(value: YamlValue) -> str:
    name = class_name(value)
    if name in (UNCLASSIFIED, NO_MESSAGE):
        raise ValueRefusedError(f"{name} is for messages that no rule matches: choose another name")
    return name


user_id: Final = replace(_user_id, parse=_filled_user_id)
failure_class: Final = ValueType(
    _failure_class, {**class_name.schema, "not": {"enum": [UNCLASSIFIED, NO_MESSAGE]}}
)


def _pattern(value: YamlValue) -> str:
    # A block (``match: |``, ``|+``) ends in line breaks that nobody means; it would match nothing.
    text = _text(value, "an RE2 pattern in quotes").rstrip("\n")
    if not text:
        raise ValueRefusedError("must not be empty: it would match every message")
    try:
        compile_rule(text)
    except ValueError as error:
        raise ValueRefusedError(f"is no RE2 pattern: {_escaped(str(error)[:100])}") from None
    return text


pattern: Final = ValueType(_pattern, {"type": "string", "minLength": 1})


def _time_zone(value: YamlValue) -> str:
    text = _text(value, "a time zone such as UTC, Asia/Shanghai or +08:00")
    try:
        zones.zone(text)
    except ValueError as error:
        if error.__cause__ is not None and (missing := exhausted(error.__cause__)):
            raise ValueRefusedError(f"the time zone's data cannot be read: {missing}") from None
        from zoneinfo import available_timezones  # not at the top: see zones.py

        none = "" if available_timezones() else " (this machine has no time zone data: use an offset)"
        raise ValueRefusedError(
            f"must be a time zone such as UTC, Asia/Shanghai or +08:00, not {shown(text)}{none}"
        ) from None
    return text


time_zone: Final = ValueType(
    _time_zone, {"type": "string", "pattern": "^([+-][0-9]{2}:[0-9]{2}|[A-Za-z].*)$"}, as_written=True
)


def _origin(value: YamlValue) -> str:
    """``https://HOST[:PORT]`` in lower case; ``http://`` to this machine only. The value is never shown.

    A final dot of the host, which keeps name servers from trying other domains first, stays.
    """
    text = _text(value, "a URL such as https://HOST")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueRefusedError("must be a URL such as https://HOST or https://HOST:PORT") from None
    if not re.fullmatch("[!-~]+", text) or parts.scheme not in ("https", "http") or not _is_host(host):
        raise ValueRefusedError("must be a URL such as https://HOST or https://HOST:PORT")
    if port == 0:
        raise ValueRefusedError("must have a port from 1 to 65535, or none")
    if "@" in parts.netloc:
        raise ValueRefusedError("must not hold a user name or password: credentials belong under auth")
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        raise ValueRefusedError("must end after the host and port: no path, query or fragment")
    if parts.scheme == "http" and not hosts.is_loopback(host):
        raise ValueRefusedError(
            "must be https://: http:// would show credentials to the network and is for loopback only"
        )
    # As certificates know it. A name server may be asked for "localhost.", and answer what it likes.
    host = "localhost" if host == "localhost." else str(hosts.address(host) or host)
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port else "")


origin: Final = ValueType(_origin, {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$"})


def _is_host(host: str) -> bool:
    name = host.removesuffix(".")
    if hosts.address(name) is not None:
        return name == host
    label = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
    return len(name) <= 253 and re.fullmatch(rf"{label}(?:\.{label})*", name) is not None


storage_url: Final = ValueType(
    lambda value: store_url(_text(value, "a URL: sqlite:///FILE")), {"type": "string", "pattern": STORE_URL}
)


class Charset(NamedTuple):
    """What a secret may consist of."""

    pattern: str
    message: str


HEADER_WORD: Final = Charset("[!-~]+", "must be one word of printable ASCII (it is sent in a header)")
ASCII_LINE: Final = Charset("[ -~]+", "must be one line of printable ASCII")
ANY_LINE: Final = Charset(
    "[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", "must be one line without control characters"
)


class SecretType(NamedTuple):
    """A secret, given under its key, or in the file that the key's ``*_file`` twin names."""

    charset: Charset

    def text(self, value: YamlValue) -> str:
        """The secret without the white space around it; no message shows it. Raises ValueRefusedError."""
        if not isinstance(value, str):
            raise ValueRefusedError(f"must be text, not {kind_of(value)}: put it in quotes")
        return clean_secret(value, self.charset)

    def file(self, folder: Path) -> Parser[Path]:
        """The path of a file that holds a usable secret now; it is read again whenever it is needed."""

        def parse(value: YamlValue) -> Path:
            name = _text(value, "the path of a file")
            if not name or not name.isprintable():
                raise ValueRefusedError("must be the path of a file, without control characters")
            path = folder / name
            try:
                read_secret_file(path, self.charset)
            except ValueRefusedError as refused:
                where = "" if Path(name).is_absolute() else f" (looked for from {folder})"
                raise ValueRefusedError(f"the file {refused}{where}") from None
            return path

        return parse


def read_secret_file(path: Path, charset: Charset = ANY_LINE) -> str:
    """The secret in a file, without the white space around it. Raises ValueRefusedError."""
    return clean_secret(read_limited(path, _SECRET_LIMIT, regular=True), charset)


def clean_secret(text: str, charset: Charset) -> str:
    """What every secret goes through, wherever it comes from. Raises ValueRefusedError."""
    stripped = clean_variable(text)
    if not stripped:
        raise ValueRefusedError("is empty")
    _refuse_placeholder(stripped)
    if _SAMPLE.fullmatch(stripped):
        raise ValueRefusedError("is what examples have in place of a secret: write the secret itself")
    if not re.fullmatch(charset.pattern, stripped):
        raise ValueRefusedError(charset.message)
    return stripped


def clean_variable(text: str | None) -> str:
    """Without the byte order mark, blanks and line breaks that files and shells leave around it."""
    return (text or "").strip().removeprefix("\ufeff").strip()


def _refuse_placeholder(text: str) -> None:
    if _PLACEHOLDER.fullmatch(text):
        raise ValueRefusedError(_UNFILLED)


def _text(value: YamlValue, what: str, *, quotes: bool = False) -> str:
    if isinstance(value, str):
        return value
    remedy = ": put it in quotes" if quotes and isinstance(value, bool | int | float) else ""
    raise ValueRefusedError(f"must be {what}, not {kind_of(value)}{remedy}")
