"""Addresses of stores, SQLite files and PostgreSQL databases: which can be used, what must not be in one."""

from __future__ import annotations

import re
from typing import Final

from exporter.config.yaml_nodes import ValueRefusedError

_PARAMETERS: Final = (
    *("host", "hostaddr", "port", "dbname", "user", "passfile", "connect_timeout", "application_name"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    *("sslmode", "sslnegotiation", "sslrootcert", "sslcert", "sslkey", "sslcertmode", "sslcrl", "sslcrldir"),
    *("sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding", "require_auth"),
    *("gssencmode", "krbsrvname", "target_session_attrs", "load_balance_hosts"),
)
"""Of libpq's, those that a ``postgresql://`` URL may have: no secrets, and nothing that poolers refuse."""
_POSTGRESQL: Final = (
    r"postgres(?:ql)?://(?:[^\s:@/?#]+@)?[^\s@/?#]*(?:/[^\s/?#]*)?"
    rf"(?:\?(?:{'|'.join(_PARAMETERS)})=[^\s&#]*(?:&(?:{'|'.join(_PARAMETERS)})=[^\s&#]*)*)?"
)
STORE_URL: Final = rf"^(?:sqlite:///(?!:memory:$)[^?#]*[^?#/]|{_POSTGRESQL})$"
"""The pattern of an address."""


def store_url(text: str) -> str:
    """The address as it is; no message shows it. Raises ValueRefusedError."""
    if text.startswith(("postgresql://", "postgres://")):
        return _postgresql_url(text)
    if not text.startswith("sqlite://"):
        raise ValueRefusedError("must be sqlite:///FILE, or postgresql://USER@HOST:PORT/DATABASE")
    name = text.removeprefix("sqlite:///")
    if name == text or not name.strip("/") or name.endswith("/") or not name.isprintable():
        raise ValueRefusedError("must name a file: sqlite:///FILE beside this one, or sqlite:////FOLDER/FILE")
    if name == ":memory:":
        raise ValueRefusedError("must name a file: what is only in memory is lost at every restart")
    if "?" in name or "#" in name:
        raise ValueRefusedError("takes no options: no ? or # in the file's name")
    return text


def _postgresql_url(text: str) -> str:
    if re.fullmatch(_POSTGRESQL, text):
        return text
    place, _, parameters = text.partition("?")
    names = [parameter.partition("=")[0] for parameter in parameters.split("&")]
    if re.match(r"[a-z]+://[^/]*:[^/]*@", place) or {"password", "sslpassword"} & {*names}:
        raise ValueRefusedError(
            "holds a password: give it as storage.password_file, or in PGPASSWORD or PGPASSFILE"
        )
    raise ValueRefusedError(
        "must be postgresql://USER@HOST:PORT/DATABASE, after a ? with parameters of these:"
        f" {', '.join(_PARAMETERS)}"
    )
