"""Every field of the configuration reaches the parts that it is for: of a target, the store or the server.

Knows the model and how a target is put together. Compares what each part is given, and whatever can be
reached from the parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, get_args

import msgspec
import pytest

import exporter.app
import exporter.runtime.storage
import exporter.runtime.target
from exporter import log
from exporter.app import App
from exporter.cloud.connect import network_of
from exporter.cloud.shared_limits import SharedLimits
from exporter.config import model
from exporter.exposition import ApiMetrics
from exporter.failures import BUILTIN_RULES, Classifier
from exporter.runtime.target import SharedResources, Target, classifier, new_client, new_repository

WITHOUT_EFFECT = {"storage.lease", "storage.password"}
"""For several replicas, which SQLite cannot serve."""
READ_LATER = {"targets.time_zone", "targets.time_format"}
"""The client keeps the target's settings and reads these for each request: tests/cloud/test_client.py."""
CHANGED: dict[str, Any] = {
    "fail_msg_classes": (model.FailMsgClass("changed", "changed"),),
    "targets.endpoint": "https://changed.example",
    "targets.iam_endpoint": "https://changed.example",
    "targets.time_zone": "+08:00",
    "targets.time_format": "unix",
    "targets.trust_count": "true",
}
AUTHS: dict[str, model.Auth] = {
    "aksk": model.AkskAuth(model.Secret("AK"), model.Secret("SK")),
    "token": model.TokenAuth(model.Secret("T")),
    "password": model.PasswordAuth("domain", "user", model.Secret("P")),
}
CONFIG_TYPES = (
    model.Config,
    model.StorageConfig,
    model.PollConfig,
    model.MetricsConfig,
    model.TargetConfig,
    model.Filters,
)


def config(folder: Path, auth: model.Auth) -> model.Config:
    target = model.TargetConfig(
        name="one", region="cn-north-4", endpoint="https://a.example", iam_endpoint="https://b.example",
        project_id="p", auth=auth, time_zone="Asia/Shanghai",
    )  # fmt: skip
    return model.Config(storage=model.StorageConfig(url=f"sqlite:///{folder / 'a.db'}"), targets=(target,))


def changed(name: str, value: Any) -> Any:
    if name in CHANGED:
        return CHANGED[name]
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 or 1
        case tuple():
            return value[1:]
        case model.Secret():
            return model.Secret("changed")
        case None if name.endswith("security_token"):
            return model.Secret("changed")
    return "changed"


def variants(base: model.Config) -> Iterator[tuple[str, model.Config]]:
    """By the name of a field: the configuration with that field changed."""
    replace = msgspec.structs.replace
    (target,) = base.targets
    for name in base.__struct_fields__:
        part = getattr(base, name)
        if name == "targets":
            continue
        if not isinstance(part, msgspec.Struct):
            yield name, replace(base, **{name: changed(name, part)})
            continue
        for key in part.__struct_fields__:
            path = f"{name}.{key}"
            new = changed(path, getattr(part, key))
            if path == "storage.url":
                new = f"{base.storage.url}2"
            yield path, replace(base, **{name: replace(part, **{key: new})})
    for key in target.__struct_fields__:
        part = getattr(target, key)
        if isinstance(part, msgspec.Struct):
            for inner in part.__struct_fields__:
                path = f"targets.{key}.{inner}"
                struct = replace(part, **{inner: changed(path, getattr(part, inner))})
                yield path, replace(base, targets=(replace(target, **{key: struct}),))
        else:
            path = f"targets.{key}"
            yield path, replace(base, targets=(replace(target, **{key: changed(path, part)}),))


def reached(root: object) -> dict[str, str]:
    """Every plain value that can be reached, by the way to it; the configuration itself is no part."""
    found: dict[str, str] = {}
    seen: dict[int, object] = {}
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        way, value = todo.pop()
        if value is None or isinstance(value, bool | int | float | str | bytes | Path):
            found[way] = repr(value)
            continue
        if isinstance(value, model.Secret):
            found[way] = value.reveal()
            continue
        if id(value) in seen or isinstance(value, (type, ModuleType, *CONFIG_TYPES)):
            continue
        seen[id(value)] = value
        todo += [(f"{way}/{name}", part) for name, part in parts(value)]
    return found


def parts(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        # By path: what was seen of a file on the disk, which differs between two runs.
        yield from ((repr(key), part) for key, part in list(value.items()) if not isinstance(key, Path))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((str(index), part) for index, part in enumerate(value))
    elif isinstance(value, MethodType):
        yield "self", value.__self__
    elif isinstance(value, FunctionType):
        for index, cell in enumerate(value.__closure__ or ()):
            try:
                yield f"cell{index}", cell.cell_contents
            except ValueError:
                continue
    else:
        yield from getattr(value, "__dict__", {}).items()
        for kind in type(value).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                name = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
                if hasattr(value, name):
                    yield name, getattr(value, name)
        for name in getattr(value, "__struct_fields__", ()):
            yield name, getattr(value, name)


def build(settings: model.Config) -> tuple[object, ...]:
    """What the program is made of with a configuration: the application and its first target."""
    redactor = log.Redactor()
    app = App(settings, listen_addresses=["127.0.0.1:0"], environ={}, redactor=redactor)
    try:
        (target,) = settings.targets
        resources = SharedResources(
            app.store,
            app.executor,
            SharedLimits(claims=None),
            {},
            ApiMetrics(0.0),
            {},
            lambda _: None,
            redactor,
            None,
        )
        client = new_client(target, network_of([target], {}, redactor), resources)
        repository = new_repository(settings, target, resources, classifier(settings))
        return app, Target(settings, target, resources, repository, client)
    finally:
        app.server.close()
        app.store.close()
        app.executor.shutdown()


def built(settings: model.Config) -> dict[str, str]:
    """Every plain value that can be reached from what is made with a configuration."""
    return reached(build(settings))


CASES = [
    (kind, name)
    for kind, auth in AUTHS.items()
    for name, _ in variants(config(Path("folder"), auth))
    if kind == "aksk" or name.startswith("targets.auth.")
]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: value)
def test_a_field_changes_what_is_built(kind: str, name: str, tmp_path: Path) -> None:
    """A field that nobody hands on leaves every part of the program as it was."""
    base = config(tmp_path, AUTHS[kind])
    before, again, after = built(base), built(base), built(dict(variants(base))[name])
    steady = {way for way, value in before.items() if again.get(way) == value}
    arrived = any(after.get(way) != before[way] for way in steady)
    assert arrived is (name not in WITHOUT_EFFECT | READ_LATER)


def test_each_way_to_sign_in_is_tried() -> None:
    """Whoever adds a method with fields adds it here."""
    with_fields = {kind for kind in get_args(model.Auth) if kind.__struct_fields__}
    assert {type(auth) for auth in AUTHS.values()} == with_fields


PARTS = {
    "Exposition": exporter.app,
    "SqliteStore": exporter.runtime.storage,
    "Classifier": exporter.runtime.target,
    "build_client": exporter.runtime.target,
    "LedgerRepository": exporter.runtime.target,
    "PageMemory": exporter.runtime.target,
    "Poller": exporter.runtime.target,
    "Reader": exporter.runtime.target,
}
"""Those that are made from settings, and the module that makes them."""


def arguments(settings: model.Config, patch: pytest.MonkeyPatch) -> dict[str, object]:
    """What each part is given: by ``part.argument``, or ``part.argument.field`` where it is a struct."""
    given: dict[str, object] = {}
    with patch.context() as patched:
        for name, module in PARTS.items():
            patched.setattr(module, name, noting(name, getattr(module, name), given))
        build(settings)
    return given


def noting(name: str, make: Callable[..., Any], given: dict[str, object]) -> Callable[..., Any]:
    """The part's maker, which notes its arguments first."""

    def made(*args: Any, **options: Any) -> Any:
        for argument, value in inspect.signature(make).bind(*args, **options).arguments.items():
            given.update(plain(f"{name}.{argument}", value))
        return make(*args, **options)

    return made


def plain(name: str, value: Any) -> Iterator[tuple[str, object]]:
    """A value, field by field if it is a struct; parts that were made before are none of it."""
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from plain(f"{name}.{field}", getattr(value, field))
    elif type(value) is tuple or isinstance(value, bool | int | float | str | None | Path | model.Secret):
        yield name, value


MS = 1000
GIVEN: dict[str, dict[str, object]] = {
    "storage.lease": {},
    "storage.password": {},  # of a database: see test_storage.py
    "storage.retention": {"LedgerRepository.retention": 60 * 86400 * MS},
    "poll.interval": {
        "Poller.settings.interval": 30.0,
        "Poller.settings.budget": 150,
        "LedgerRepository.settings.interval": 30 * MS,
    },
    "poll.timeout": {"Poller.settings.timeout": 240.0},
    "poll.window": {"LedgerRepository.settings.window": 7200 * MS},
    "poll.overlap": {"LedgerRepository.settings.overlap": 600 * MS},
    "poll.max_job_age": {"LedgerRepository.settings.max_job_age": 2 * 86400 * MS},
    "poll.max_catch_up": {"LedgerRepository.settings.max_catch_up": 2 * 86400 * MS},
    "metrics.text_length_buckets": {
        "LedgerRepository.settings.text_length_buckets": model.MetricsConfig().text_length_buckets[1:]
    },
    "metrics.duration_buckets": {
        "LedgerRepository.settings.duration_buckets": tuple(
            int(bound) * MS for bound in model.MetricsConfig().duration_buckets[1:]
        )
    },
    "metrics.max_label_sets": {"LedgerRepository.settings.max_label_sets": 200},
    "metrics.created_timestamps": {"Exposition.created_timestamps": True},
    "fail_msg_classes": {
        "Classifier.rules": (("changed", "changed"), *BUILTIN_RULES),
        "LedgerRepository.identity.classes": ("changed", *Classifier(BUILTIN_RULES).classes),
    },
    "builtin_fail_msg_classes": {
        "Classifier.rules": (),
        "LedgerRepository.identity.classes": Classifier(()).classes,
    },
    "targets.region": {
        "LedgerRepository.identity.region": "changed",
        "LedgerRepository.scope": "region=changed",
    },
    "targets.name": {"Poller.name": "changed", "LedgerRepository.identity.target": "changed"},
    "targets.endpoint": {"LedgerRepository.identity.api_endpoint": "https://changed.example"},
    "targets.project_id": {"LedgerRepository.identity.project_id": "changed"},
    "targets.app_user_id": {"LedgerRepository.scope": "region=cn-north-4 app_user_id=changed"},
    "targets.filters.job_type": {
        "Reader.split_by_type": False,
        "LedgerRepository.job_type": "changed",
        "LedgerRepository.scope": "region=cn-north-4 job_type=changed",
    },
    "targets.filters.tts_service_enum": {
        "LedgerRepository.service": "changed",
        "LedgerRepository.scope": "region=cn-north-4 tts_service_enum=changed",
    },
    "targets.filters.business_type": {
        "LedgerRepository.scope": "region=cn-north-4 business_type=changed",
    },
    "targets.rate_limit": {"Poller.settings.budget": 150},
    "targets.trust_count": {"PageMemory.trust_count": True},
    "targets.time_filters": {
        "Poller.settings.time_filters": False,
        "LedgerRepository.settings.time_may_repeat": 2 * 3600 * MS,
    },
}
"""By field: every argument that is another one when the field is changed, besides the client's.

A new key of ``poll`` or ``metrics`` needs no line here if a part has a field of its name.
"""


def expected(name: str, config: model.Config, given: dict[str, object]) -> dict[str, object]:
    """As in the table. A key that is not in it goes to poller, ledger or published view, by its name.

    The client is given a target's settings as they are.
    """
    section, _, key = name.partition(".")
    if section == "targets":
        value = config.targets[0]
        for field in key.split("."):
            value = getattr(value, field)
        return {f"build_client.target.{key}": value, **GIVEN.get(name, {})}
    if name == "storage.url":
        return {"SqliteStore.path": config.storage.sqlite_file}
    if name in GIVEN:
        return GIVEN[name]
    value = getattr(getattr(config, section), key)
    ledger = round(value * MS) if isinstance(value, float) else value
    by_name = {
        f"Poller.settings.{key}": value,
        f"LedgerRepository.settings.{key}": ledger,
        f"LedgerRepository.identity.{key}": value,
    }
    here = {argument: value for argument, value in by_name.items() if argument in given}
    assert here, f"nobody is given {name}"
    return here


GIVEN_CASES = [name for kind, name in CASES if kind == "aksk"]


@pytest.mark.parametrize("name", GIVEN_CASES)
def test_each_part_is_given_the_field(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing a field changes these arguments and no others, each to the new value in its own unit."""
    base = config(tmp_path, AUTHS["aksk"])
    new = dict(variants(base))[name]
    before, after = arguments(base, monkeypatch), arguments(new, monkeypatch)
    now = {"Exposition.process.reload_success_timestamp"}
    different = {key: value for key, value in after.items() if key not in now and before[key] != value}
    assert different == expected(name, new, after)


@pytest.mark.parametrize(
    ("filters", "zone", "hours"),
    [(True, "Asia/Shanghai", 0), (False, "Asia/Shanghai", 2), (False, "+08:00", 0)],
    ids=["filtered", "by name", "by offset"],
)
def test_the_ledger_is_given_how_far_clocks_are_set_back(
    filters: bool, zone: str, hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no window asked for tells which of two times is meant."""
    base = config(tmp_path, AUTHS["aksk"])
    target = msgspec.structs.replace(base.targets[0], time_filters=filters, time_zone=zone)
    given = arguments(msgspec.structs.replace(base, targets=(target,)), monkeypatch)
    assert given["LedgerRepository.settings.time_may_repeat"] == hours * 3600 * MS
