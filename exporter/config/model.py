"""What a checked configuration is: frozen values. Durations are seconds (float).

A field annotated with a parser is a key of the file with the field's name: type, parser, bounds and default
stand here alone. A field without one depends on more than its own value; ``load.py`` reads it.
Knows not what the values are used for. Import these names from ``exporter.config.load``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from exporter.config import values


class Secret:
    """A secret text that no log, repr, error or traceback can show."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


SecretSource = Secret | Path
"""Given inline, or the file (the ``*_file`` twin) to read it from whenever it is needed: files rotate."""


class AkskAuth(msgspec.Struct, frozen=True):
    access_key: SecretSource
    secret_key: SecretSource
    security_token: SecretSource | None = None


class TokenAuth(msgspec.Struct, frozen=True):
    token: SecretSource


class PasswordAuth(msgspec.Struct, frozen=True):
    domain: str
    username: str
    password: SecretSource


class AgencyAuth(msgspec.Struct, frozen=True):
    pass


class DefaultChain(msgspec.Struct, frozen=True):
    """No ``auth`` in the file: environment, credentials file, agency."""


Auth = AkskAuth | TokenAuth | PasswordAuth | AgencyAuth | DefaultChain


class Filters(msgspec.Struct, frozen=True):
    job_type: Annotated[str | None, values.filter_value] = None
    tts_service_enum: Annotated[str | None, values.filter_value] = None
    business_type: Annotated[str | None, values.filter_value] = None


class TargetConfig(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    region: str
    endpoint: str
    """Scheme and host (and port), no trailing slash: from ``region`` unless given."""
    iam_endpoint: str
    project_id: Annotated[str | None, values.project_id] = None
    app_user_id: Annotated[str | None, values.user_id] = None
    auth: Auth = DefaultChain()
    filters: Filters = Filters()
    rate_limit: Annotated[float, values.number(0.001, 1000)] = 5.0
    trust_count: Annotated[Literal["auto", "true", "false"], values.choice("auto", "true", "false")] = "auto"
    time_filters: Annotated[bool, values.boolean] = True
    time_zone: str = "UTC"
    """IANA name or ``+08:00``; checked."""
    time_format: Annotated[
        Literal["rfc3339", "unix", "unix_ms"], values.choice("rfc3339", "unix", "unix_ms")
    ] = "rfc3339"


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    """``sqlite:////ABSOLUTE/PATH`` (made absolute from the file's folder) or ``postgresql://…``."""
    password: SecretSource | None = None
    lease: Annotated[float, values.duration("1s")] = 15.0
    retention: Annotated[float, values.duration("1h")] = 30 * 86400.0

    @property
    def sqlite_file(self) -> Path | None:
        """The store's absolute path; ``None`` for PostgreSQL."""
        return Path(self.url.removeprefix("sqlite:///")) if self.url.startswith("sqlite:") else None


class PollConfig(msgspec.Struct, frozen=True, kw_only=True):
    interval: Annotated[float, values.duration("1s")] = 15.0
    timeout: Annotated[float, values.duration("1s")] = 120.0
    window: Annotated[float, values.duration("1m")] = 3600.0
    overlap: Annotated[float, values.duration("5s")] = 300.0
    max_job_age: Annotated[float, values.duration("1m")] = 86400.0
    max_catch_up: Annotated[float, values.duration("10s")] = 86400.0


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True):
    text_length_buckets: tuple[int, ...] = (50, 100, 200, 500, 1000, 2000, 3000, 5000, 10000)
    duration_buckets: tuple[float, ...] = (
        5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 43200.0, 86400.0,
    )  # fmt: skip
    max_label_sets: Annotated[int, values.integer(1, 10_000)] = 100
    created_timestamps: Annotated[bool, values.boolean] = False


class ClassRule(msgspec.Struct, frozen=True):
    class_name: str
    match: str
    """RE2, searched anywhere; checked."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    storage: StorageConfig
    poll: PollConfig = PollConfig()
    metrics: MetricsConfig = MetricsConfig()
    fail_msg_classes: tuple[ClassRule, ...] = ()
    builtin_fail_msg_classes: Annotated[bool, values.boolean] = True
    targets: tuple[TargetConfig, ...] = ()
