"""exporter.yaml -> frozen typed configuration, every problem at once with file:line and key path.

Knows which values depend on or contradict each other; must not know what they are used for. ``model.py``
declares the keys, ``yaml_nodes.py`` knows YAML, ``values.py`` single values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from exporter.config import values
from exporter.config.model import (
    AgencyAuth,
    AkskAuth,
    Auth,
    ClassRule,
    Config,
    DefaultChain,
    Filters,
    MetricsConfig,
    PasswordAuth,
    PollConfig,
    Secret,
    SecretSource,
    StorageConfig,
    TargetConfig,
    TokenAuth,
)
from exporter.config.values import spelled
from exporter.config.yaml_nodes import Parser, Place, Problems, Section, ValueRefusedError, read_yaml
from exporter.config.zones import has_daylight_saving
from exporter.errors import CredentialsError, Problem

__all__ = [
    "AgencyAuth",
    "AkskAuth",
    "Auth",
    "ClassRule",
    "Config",
    "DefaultChain",
    "Filters",
    "MetricsConfig",
    "PasswordAuth",
    "PollConfig",
    "Secret",
    "SecretSource",
    "StorageConfig",
    "TargetConfig",
    "TokenAuth",
    "inline_secrets",
    "load",
    "read_secret",
]

N = TypeVar("N", int, float)
S = TypeVar("S", bound=msgspec.Struct)

MAX_CLASSES: Final = 50
MAX_BUCKETS: Final = 50
IAM_ENDPOINT_VARIABLE: Final = "HUAWEICLOUD_SDK_IAM_ENDPOINT"


def load(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    warn: Callable[[Problem], None] = lambda _: None,
) -> Config:
    """Read and check the whole file. Raises ConfigError with every problem found.

    ``warn`` is told what can be used, but may not be meant.
    ``environ`` may hold ``HUAWEICLOUD_SDK_IAM_ENDPOINT``, which is used where ``iam_endpoint`` is not given.
    """
    problems = Problems(str(path))
    place = read_yaml(path, problems)
    folder = path.absolute().parent
    iam = _iam_from_environment(environ or {}, problems)
    with place.section() as top:
        poll = _poll(top)
        config = _read(
            top,
            Config,
            storage=lambda: _storage(top, folder),
            poll=lambda: poll,
            metrics=lambda: _metrics(top),
            fail_msg_classes=lambda: _classes(top),
            targets=lambda: _targets(top, folder, iam, poll),
        )
    problems.raise_if_any()
    _check_retention(top, config)
    problems.raise_if_any()
    for warning in problems.warnings:
        warn(warning)
    return config


def read_secret(source: SecretSource) -> str:
    """The secret as it is now. Raises CredentialsError when its file cannot be used any more."""
    if isinstance(source, Secret):
        return source.reveal()
    try:
        return values.read_secret_file(source)
    except ValueRefusedError as refused:
        raise CredentialsError(f"{source} {refused}") from None


def inline_secrets(config: Config) -> Iterator[Secret]:
    """Every secret that stands in the file itself, so that logs can mask it."""
    structs: list[msgspec.Struct] = [config.storage, *(target.auth for target in config.targets)]
    for struct in structs:
        for name in struct.__struct_fields__:
            if isinstance(value := getattr(struct, name), Secret):
                yield value


def _iam_from_environment(environ: Mapping[str, str], problems: Problems) -> str | None:
    if not (given := values.clean_variable(environ.get(IAM_ENDPOINT_VARIABLE))):
        return None
    try:
        return values.origin(given)
    except ValueRefusedError as refused:
        problems.add(0, "", f"the environment variable {IAM_ENDPOINT_VARIABLE} {refused}")
        return None


@cache
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, Parser[Any] | None, object], ...]:
    """Name, parser if the field is annotated with one, and default."""
    return tuple(
        (field.name, next(iter(getattr(field.type, "__metadata__", ())), None), field.default)
        for field in msgspec.structs.fields(struct)
    )


def _read(section: Section, struct: type[S], **others: Callable[[], object]) -> S:
    """The keys of a section in their struct's order; ``others`` reads the fields without a parser."""
    read: dict[str, Any] = {
        name: others[name]() if name in others or parse is None else section.value(name, parse, default)
        for name, parse, default in _fields(struct)
    }
    return struct(**read)


def _storage(top: Section, folder: Path) -> StorageConfig:
    default = values.storage_url(folder)("sqlite:///metastudio-tts-exporter.db")
    with top.section("storage", private=True) as section:
        storage = _read(
            section,
            StorageConfig,
            url=lambda: section.value("url", values.storage_url(folder), default),
            password=lambda: _secret(section, "password", folder, values.ANY_LINE),
        )
        if storage.password is not None and storage.url.startswith("sqlite:"):
            section.place.refuse(
                "a password is of no use with SQLite: remove it, or give a postgresql:// url"
            )
    return storage


def _poll(top: Section) -> PollConfig:
    with top.section("poll") as section:
        before = section.place.problems.count
        poll = _read(section, PollConfig)
        if section.place.problems.count == before:
            _check_poll(section, poll)
    return poll


def _check_poll(section: Section, poll: PollConfig) -> None:
    if poll.interval > poll.overlap:
        section.blame(
            f"interval ({spelled(poll.interval)}) must not be longer than overlap ({spelled(poll.overlap)}):"
            " records would settle before they were looked for",
            "interval", "overlap",
        )  # fmt: skip
    if poll.max_catch_up < 2 * (poll.overlap + poll.interval):
        section.blame(
            f"max_catch_up ({spelled(poll.max_catch_up)}) must be at least twice overlap plus interval"
            f" ({spelled(poll.overlap)} and {spelled(poll.interval)}): one failed poll would skip records",
            "max_catch_up", "overlap", "interval",
        )  # fmt: skip


def _metrics(top: Section) -> MetricsConfig:
    default = MetricsConfig()
    with top.section("metrics") as section:
        return _read(
            section,
            MetricsConfig,
            text_length_buckets=lambda: _buckets(
                section, "text_length_buckets", values.integer(1, 10**9), default.text_length_buckets
            ),
            duration_buckets=lambda: _buckets(
                section, "duration_buckets", values.duration("1ms"), default.duration_buckets
            ),
        )


def _buckets(section: Section, key: str, parse: Parser[N], default: tuple[N, ...]) -> tuple[N, ...]:
    """Upper bounds, ascending; each wrong one is named."""
    if (place := section.get(key)) is None:
        return default
    items = place.items("upper bounds, ascending")
    if items is None:
        return default
    if not 1 <= len(items) <= MAX_BUCKETS:
        place.refuse(f"must hold 1 to {MAX_BUCKETS} upper bounds, not {len(items)}")
        return default
    bounds = [(item, item.value(parse, None)) for item in items]
    known = [(item, bound) for item, bound in bounds if bound is not None]
    for (_, low), (item, high) in itertools.pairwise(known):
        if high <= low:
            item.refuse("is given twice" if high == low else "must be greater than the bound before it")
    return tuple(bound for _, bound in known)


def _classes(top: Section) -> tuple[ClassRule, ...]:
    if (place := top.get("fail_msg_classes")) is None:
        return ()
    rules = []
    for item in place.items("rules with class and match") or ():
        with item.section() as section:
            name = section.require("class", values.failure_class, "", "the class of messages that match")
            match = section.require("match", values.pattern, "", "an RE2 pattern")
            if "\n" in match and (place_of_match := section.get("match")) is not None:
                place_of_match.warn("has a line break in its middle: it matches only messages that have one")
            rules.append(ClassRule(name, match))
    if (count := len({rule.class_name for rule in rules})) > MAX_CLASSES:
        place.refuse(
            f"must name at most {MAX_CLASSES} classes, not {count}: each costs a series per label set"
        )
    return tuple(rules)


def _targets(top: Section, folder: Path, iam: str | None, poll: PollConfig) -> tuple[TargetConfig, ...]:
    if (place := top.get("targets")) is None:
        if top.usable:
            top.place.refuse("targets is missing: at least one must be given")
        return ()
    items = place.items("targets")
    if items is not None and not items:
        place.refuse("is empty: at least one target must be given")
    targets = tuple(_target(item, folder, iam, poll) for item in items or ())
    first: dict[str, int] = {}
    for index, (item, target) in enumerate(zip(items or (), targets, strict=True)):
        if target.name and first.setdefault(target.name, index) != index:
            item.refuse(f"has the same name as targets[{first[target.name]}]: each target needs its own")
    return targets


def _target(place: Place, folder: Path, iam: str | None, poll: PollConfig) -> TargetConfig:
    with place.section() as section:
        region = section.require("region", values.region_name, "", "its books belong to one region")
        target = _read(
            section,
            TargetConfig,
            region=lambda: region,
            name=lambda: section.require("name", values.plain_text, "", "it becomes the label target"),
            endpoint=lambda: section.value("endpoint", values.origin, values.metastudio_endpoint(region)),
            iam_endpoint=lambda: section.value(
                "iam_endpoint", values.origin, iam or values.iam_endpoint(region)
            ),
            auth=lambda: _auth(section, folder),
            filters=lambda: _filters(section),
            time_zone=lambda: _time_zone(section),
        )
        _check_rate_limit(section, target, poll)
        return target


def _check_rate_limit(section: Section, target: TargetConfig, poll: PollConfig) -> None:
    if target.rate_limit * poll.interval < 1 and (place := section.get("rate_limit")) is not None:
        place.refuse(
            f"allows less than one request per poll ({spelled(poll.interval)}): raise it or poll.interval"
        )


def _time_zone(section: Section) -> str:
    place = section.get("time_zone")
    if place is None:
        return "UTC"
    zone = place.written(values.time_zone, "UTC")
    if has_daylight_saving(zone, datetime.now(UTC).year):
        place.warn(
            "has daylight saving time: an hour of each autumn comes twice, and its times can be read wrong;"
            " give an offset such as +08:00 if the API's clock does not change"
        )
    return zone


def _filters(target: Section) -> Filters:
    with target.section("filters") as section:
        return _read(section, Filters)


def _auth(target: Section, folder: Path) -> Auth:
    if (place := target.get("auth")) is None:
        return DefaultChain()
    before = place.problems.count
    with place.section(private=True, words=True) as section:
        given = [(name, method) for name in _METHODS if (method := section.get(name)) is not None]
        if len(given) > 1:
            place.refuse(f"gives {' and '.join(name for name, _ in given)}: keep one")
        if section.empty and place.problems.count == before:
            place.refuse(
                f"gives no method: use one of {', '.join(_METHODS)}, or remove auth to use the environment,"
                " the credentials file or the agency"
            )
        return [DefaultChain(), *(_METHODS[name](method, folder) for name, method in given)][-1]


def _aksk(place: Place, folder: Path) -> Auth:
    with place.section(private=True) as section:
        return AkskAuth(
            access_key=_required_secret(section, "access_key", folder),
            secret_key=_required_secret(section, "secret_key", folder),
            security_token=_secret(section, "security_token", folder, values.HEADER_WORD),
        )


def _token(place: Place, folder: Path) -> Auth:
    with place.section(private=True) as section:
        return TokenAuth(_required_secret(section, "token", folder))


def _password(place: Place, folder: Path) -> Auth:
    with place.section(private=True) as section:
        return PasswordAuth(
            domain=section.require("domain", values.plain_text, "", "the account's name"),
            username=section.require("username", values.plain_text, "", "the IAM user's name"),
            password=_required_secret(section, "password", folder, values.ASCII_LINE),
        )


def _agency(place: Place, _: Path) -> Auth:
    with place.section(private=True):
        return AgencyAuth()


_METHODS: Final[dict[str, Callable[[Place, Path], Auth]]] = {
    "aksk": _aksk,
    "token": _token,
    "password": _password,
    "agency": _agency,
}


def _secret(section: Section, key: str, folder: Path, charset: values.Charset) -> SecretSource | None:
    """The secret itself, or the path of its file, which is checked now and kept for later readings."""
    inline, file = section.get(key), section.get(f"{key}_file")
    text = None if inline is None else inline.value(values.secret_text(charset), None)
    path = None if file is None else file.value(values.secret_file(folder, charset), None)
    if inline is not None and file is not None:
        file.refuse(f"is given together with {key}: keep one")
    return path if text is None else Secret(text)


def _required_secret(
    section: Section, key: str, folder: Path, charset: values.Charset = values.HEADER_WORD
) -> SecretSource:
    source = _secret(section, key, folder, charset)
    if section.usable and not section.has(key, f"{key}_file"):
        section.place.refuse(f"{key} or {key}_file is missing")
    return source or Secret("")


def _check_retention(top: Section, config: Config) -> None:
    storage, poll = top.section("storage", private=True), top.section("poll")
    if config.storage.retention < config.poll.window:
        section = storage if storage.has("retention") else poll
        section.blame(
            f"storage.retention ({spelled(config.storage.retention)}) must cover poll.window"
            f" ({spelled(config.poll.window)})",
            "retention", "window",
        )  # fmt: skip
