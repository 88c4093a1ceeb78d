"""JSON taken apart level by level, also where it is not quite JSON.

A text is cut at its quotes, brackets and commas alone: what stands between them is not decoded, so a number,
an escape or a depth that no decoder accepts costs only its place. Where quotes do not pair up (a backslash
before a closing quote, a quote within a string), a list of objects is cut where the next object begins.
Untrusted: time grows with the length of the text, memory with what is given back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON that it does not decode, or not as the type asked for."""
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"(?=\s*+[,:\]}])'
"""Quotes pair up wrongly where something else follows."""
_TOKEN: Final = re.compile(rb'[^"\[\]{},]*+(' + _STRING + rb'|[\[{]++|[\]}]++|[,"])', re.DOTALL)
_DEEP_TOKEN: Final = re.compile(
    rb'(?:[^"\[\]{}]++|' + _STRING + rb'){0,1000}+([\[{]++|[\]}]++|"|)', re.DOTALL
)
"""Where commas do not matter. Bounded: other threads wait while an expression is matched."""
_KEY: Final = re.compile(rb"(" + _STRING + rb")\s*+:", re.DOTALL)
_OBJECT: Final = re.compile(rb"\{\s*+(" + _STRING + rb")\s*+:", re.DOTALL)
_PLAIN: Final = _STRING + rb"|[^\s\"\[\]{},:]++"
_PLAIN_BEFORE: Final = rb"\s*+" + _STRING + rb"\s*+:\s*+(?:" + _PLAIN + rb")\s*+,"
_BEFORE_LIST: Final = re.compile(rb"\s*+\{(?:" + _PLAIN_BEFORE + rb'){0,50}?\s*+"data"\s*+:\s*+\[', re.DOTALL)
_AFTER_LIST: Final = re.compile(rb"\s*+(?:,[^\[\]{}]*+)?\}\s*+")
_PLAIN_MEMBER: Final = re.compile(rb'"(\w{1,64})"\s*+:\s*+(' + _PLAIN + rb")(?=\s*+[,}])", re.DOTALL)
_ESCAPE: Final = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]|())')
_PARTS_LIMIT: Final = 200_000
"""Tokens of one element or member, most of them brackets. One job has a few dozen."""
_MEMBERS_LIMIT: Final = 10_000
_NAME_LIMIT: Final = 66
"""Of a name with its quotes."""
_TEXT_LIMIT: Final = 64 * 1024

_text: Final = msgspec.json.Decoder(str)


class TooManyError(ValueError):
    """There are more elements than asked for, or far more in one element than can be looked through."""


def decode(body: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """The whole value, for texts of moderate length. Raises ValueError when nothing can be made of it."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        return msgspec.json.decode(body)
    except UNDECODABLE:
        pass
    try:
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def elements(array: bytes, most: int) -> list[bytes]:
    """The elements of an array as they are written. Raises ValueError; TooManyError beyond ``most``."""
    found: list[bytes] = []
    for piece in filter(None, _pieces(array, b"[")):
        if len(found) == most:
            raise TooManyError(f"more than {most} elements")
        found.append(piece)
    return found


def members(object_: bytes) -> dict[str, bytes]:
    """The values of an object as they are written; of equal names the last one. Raises as ``elements``."""
    found: dict[str, bytes] = {}
    for number, piece in enumerate(_pieces(object_, b"{")):
        if number == _MEMBERS_LIMIT:
            raise TooManyError(f"more than {_MEMBERS_LIMIT} members")
        key = _KEY.match(piece)
        name = decode_text(key[1]) if key else None
        if key and name is not None:
            found[name] = piece[key.end() :].strip()
    return found


def list_start(body: bytes) -> int | None:
    """Where the elements of ``data`` begin, if there are only plain values before it in the object."""
    before = _BEFORE_LIST.match(body)
    return before.end() if before else None


def unpaired(body: bytes, most: int) -> tuple[dict[str, bytes], list[bytes]]:
    """The members beside ``data``, and its elements, of an object in which quotes do not pair up.

    An object begins where another ends and the name follows that the first one begins with: within a string
    its quotes would have been written with backslashes. Raises as ``elements``.
    """
    begin, end = list_start(body), body.rfind(b"]")
    if begin is None or not _AFTER_LIST.fullmatch(body, end + 1):
        raise ValueError("not an object with a list")
    array = body[begin:end].strip()
    if not array.endswith(b"}"):
        raise ValueError("the last object does not end")
    found, start = [], 0
    for cut in _cuts(array):
        found.append(array[start : cut.start() + 1])
        start = cut.end()
        if len(found) == most:
            raise TooManyError(f"more than {most} elements")
    found.append(array[start:])
    return members(body[: begin - 1] + b"null" + body[end + 1 :]), found


def begins_again(objects: bytes) -> bool:
    """Is there, after the first object, the beginning of another like it?"""
    return next(_cuts(objects), None) is not None


def _cuts(objects: bytes) -> Iterator[re.Match[bytes]]:
    """Where one object ends and another begins, with the same name as the first."""
    first = _OBJECT.search(objects)
    if first is None or len(first[1]) > _NAME_LIMIT:
        return iter(())
    return re.finditer(rb"\}\s*+,\s*+(?=\{\s*+" + re.escape(first[1]) + rb"\s*+:)", objects)


def plain_members(object_: bytes) -> dict[str, bytes]:
    """The texts and numbers of an object that cannot be taken apart; of equal names the first one."""
    found: dict[str, bytes] = {}
    for member in _PLAIN_MEMBER.finditer(object_):
        found.setdefault(member[1].decode("utf-8", "replace"), member[2])
        if len(found) == _MEMBERS_LIMIT:
            break
    return found


def decode_text(value: bytes) -> str | None:
    """What a string in quotes says, or ``None`` when it is none.

    Half surrogate pairs, bytes that are not UTF-8 and unknown escapes are spelled out: any database, log and
    page takes such text, and two different ones stay different.
    """
    try:
        return _text.decode(value)
    except UNDECODABLE:
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


def _pieces(container: bytes, opening: bytes) -> Iterator[bytes]:
    """What stands between the outermost commas, without the blanks around it."""
    if not container.startswith(opening):
        raise ValueError(f"does not begin with {opening.decode()}")
    depth, start, end, tokens = 0, 1, 0, 0
    while True:
        token = (_DEEP_TOKEN if depth > 1 else _TOKEN).match(container, end)
        if token is None or token.end() == end:
            raise ValueError("does not end")
        end, kind = token.end(), token[1]
        tokens += 1
        match kind[:1]:
            case b"[" | b"{":
                depth += len(kind)
            case b"]" | b"}":
                depth -= len(kind)
            case b"," if piece := container[start : end - 1].strip():
                yield piece
                tokens, start = 0, end
            case b",":
                start = end
            case b'"' if len(kind) == 1:
                raise ValueError("quotes do not pair up")
        if depth <= 0:
            break
        if tokens > _PARTS_LIMIT:
            raise TooManyError("too many brackets, commas and strings")
    if depth < 0 or container[end:].strip():
        raise ValueError("more follows")
    yield container[start : end - 1].strip()
