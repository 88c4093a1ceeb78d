"""Every field of the configuration reaches a part of the program: a target, the store or the server.

Knows the model and how a target is put together; compares whatever can be reached from the parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, get_args

import msgspec
import pytest

from exporter.app import App
from exporter.cloud.connect import SharedLimits, network_of
from exporter.config import model
from exporter.exposition import ApiMetrics
from exporter.runtime.target import SharedResources, Target, classifier, new_client, new_repository

WITHOUT_EFFECT = {"storage.lease"}
"""For several replicas, which SQLite cannot serve."""
READ_LATER = {"targets.time_zone", "targets.time_format"}
"""The client keeps the target's settings and reads these for each request: tests/cloud/test_client.py."""
CHANGED: dict[str, Any] = {
    "fail_msg_classes": (model.ClassRule("changed", "changed"),),
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
        project_id="p", auth=auth,
    )  # fmt: skip
    return model.Config(storage=model.StorageConfig(url=f"sqlite:///{folder / 'a.db'}"), targets=(target,))


def changed(name: str, value: Any) -> Any:
    if name in CHANGED:
        return CHANGED[name]
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2
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


def built(settings: model.Config) -> dict[str, str]:
    """What the program is made of with a configuration: the application and its first target."""
    app = App(settings, listen_addresses=["127.0.0.1:0"], environ={})
    try:
        (target,) = settings.targets
        resources = SharedResources(
            app.store, app.executor, SharedLimits(), {}, ApiMetrics(0.0), {}, lambda _: None
        )
        client = new_client(target, network_of(target, {}), resources)
        repository = new_repository(settings, target, resources, classifier(settings))
        return reached((app, Target(settings, target, resources, repository, client)))
    finally:
        app.server.close()
        app.store.close()
        app.executor.shutdown()


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
