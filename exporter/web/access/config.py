"""``--web.config.file``: the exporter-toolkit's file format -> frozen values, every problem at once.

Knows the keys and their possible values; must not know how a connection is served (``tls.py`` makes the TLS
context, ``basic_auth.py`` checks passwords). A value that cannot be honoured is refused, never ignored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from exporter.config import (
    Parser,
    Problems,
    Secret,
    Section,
    ValueRefusedError,
    YamlValue,
    kind_of,
    read_limited,
    read_yaml,
    values,
)
from exporter.web.access.tls import Tls, TlsSettings, make_tls
from exporter.web.access.tls_names import CURVES, cipher_suite, client_auth_type, tls_version

RESPONSE_HEADERS: Final = (
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
)
MAX_COST: Final = 18
"""2^18 rounds take seconds; more would keep all other clients waiting."""
_PEM_LIMIT: Final = 1024 * 1024
_HASH: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_GO_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


class RateLimit(msgspec.Struct, frozen=True):
    """A token bucket: ``burst`` requests at once, then one every ``interval`` seconds."""

    interval: float
    burst: int


class WebConfig(msgspec.Struct, frozen=True):
    """The content of the file, and of the files that it names."""

    files: tuple[Path, ...]
    """The file itself and those that it names: a change of any means to read all again."""
    tls: Tls | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Set on every answer; an empty value removes the header."""
    rate_limit: RateLimit | None = None
    users: dict[bytes, bytes] = {}
    """bcrypt hash by user name; empty: no password is asked for."""
    secrets: tuple[Secret, ...] = ()
    """What no log line may show."""


def load_web_config(path: Path) -> WebConfig:
    """Read and check the whole file and what it names. Raises ConfigError with every problem found."""
    problems = Problems(str(path))
    entry = read_yaml(path, problems, empty="write {} to serve without TLS and passwords")
    with entry.section(private=True) as top:
        settings = _tls(top, path.absolute().parent)
        headers = _http(top)
        limit = _rate_limit(top)
        users = _users(top)
    tls = make_tls(settings) if settings is not None and problems.count == 0 else None
    problems.raise_if_any()
    hashes = tuple(Secret(hashed.decode()) for hashed in users.values())
    key = (settings.key,) if settings is not None else ()
    files = (path, *(settings.files if settings is not None else ()))
    return WebConfig(files, tls, headers, limit, users, (*hashes, *key))


# --- tls_server_config ------------------------------------------------------------------------------------


def _tls(top: Section, folder: Path) -> TlsSettings | None:
    if (entry := top.get("tls_server_config")) is None:
        return None
    with entry.section(private=True) as section:
        files: list[Path] = []
        cert = _pem(section, "cert", folder, files, "CERTIFICATE")
        key = _pem(section, "key", folder, files, "PRIVATE KEY")
        if section.usable and not section.has("cert", "cert_file"):
            entry.refuse("cert_file or cert is missing; to serve without TLS remove tls_server_config")
        if section.usable and not section.has("key", "key_file"):
            entry.refuse("key_file or key is missing: it must hold the private key of the certificate")
        clients = section.value("client_auth_type", client_auth_type, "NoClientCert")
        ca = _pem(section, "client_ca", folder, files, "CERTIFICATE")
        sans = _list(section, "client_allowed_sans", values.plain_text, "names")
        low = section.value("min_version", tls_version, "TLS12")
        high = section.value("max_version", tls_version, "TLS13")
        suites = _list(section, "cipher_suites", cipher_suite, "cipher suites")
        curves = _list(section, "curve_preferences", values.choice(*CURVES), "curves")
        settings = TlsSettings(
            entry=entry,
            cert=cert,
            key=Secret(key),
            files=tuple(files),
            verify=clients,
            client_ca=ca,
            allowed_sans=frozenset(sans),
            min_version=low,
            max_version=high,
            cipher_suites=suites,
            prefer_server=section.value("prefer_server_cipher_suites", values.boolean, True),
            curve=CURVES[curves[0]] if curves else None,
        )
        _check_tls(section, settings, len(curves))
    return settings


def _check_tls(section: Section, tls: TlsSettings, curves: int) -> None:
    """Contradictions, and what would have no effect."""
    if tls.verify == "NoClientCert":
        if section.has("client_ca", "client_ca_file"):
            section.blame(
                "is given, but client_auth_type asks for no certificate: use RequireAndVerifyClientCert",
                "client_ca_file", "client_ca",
            )  # fmt: skip
    elif not section.has("client_ca", "client_ca_file"):
        section.blame("needs client_ca_file: who signs the certificates of clients", "client_auth_type")
    if section.has("client_allowed_sans") and tls.verify != "RequireAndVerifyClientCert":
        section.blame("needs client_auth_type: RequireAndVerifyClientCert", "client_allowed_sans")
    if section.has("client_allowed_sans") and not tls.allowed_sans:
        section.blame("is empty: nobody could connect; name one or remove it", "client_allowed_sans")
    if tls.min_version > tls.max_version:
        section.blame("must not be above max_version", "min_version", "max_version")
    if tls.min_version == "TLS13" and section.has("cipher_suites"):
        section.blame("has no effect with min_version TLS13, whose suites are fixed", "cipher_suites")
    if curves > 1:
        section.blame(
            "must name one curve: Python's TLS library takes no order of preference; without"
            " curve_preferences all usual curves are offered",
            "curve_preferences",
        )


def _pem(section: Section, key: str, folder: Path, files: list[Path], label: str) -> str:
    """The PEM text under a key or in the file that its ``*_file`` twin names; empty when it has neither."""
    inline, file = section.get(key), section.get(f"{key}_file")
    if inline is not None and file is not None:
        file.refuse(f"is given together with {key}: keep one")
    if file is not None and (path := file.value(_path(folder), None)) is not None:
        files.append(path)
        return file.value(lambda _: _checked_pem(_read(path), label, "names a file with"), "")
    return inline.value(lambda value: _checked_pem(_text(value), label, "has"), "") if inline else ""


def _read(path: Path) -> str:
    try:
        return read_limited(path, _PEM_LIMIT, regular=True)
    except ValueRefusedError as refused:
        raise ValueRefusedError(f"the file {refused}") from None


def _checked_pem(text: str, label: str, has: str) -> str:
    if not re.search(rf"-----BEGIN (?:[A-Z]+ )?{label}-----", text):
        raise ValueRefusedError(f"{has} no PEM block {label}")
    return text


def _path(folder: Path) -> Parser[Path | None]:
    def parse(value: YamlValue) -> Path:
        name = _text(value)
        if not name or not name.isprintable():
            raise ValueRefusedError("must be the path of a file, without control characters")
        return folder / name

    return parse


def _text(value: YamlValue) -> str:
    if isinstance(value, str):
        return value
    raise ValueRefusedError(f"must be text, not {kind_of(value)}")


def _list(section: Section, key: str, parse: Parser[str], what: str) -> tuple[str, ...]:
    if (entry := section.get(key)) is None:
        return ()
    found = (item.value(parse, "") for item in entry.items(what) or ())
    return tuple(one for one in found if one)


# --- the rest ---------------------------------------------------------------------------------------------


def _http(top: Section) -> tuple[tuple[str, str], ...]:
    with top.section("http_server_config") as section:
        if (entry := section.get("http2")) is not None and entry.value(values.boolean, False):
            entry.refuse("must be false: this server speaks HTTP/1.1 only")
        with section.section("headers") as headers:
            found = ((name, headers.get(name)) for name in RESPONSE_HEADERS)
            return tuple((name, entry.value(_header(name), "")) for name, entry in found if entry is not None)


def _header(name: str) -> Parser[str]:
    options = {"X-Frame-Options": ("deny", "sameorigin"), "X-Content-Type-Options": ("nosniff",)}.get(name)

    def parse(value: YamlValue) -> str:
        text = "" if value is None else _text(value)
        if text and options is not None and text not in options:
            raise ValueRefusedError(f"must be {' or '.join(options)}, or empty to leave the header out")
        if not re.fullmatch("(?:[!-~](?:[ -~]*[!-~])?)?", text):
            raise ValueRefusedError("must be one line of printable ASCII without blanks at its ends")
        return text

    return parse


def _rate_limit(top: Section) -> RateLimit | None:
    if (entry := top.get("rate_limit")) is None:
        return None
    with entry.section() as section:
        interval = section.value("interval", _go_duration, 0.0)
        burst = section.value("burst", values.integer(0, 1_000_000), 0)
        if interval and not burst:
            section.blame(
                "burst must be at least 1: with an interval and no burst nothing is answered", "burst"
            )
        if burst and not section.has("interval"):
            section.entry.refuse("interval is missing: burst alone limits nothing")
    return RateLimit(interval, burst) if interval else None


def _go_duration(value: YamlValue) -> float:
    """Seconds from Go's spelling, such as ``1s``, ``1.5s`` or ``1m30s``; 0 for none."""
    if value == 0 and not isinstance(value, bool | float):
        return 0.0
    text = value if isinstance(value, str) else ""
    parts = _GO_PART.findall(text) if len(text) <= 40 else []
    if text == "0":
        return 0.0
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueRefusedError("must be a duration with a unit such as 1s or 100ms, or 0 for no limit")
    seconds = sum(float(number) * _GO_UNITS[unit] for number, unit in parts)
    if seconds > 86400:
        raise ValueRefusedError("must be at most 24h")
    return seconds


def _users(top: Section) -> dict[bytes, bytes]:
    with top.section("basic_auth_users", private=True) as section:
        users = {}
        for name, entry in section.entries():
            if ":" in name or not name.isprintable():
                entry.refuse("the user name on this line must have no colon and no control characters")
            users[name.encode("utf-8", "replace")] = entry.value(_bcrypt, "").encode()
        return users


def _bcrypt(value: YamlValue) -> str:
    match = _HASH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueRefusedError(
            'must be a bcrypt hash ($2a$, $2b$ or $2y$, 60 characters), as from: htpasswd -nBC 10 ""'
        )
    if not 4 <= int(match[1]) <= MAX_COST:
        raise ValueRefusedError(f"must have a cost from 4 to {MAX_COST}, not {int(match[1])}")
    try:
        import bcrypt  # noqa: F401  # here, so that a start or a reload fails and not the first request
    except ImportError as error:
        raise ValueRefusedError(f"needs the Python package bcrypt: install it again ({error})") from None
    return match[0]
