"""The configuration file as JSON Schema, for editors: ``exporter.schema.json``, written by ``make docs``.

Knows how each kind of key looks in a schema; which keys there are, and their values, stands in ``model.py``.
It refuses no file that the exporter takes. What depends on several values only ``check`` can refuse.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from exporter.config.keys import Key, keys_of, section_of
from exporter.config.model import AUTH_METHODS, Auth, Config
from exporter.config.values import Ascending, SecretType, SomeOf, ValueType

Schema = dict[str, Any]


def text() -> str:
    """The content of ``exporter.schema.json``."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of metastudio-tts-exporter",
        **_section(Config),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _section(struct: type[msgspec.Struct]) -> Schema:
    """A mapping with these keys and no others."""
    found = keys_of(struct)
    required = [key.name for key in found if key.required and not isinstance(key.type, SecretType)]
    secrets = [key for key in found if isinstance(key.type, SecretType)]
    optional = not any(key.required for key in found)
    schema: Schema = {"type": ["object", "null"] if optional else "object", "additionalProperties": False}
    if required:
        schema["required"] = required
    if secrets:
        schema["allOf"] = [_one_of_two(key) for key in secrets]
    properties: Schema = {}
    for key in found:
        properties |= properties_of(key)
    return {**schema, "properties": properties}


def properties_of(key: Key) -> Schema:
    """The schema's properties for one key: two for a secret."""
    if isinstance(key.type, SecretType):
        inline = {"type": "string", "pattern": rf"^[\s\ufeff]*{key.type.charset.pattern}[\s\ufeff]*$"}
        file = {"type": "string", "minLength": 1, "description": "path of a file that holds it"}
        return {key.name: inline, f"{key.name}_file": file}
    return {key.name: _value(key)}


def _value(key: Key) -> Schema:
    match key.type:
        case ValueType() as type_:
            given = key.default not in (None, msgspec.NODEFAULT)
            return {**type_.schema, **({"default": type_.spell(key.default)} if given else {})}
        case Ascending(item, most):
            bounds = {"type": "array", "minItems": 1, "maxItems": most, "items": item.schema}
            return {**bounds, "default": [item.spell(bound) for bound in key.default]}
        case SomeOf(words=words):
            some_of = {"type": "array", "uniqueItems": True, "items": {"enum": list(words)}}
            return {**some_of, "default": list(key.default)}
        case type_ if type_ == Auth:
            methods = {name: _section(struct) for name, struct in AUTH_METHODS.items()}
            one = {"type": "object", "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
            return {**one, "properties": methods}
        case type_:
            struct = section_of(type_)
            assert struct is not None, key.name  # noqa: S101 - no other kinds of fields
            if struct is type_:
                return _section(struct)
            some: Schema = {"type": "array", "minItems": 1} if key.required else {"type": ["array", "null"]}
            return {**some, "items": _section(struct)}


def _one_of_two(key: Key) -> Schema:
    """A secret stands under its key or in a file, never both."""
    both = [key.name, f"{key.name}_file"]
    if key.required:
        return {"oneOf": [{"required": [one]} for one in both]}
    return {"not": {"type": "object", "required": both}}  # a section that may be empty is null
