"""Suggests a rule for messages like a given one: constant parts literally, variable parts as patterns.

Pure: text in, class name and RE2 pattern out. ``classify.py`` says which parts vary.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from exporter.failures.classify import BLANK, NO_MESSAGE, UNCLASSIFIED, VARIABLE

LITERAL_LIMIT: Final = 120
"""Characters of the message that go into the pattern; anything may follow them."""
WHOLE_LIMIT: Final = 1000
"""A longer message may have been cut: what looks like its end may not be the end."""
NAME_LIMIT: Final = 40
ENOUGH_LETTERS: Final = 4
"""With fewer literal letters the pattern would match anything: then it must match the whole message."""

_LOOKS_LIKE: Final = {
    "url": r"[A-Za-z][A-Za-z0-9+.-]*://\S+",
    "uuid": r"[0-9A-Fa-f-]{36}",
    "time": r"[0-9][0-9TZ:.,/年月日 +-]*",
    "id": r"[0-9A-Fa-f]{8,}",
    "number": r"[0-9]{6,}",
    "digits": "[0-9]+",
}
_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
_PIECE: Final = re.compile(
    f"(?P<blank>{BLANK.pattern})|{VARIABLE.pattern}|(?P<digits>[0-9]+)|(?P<text>.)", re.DOTALL
)
_RE2_SPACE: Final = frozenset("\t\n\f\r ")
_INVISIBLE: Final = r"[\pC\pZ\x{2065}]+"
"""All that BLANK matches."""
_INVISIBLE_OR_HALF: Final = r"[\pC\pZ\x{2065}?]+"
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_PLAIN_YAML: Final = re.compile("[a-z][a-z0-9]*_[a-z0-9_]*")
"""What needs no quotes in YAML, where null, no and 1 are no text."""
_WORD: Final = re.compile("[a-z0-9]+")


class Suggestion(NamedTuple):
    """One entry of ``fail_msg_classes``."""

    class_name: str
    match: str


def suggest(message: str) -> Suggestion:
    """A rule that matches ``message`` and those that differ from it only in what varies."""
    parts: list[str] = []
    literal = ""
    taken = 0
    for piece in _PIECE.finditer(message):
        if taken >= LITERAL_LIMIT:
            break
        text, kind = piece.group(), piece.lastgroup or "text"
        if kind == "text":
            parts.append(_escaped(text))
            literal += text
        elif kind == "blank":
            parts.append(_blank(text))
            literal += " "
        else:
            parts.append(_LOOKS_LIKE[kind])
        taken += len(text) if kind == "text" else 1
    pattern = "".join(parts)
    if sum(map(str.isalpha, literal)) < ENOUGH_LETTERS:
        whole = taken < LITERAL_LIMIT and len(message) < WHOLE_LIMIT
        pattern = f"^{pattern}$" if whole else f"^{pattern}"
    return Suggestion(_name(literal), pattern)


def as_yaml(suggestion: Suggestion) -> str:
    """Two lines to paste under ``fail_msg_classes:``."""
    name, quoted = suggestion.class_name, suggestion.match.replace("'", "''")
    if not _PLAIN_YAML.fullmatch(name):
        name = f"'{name}'"
    return f"  - class: {name}\n    match: '{quoted}'\n"


def _escaped(character: str) -> str:
    if not character.isprintable():  # some of these are not allowed in YAML, and none can be read
        return rf"\x{{{ord(character):x}}}"
    return _SPECIAL.sub(r"\\\g<0>", character)


def _blank(text: str) -> str:
    if text == " ":
        return text
    if _RE2_SPACE.issuperset(text):
        return r"\s+"
    # Half of a surrogate pair is classified as a question mark.
    return _INVISIBLE_OR_HALF if _SURROGATE.search(text) else _INVISIBLE


def _name(literal: str) -> str:
    """A class name from the words of the message, as a draft."""
    name = ""
    for word in _WORD.findall(literal.lower()):
        if len(name) + 1 + len(word) > NAME_LIMIT:
            break
        name = f"{name}_{word}" if name else word
    return f"{name}_" if name in (UNCLASSIFIED, NO_MESSAGE) else name or "my_class"
