"""The keys of a section, taken from its struct in ``model.py``: for reading, for showing and for the schema.

Knows how a field declares a key; must not know which keys there are.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from exporter.config.model import PrivateSection
from exporter.config.values import SecretType


class Key(NamedTuple):
    """One key of the file, which is one field of a struct."""

    name: str
    field: str
    """The field's name: that of the key, unless Python reserves it."""
    type: Any
    """A type of ``values.py``; without one the field's own: a section, a list or a choice of sections."""
    default: Any
    required: bool
    """Whether the file must give it. The default of some follows from other keys or from the file's place."""
    why: str


@cache
def keys_of(struct: type[msgspec.Struct]) -> tuple[Key, ...]:
    """In the order of the struct's fields."""
    return tuple(map(_key, msgspec.structs.fields(struct)))


def section_of(type_: object) -> type[msgspec.Struct] | None:
    """The struct of a key that holds a section or a list of sections."""
    if get_origin(type_) is tuple:
        type_ = get_args(type_)[0]
    return type_ if isinstance(type_, type) and issubclass(type_, msgspec.Struct) else None


def is_private(struct: type[msgspec.Struct]) -> bool:
    return issubclass(struct, PrivateSection)


def _key(field: msgspec.structs.FieldInfo) -> Key:
    annotation: tuple[Any, ...] = getattr(field.type, "__metadata__", ())
    own = field.type.__origin__ if annotation else field.type
    types = [one for one in annotation if not isinstance(one, str)]
    why = "".join(one for one in annotation if isinstance(one, str))
    type_ = types[0] if types else own
    required = bool(why) or (field.required and isinstance(type_, SecretType))
    return Key(field.encode_name, field.name, type_, field.default, required, why)
