"""What a checked configuration is: frozen values. Durations are seconds (float).

A struct is a section of the file, a field is a key. Type (of ``values.py``), bounds and default of a key
stand here alone; the text beside the type of some says why they must be given.
Must not know what the values are used for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from exporter.config import values
from exporter.failures import BUILTIN_RULES, ClassPattern


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

_HEADER_WORD: Final = values.SecretType(values.HEADER_WORD)


class PrivateSection(msgspec.Struct, frozen=True):
    """No message shows a wrong key here: a mistake can put a secret where a key belongs."""


class AkskAuth(PrivateSection, frozen=True):
    access_key: Annotated[SecretSource, _HEADER_WORD]
    secret_key: Annotated[SecretSource, _HEADER_WORD]
    security_token: Annotated[SecretSource | None, _HEADER_WORD] = None


class TokenAuth(PrivateSection, frozen=True):
    token: Annotated[SecretSource, _HEADER_WORD]


class PasswordAuth(PrivateSection, frozen=True):
    domain: Annotated[str, values.plain_text, "the account's name"]
    username: Annotated[str, values.plain_text, "the IAM user's name"]
    password: Annotated[SecretSource, values.SecretType(values.ASCII_LINE)]


class AgencyAuth(PrivateSection, frozen=True):
    pass


class DefaultChain(msgspec.Struct, frozen=True):
    """No ``auth`` in the file: environment, credentials file, agency."""


AUTH_METHODS: Final[dict[str, type[PrivateSection]]] = {
    "aksk": AkskAuth,
    "token": TokenAuth,
    "password": PasswordAuth,
    "agency": AgencyAuth,
}
"""By key: ``auth`` has one of them."""
Auth = AkskAuth | TokenAuth | PasswordAuth | AgencyAuth | DefaultChain


class Filters(msgspec.Struct, frozen=True):
    job_type: Annotated[str | None, values.filter_value] = None
    tts_service_enum: Annotated[str | None, values.filter_value] = None
    business_type: Annotated[str | None, values.filter_value] = None


class TargetConfig(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, values.plain_text, "it becomes the label target"]
    region: Annotated[str, values.region_name, "its books belong to one region"]
    endpoint: Annotated[str, values.origin]
    """Scheme and host (and port), no trailing slash. Like ``iam_endpoint`` the region's, unless given."""
    iam_endpoint: Annotated[str, values.origin]
    project_id: Annotated[str | None, values.project_id] = None
    app_user_id: Annotated[str | None, values.user_id] = None
    auth: Auth = DefaultChain()
    filters: Filters = Filters()
    rate_limit: Annotated[float, values.number(0.001, 1000)] = 5.0
    trust_count: Annotated[Literal["auto", "true", "false"], values.choice("auto", "true", "false")] = "auto"
    time_filters: Annotated[bool, values.boolean] = True
    time_zone: Annotated[str, values.time_zone] = "UTC"
    """IANA name or ``+08:00``."""
    time_format: Annotated[
        Literal["rfc3339", "unix", "unix_ms"], values.choice("rfc3339", "unix", "unix_ms")
    ] = "rfc3339"


class StorageConfig(PrivateSection, frozen=True, kw_only=True):
    url: Annotated[str, values.storage_url] = "sqlite:///metastudio-tts-exporter.db"
    """``sqlite:////ABSOLUTE/PATH`` once it is loaded: a relative path begins in the file's folder. Or
    ``postgresql://...``, as libpq has it, without a password."""
    password: Annotated[SecretSource | None, values.SecretType(values.ASCII_LINE)] = None
    """Of the database; without one libpq looks for it in PGPASSWORD, PGPASSFILE and ``~/.pgpass``."""
    lease: Annotated[float, values.duration("1s", at_most=600.0)] = 15.0
    """For several replicas, which SQLite cannot serve: how long one that fell silent keeps its targets."""
    retention: Annotated[float, values.duration("1h")] = 30 * 86400.0

    @property
    def in_file(self) -> bool:
        """Is it a SQLite file? Otherwise it is a PostgreSQL database."""
        return self.url.startswith("sqlite:")

    @property
    def sqlite_file(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))


class PollConfig(msgspec.Struct, frozen=True, kw_only=True):
    interval: Annotated[float, values.duration("1s")] = 15.0
    timeout: Annotated[float, values.duration("1s")] = 120.0
    window: Annotated[float, values.duration("1m")] = 3600.0
    overlap: Annotated[float, values.duration("5s")] = 300.0
    max_job_age: Annotated[float, values.duration("1m")] = 86400.0
    max_catch_up: Annotated[float, values.duration("10s")] = 86400.0


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True):
    text_length_buckets: Annotated[tuple[int, ...], values.Ascending(values.integer(1, 10**9), most=50)] = (
        50, 100, 200, 500, 1000, 2000, 3000, 5000, 10000,
    )  # fmt: skip
    duration_buckets: Annotated[tuple[float, ...], values.Ascending(values.duration("1ms"), most=50)] = (
        5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 43200.0, 86400.0,
    )  # fmt: skip
    max_label_sets: Annotated[int, values.integer(1, 10_000)] = 100
    created_timestamps: Annotated[bool, values.boolean] = False
    histogram_labels: Annotated[tuple[str, ...], values.SomeOf("job_type", "tts_service_enum")] = (
        "job_type", "tts_service_enum",
    )  # fmt: skip
    zero_series: Annotated[Literal["documented", "seen"], values.choice("documented", "seen")] = "documented"


class FailMsgClass(msgspec.Struct, frozen=True, rename={"class_name": "class"}):
    class_name: Annotated[str, values.failure_class, "the class of messages that match"]
    match: Annotated[str, values.pattern, "an RE2 pattern"]
    """Searched anywhere in the message."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    storage: StorageConfig = StorageConfig()
    poll: PollConfig = PollConfig()
    metrics: MetricsConfig = MetricsConfig()
    fail_msg_classes: tuple[FailMsgClass, ...] = ()
    builtin_fail_msg_classes: Annotated[bool, values.boolean] = True
    targets: Annotated[tuple[TargetConfig, ...], "at least one must be given"] = ()

    @property
    def failure_rules(self) -> tuple[ClassPattern, ...]:
        """For ``fail_msg``: those configured, then the built-in ones unless they are switched off."""
        own = tuple((rule.class_name, rule.match) for rule in self.fail_msg_classes)
        return (*own, *(BUILTIN_RULES if self.builtin_fail_msg_classes else ()))
