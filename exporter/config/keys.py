"""The keys of a section, taken from its struct in ``model.py``: for reading, for showing and for the schema.

Knows how a field declares a key; must not know which keys there are.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import msgspec

from exporter.config.model import PrivateSection
from exporter.config.values import Ascending, SecretType, ValueType

KeyType = ValueType[Any] | Ascending | SecretType


class Key(NamedTuple):
    """One key of the file, which is one field of a struct."""

    name: str
    field: str
    """The field's name: that of the key, unless Python reserves it."""
    type: KeyType | None
    """``None`` where the key holds more than one value: a section, a list of them, a choice of them."""
    default: Any
    required: bool
    why: str
    """Why it must be given."""


@cache
def keys(struct: type[msgspec.Struct]) -> tuple[Key, ...]:
    """In the order of the struct's fields."""
    return tuple(map(_key, msgspec.structs.fields(struct)))


def is_private(struct: type[msgspec.Struct]) -> bool:
    return issubclass(struct, PrivateSection)


def _key(field: msgspec.structs.FieldInfo) -> Key:
    annotation: tuple[Any, ...] = getattr(field.type, "__metadata__", ())
    return Key(
        field.encode_name,
        field.name,
        type=next(iter(annotation), None),
        default=field.default,
        required=field.required,
        why="".join(annotation[1:]),
    )
