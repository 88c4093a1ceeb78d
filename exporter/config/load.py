"""exporter.yaml -> frozen typed configuration, every problem at once with file:line and key path.

Knows which values depend on or contradict each other; must not know what they are used for. ``model.py``
declares the keys, ``yaml_nodes.py`` knows YAML, ``values.py`` single values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from exporter.config import endpoints, values
from exporter.config.keys import Key, is_private, keys_of
from exporter.config.model import (
    AUTH_METHODS,
    Config,
    DefaultChain,
    FailMsgClass,
    PollConfig,
    Secret,
    SecretSource,
    StorageConfig,
    TargetConfig,
)
from exporter.config.values import spelled
from exporter.config.yaml_nodes import Problems, Section, ValueRefusedError, YamlEntry, kind_of, read_yaml
from exporter.config.zones import has_daylight_saving
from exporter.errors import CredentialsError, Problem

S = TypeVar("S", bound=msgspec.Struct)

MAX_CLASSES: Final = 50
IAM_ENDPOINT_VARIABLE: Final = "HUAWEICLOUD_SDK_IAM_ENDPOINT"


def load_config(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    warn: Callable[[Problem], None] = lambda _: None,
    rules_only: bool = False,
) -> Config:
    """Read and check the whole file. Raises ConfigError with every problem found.

    ``rules_only``: it is read for its rules for ``fail_msg``, and may have no targets.
    ``warn`` is called with what can be used, but may be a mistake.
    ``environ`` may hold ``HUAWEICLOUD_SDK_IAM_ENDPOINT``, which is used where ``iam_endpoint`` is not given.
    """
    problems = Problems(str(path))
    entry = read_yaml(path, problems)
    folder = path.absolute().parent
    iam = _iam_from_environment(environ or {}, problems)
    with entry.section() as top:
        config = _read(
            top,
            Config,
            folder,
            storage=lambda _: _storage(top, folder),
            poll=lambda _: _poll(top, folder),
            fail_msg_classes=lambda _: _classes(top, folder),
            targets=lambda read: (
                _targets(top, folder, iam, read["poll"]) if top.has("targets") or not rules_only else ()
            ),
        )
    problems.raise_if_any()
    _check_retention(top, config)
    problems.raise_if_any()
    for warning in problems.warnings:
        warn(warning)
    return config


def target_of_region(region: str, environ: Mapping[str, str], endpoint: str | None = None) -> TargetConfig:
    """A target without a configuration: everything but the region is the default. Raises ConfigError."""
    problems = Problems("command line")
    iam = _iam_from_environment(environ, problems)
    given: dict[str, str] = {}
    for name, check, value in (("region", values.region_name, region), ("endpoint", values.origin, endpoint)):
        try:
            if value is not None:
                given[name] = check(value)
        except ValueRefusedError as refused:
            problems.add(0, f"--{name}", str(refused))
    problems.raise_if_any()
    endpoint = given.get("endpoint", endpoints.metastudio_endpoint(region))
    return TargetConfig(
        name=region, region=region, endpoint=endpoint, iam_endpoint=iam or endpoints.iam_endpoint(region)
    )


def read_secret(source: SecretSource) -> str:
    """The secret as it is now. Raises CredentialsError when its file cannot be used any more."""
    if isinstance(source, Secret):
        return source.reveal()
    try:
        return values.read_secret_file(source)
    except ValueRefusedError as refused:
        raise CredentialsError(f"{source} {refused}") from None


def inline_secrets(part: object) -> Iterator[Secret]:
    """Every secret that stands in the file itself, for the log's redactor. ``part`` is a configuration."""
    if isinstance(part, Secret):
        yield part
    elif isinstance(part, msgspec.Struct):
        for name in part.__struct_fields__:
            yield from inline_secrets(getattr(part, name))
    elif isinstance(part, tuple):
        for one in part:
            yield from inline_secrets(one)


def _iam_from_environment(environ: Mapping[str, str], problems: Problems) -> str | None:
    if not (given := values.clean_variable(environ.get(IAM_ENDPOINT_VARIABLE))):
        return None
    try:
        return values.origin(given)
    except ValueRefusedError as refused:
        problems.add(0, "", f"the environment variable {IAM_ENDPOINT_VARIABLE} {refused}")
        return None


def _read(
    section: Section, struct: type[S], folder: Path, **special: Callable[[Mapping[str, Any]], object]
) -> S:
    """The struct of a section, its keys in the order of the fields.

    ``special`` reads keys that need more than their own value: each is given what was read before it.
    """
    read: dict[str, Any] = {}
    for key in keys_of(struct):
        by = special.get(key.field)
        read[key.field] = _value(section, key, folder) if by is None else by(read)
    return struct(**read)


def _value(section: Section, key: Key, folder: Path) -> object:
    """What the file says under a key, or the key's default."""
    match key.type:
        case values.ValueType() as one:
            return _one(section, key, one)
        case values.Ascending() as bounds:
            return _ascending(section, key, bounds)
        case values.SomeOf() as words:
            return _some_of(section, key, words)
        case values.SecretType() as secret:
            return _secret(section, key, secret, folder)
        case struct:
            with section.section(key.name, private=is_private(struct)) as inner:
                return _read(inner, struct, folder)


def _storage(top: Section, folder: Path) -> StorageConfig:
    with top.section("storage", private=is_private(StorageConfig)) as section:
        storage = _read(section, StorageConfig, folder)
        if not storage.in_file:
            return storage
        for name in ("password", "password_file"):
            if (place := section.get(name)) is not None:
                place.refuse("is the password of a database: storage.url names a file")
    return msgspec.structs.replace(storage, url=f"sqlite:///{folder / storage.sqlite_file}")


def _poll(top: Section, folder: Path) -> PollConfig:
    with top.section("poll") as section:
        before = section.entry.problems.count
        poll = _read(section, PollConfig, folder)
        if section.entry.problems.count == before:
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


def _one(section: Section, key: Key, one: values.ValueType[Any]) -> object:
    """A single value."""
    default = "" if key.required else key.default
    if (entry := section.get(key.name)) is not None:
        return entry.written(one, default) if one.as_written else entry.value(one, default)
    if key.required and section.usable:
        section.entry.refuse(f"{key.name} is missing: {key.why}")
    return default


def _ascending(section: Section, key: Key, bounds: values.Ascending) -> object:
    """A list of bounds; each wrong one is a problem of its own."""
    if (entry := section.get(key.name)) is None or (items := entry.items("upper bounds, ascending")) is None:
        return key.default
    if not 1 <= len(items) <= bounds.most:
        entry.refuse(f"must hold 1 to {bounds.most} upper bounds, not {len(items)}")
        return key.default
    read = [(item, item.value(bounds.item, None)) for item in items]
    known = [(item, bound) for item, bound in read if bound is not None]
    for (_, low), (item, high) in itertools.pairwise(known):
        if high <= low:
            item.refuse("is given twice" if high == low else "must be greater than the bound before it")
    return tuple(bound for _, bound in known)


def _some_of(section: Section, key: Key, some: values.SomeOf) -> object:
    """Some words, in their own order; each wrong one is a problem of its own."""
    if (entry := section.get(key.name)) is None:
        return key.default
    expected = f"some of {', '.join(some.words)}, or [] for none"
    if entry.value(kind_of, "") == kind_of(None):
        entry.refuse(f"is empty: must be a list of {expected}")
    read = [(item, item.value(some.item, None)) for item in entry.items(expected) or ()]
    for index, (item, word) in enumerate(read):
        if word is not None and word in (before for _, before in read[:index]):
            item.refuse("is given twice")
    given = {word for _, word in read}
    return tuple(word for word in some.words if word in given)


def _secret(section: Section, key: Key, secret: values.SecretType, folder: Path) -> SecretSource | None:
    """The secret itself, or the path of its file, which is checked now and kept for later readings."""
    name, twin = key.name, f"{key.name}_file"
    inline, file = section.get(name), section.get(twin)
    text = None if inline is None else inline.value(secret.text, None)
    path = None if file is None else file.value(secret.file(folder), None)
    if inline is not None and file is not None:
        file.refuse(f"is given together with {name}: keep one")
    if key.required and section.usable and not section.has(name, twin):
        section.entry.refuse(f"{name} or {twin} is missing")
    if text is not None:
        return Secret(text)
    return path or (Secret("") if key.required else None)


def _classes(top: Section, folder: Path) -> tuple[FailMsgClass, ...]:
    if (entry := top.get("fail_msg_classes")) is None:
        return ()
    rules = []
    for item in entry.items("rules with class and match") or ():
        with item.section() as section:
            rule = _read(section, FailMsgClass, folder)
            if "\n" in rule.match and (place_of_match := section.get("match")) is not None:
                place_of_match.warn("has a line break in its middle: it matches only messages that have one")
            rules.append(rule)
    if (count := len({rule.class_name for rule in rules})) > MAX_CLASSES:
        entry.refuse(
            f"must name at most {MAX_CLASSES} classes, not {count}: each costs a series per label set"
        )
    return tuple(rules)


def _targets(top: Section, folder: Path, iam: str | None, poll: PollConfig) -> tuple[TargetConfig, ...]:
    if (entry := top.get("targets")) is None:
        if top.usable:
            top.entry.refuse("targets is missing: at least one must be given")
        return ()
    items = entry.items("targets")
    if items is not None and not items:
        entry.refuse("is empty: at least one target must be given")
    targets = tuple(_target(item, folder, iam, poll) for item in items or ())
    first: dict[str, int] = {}
    for index, (item, target) in enumerate(zip(items or (), targets, strict=True)):
        if target.name and first.setdefault(target.name, index) != index:
            item.refuse(f"has the same name as targets[{first[target.name]}]: each target needs its own")
    return targets


def _target(entry: YamlEntry, folder: Path, iam: str | None, poll: PollConfig) -> TargetConfig:
    with entry.section() as section:
        target = _read(
            section,
            TargetConfig,
            folder,
            endpoint=lambda read: section.value(
                "endpoint", values.origin, endpoints.metastudio_endpoint(read["region"])
            ),
            iam_endpoint=lambda read: section.value(
                "iam_endpoint", values.origin, iam or endpoints.iam_endpoint(read["region"])
            ),
            auth=lambda _: _auth(section, folder),
        )
        _check_rate_limit(section, target, poll)
        _check_time_zone(section, target)
        return target


def _check_rate_limit(section: Section, target: TargetConfig, poll: PollConfig) -> None:
    if target.rate_limit * poll.interval < 1 and (entry := section.get("rate_limit")) is not None:
        entry.refuse(
            f"allows less than one request per poll ({spelled(poll.interval)}): raise it or poll.interval"
        )


def _check_time_zone(section: Section, target: TargetConfig) -> None:
    if (entry := section.get("time_zone")) is None:
        return
    if has_daylight_saving(target.time_zone, datetime.now(UTC).year):
        entry.warn(
            "has daylight saving time: an hour of each autumn comes twice, and its times can be read wrong;"
            " give an offset such as +08:00 if the API's clock does not change"
        )


def _auth(target: Section, folder: Path) -> msgspec.Struct:
    if (entry := target.get("auth")) is None:
        return DefaultChain()
    before = entry.problems.count
    with entry.section(private=True, words=True) as section:
        given = [(name, method) for name in AUTH_METHODS if (method := section.get(name)) is not None]
        if len(given) > 1:
            entry.refuse(f"gives {' and '.join(name for name, _ in given)}: keep one")
        if section.empty and entry.problems.count == before:
            entry.refuse(
                f"gives no method: use one of {', '.join(AUTH_METHODS)}, or remove auth to use the"
                " environment, the credentials file or the agency"
            )
        return [DefaultChain(), *(_method(name, method, folder) for name, method in given)][-1]


def _method(name: str, entry: YamlEntry, folder: Path) -> msgspec.Struct:
    struct = AUTH_METHODS[name]
    with entry.section(private=is_private(struct)) as section:
        return _read(section, struct, folder)


def _check_retention(top: Section, config: Config) -> None:
    storage, poll = top.section("storage", private=is_private(StorageConfig)), top.section("poll")
    if config.storage.retention < config.poll.window:
        section = storage if storage.has("retention") else poll
        section.blame(
            f"storage.retention ({spelled(config.storage.retention)}) must cover poll.window"
            f" ({spelled(config.poll.window)})",
            "retention", "window",
        )  # fmt: skip
