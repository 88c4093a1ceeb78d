"""The configuration in force -> YAML to look at, every secret hidden.

Shows values as one writes them in the file, and files of secrets by their path, never by what is in them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from exporter.config.keys import Key, keys_of
from exporter.config.model import AUTH_METHODS, Config, DefaultChain, Secret
from exporter.config.values import Ascending, SomeOf, ValueType

HIDDEN: Final = "<secret>"
_METHODS: Final = {method: name for name, method in AUTH_METHODS.items()}


@lru_cache(maxsize=1)
def show_config(config: Config) -> str:
    """The whole configuration, defaults included. Kept for the next call: a thousand targets take a while."""
    return yaml.safe_dump(
        _section(config), sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


def _section(struct: msgspec.Struct) -> dict[str, Any]:
    """Plain data for YAML; what is not set is left out."""
    shown: dict[str, Any] = {}
    for key in keys_of(type(struct)):
        value = getattr(struct, key.field)
        if value is not None:
            shown[f"{key.name}_file" if isinstance(value, Path) else key.name] = _value(key, value)
    return shown


def _value(key: Key, value: Any) -> Any:  # noqa: ANN401 - plain data for YAML
    match key.type, value:
        case ValueType(), _:
            return key.type.spell(value)
        case Ascending(), _:
            return [key.type.item.spell(bound) for bound in value]
        case SomeOf(), _:
            return list(value)
        case _, Secret():
            return HIDDEN
        case _, Path():
            return str(value)
        case _, DefaultChain():
            return "environment, credentials file or agency"
        case _, tuple():
            return [_section(one) for one in value]
        case _:
            shown = _section(value)
            return {_METHODS[type(value)]: shown} if type(value) in _METHODS else shown
