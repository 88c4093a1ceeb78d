"""JSON taken apart level by level, also where it is not quite JSON.

A strict decoder goes first. What it refuses is cut at its quotes, brackets and commas alone: what stands
between them is not decoded, so a number, an escape or a depth that no decoder accepts costs only its place.
Untrusted: time grows with the length of the text, memory with what is given back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
REFUSED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a text that it does not decode."""
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+'
_TOKEN: Final = re.compile(_STRING + rb'("?)|[\[{]++|[\]}]++|,', re.DOTALL)
_KEY: Final = re.compile(rb"(" + _STRING + rb'")\s*+:', re.DOTALL)
_ESCAPE: Final = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]|())')
_PARTS_LIMIT: Final = 50_000
"""Brackets, commas and strings of an odd text. A page of a hundred jobs has a few thousand."""
_TEXT_LIMIT: Final = 64 * 1024

_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text: Final = msgspec.json.Decoder(str)


class TooManyError(ValueError):
    """There are more elements than asked for, or far more in one element than can be looked through."""


def decode(body: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """The whole value, for texts of moderate length. Raises ValueError when nothing can be made of it."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        return msgspec.json.decode(body)
    except REFUSED:
        pass
    try:
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def elements(array: bytes, most: int) -> list[bytes]:
    """The elements of an array as they are written. Raises ValueError; TooManyError beyond ``most``."""
    found: list[bytes] = []
    for piece in _strict_elements(array) or filter(None, _pieces(array, b"[")):
        if len(found) == most:
            raise TooManyError(f"more than {most} elements")
        found.append(bytes(piece))
    return found


def members(object_: bytes) -> dict[str, bytes]:
    """The values of an object as they are written; of equal names the last one. Raises as ``elements``."""
    if object_.count(b",") <= _PARTS_LIMIT:
        try:
            return {name: bytes(value) for name, value in _object.decode(object_).items()}
        except REFUSED:
            pass
    found: dict[str, bytes] = {}
    for piece in _pieces(object_, b"{"):
        key = _KEY.match(piece)
        name = text(key[1]) if key else None
        if key and name is not None:
            found[name] = piece[key.end() :].strip()
    return found


def text(value: bytes) -> str | None:
    """What a string in quotes says, or ``None`` when it is none.

    Half surrogate pairs, bytes that are not UTF-8 and unknown escapes are spelled out: any database, log and
    page takes such text, and two different ones stay different.
    """
    try:
        return _text.decode(value)
    except REFUSED:
        pass
    if value[:1] != b'"' or len(value) > _TEXT_LIMIT:
        return None
    known = _ESCAPE.sub(_known_escape, value.decode("utf-8", "backslashreplace"))
    try:
        said = json.loads(known, strict=False)
    except ValueError:
        return None
    return str(said).encode("utf-8", "backslashreplace").decode()


def _known_escape(escape: re.Match[str]) -> str:
    return escape[0] if escape[1] is None else r"\\"


def _strict_elements(array: bytes) -> list[msgspec.Raw]:
    if array.count(b",") > _PARTS_LIMIT:
        return []
    try:
        return _list.decode(array)
    except REFUSED:
        return []


def _pieces(container: bytes, opening: bytes) -> Iterator[bytes]:
    """What stands between the outermost commas, without the blanks around it."""
    if not container.startswith(opening):
        raise ValueError(f"does not begin with {opening.decode()}")
    depth, start = 0, 1
    for number, token in enumerate(_TOKEN.finditer(container)):
        at, size = token.start(), token.end() - token.start()
        match container[at : at + 1]:
            case b'"' if not token[1]:
                raise ValueError("a string does not end")
            case b"[" | b"{":
                depth += size
            case b"]" | b"}":
                depth -= size
            case b"," if depth == 1:
                yield container[start:at].strip()
                start = at + 1
        if depth <= 0:
            break
        if number == _PARTS_LIMIT:
            raise TooManyError("too many brackets, commas and strings")
    else:
        raise ValueError("does not end")
    if depth < 0 or container[token.end() :].strip():
        raise ValueError("more follows")
    yield container[start : token.end() - 1].strip()
