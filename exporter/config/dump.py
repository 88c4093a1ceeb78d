"""The configuration in force -> YAML to look at, every secret hidden.

Knows which values are durations; shows files of secrets by their path, never by what is in them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from exporter.config.load import AgencyAuth, AkskAuth, Auth, Config, PasswordAuth, Secret, TokenAuth
from exporter.config.values import spelled

HIDDEN: Final = "<secret>"
_METHODS: Final[dict[type, str]] = {
    AkskAuth: "aksk",
    TokenAuth: "token",
    PasswordAuth: "password",
    AgencyAuth: "agency",
}


@lru_cache(maxsize=1)
def show(config: Config) -> str:
    """The whole configuration, defaults included. Remembered: a thousand targets take their time."""
    storage, poll, metrics = config.storage, config.poll, config.metrics
    shown: dict[str, Any] = {
        "storage": {
            **_plain(storage),
            "lease": spelled(storage.lease),
            "retention": spelled(storage.retention),
        },
        "poll": {name: spelled(value) for name, value in msgspec.structs.asdict(poll).items()},
        "metrics": {
            **_plain(metrics),
            "duration_buckets": [spelled(one) for one in metrics.duration_buckets],
        },
        "fail_msg_classes": [
            {"class": rule.class_name, "match": rule.match} for rule in config.fail_msg_classes
        ],
        "builtin_fail_msg_classes": config.builtin_fail_msg_classes,
        "targets": [
            {**_plain(target, without="auth"), "filters": _plain(target.filters), "auth": _auth(target.auth)}
            for target in config.targets
        ],
    }
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


def _auth(auth: Auth) -> Any:  # noqa: ANN401 - plain data for YAML
    name = _METHODS.get(type(auth))
    return "environment, credentials file or agency" if name is None else {name: _plain(auth)}


def _plain(struct: msgspec.Struct, without: str = "") -> dict[str, Any]:
    """Lists, texts and numbers; what is not set is left out."""
    values = {name: value for name, value in msgspec.structs.asdict(struct).items() if name != without}
    plain: dict[str, Any] = msgspec.to_builtins(values, enc_hook=_hidden)
    return {
        name if not isinstance(values[name], Path) else f"{name}_file": value
        for name, value in plain.items()
        if value is not None and value != {}
    }


def _hidden(value: object) -> str:
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)
