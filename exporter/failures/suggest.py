"""A rule for messages like this one: what stands still taken literally, what varies as what it looks like.

Pure: text in, class name and RE2 pattern out. ``classify.py`` says what varies.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from exporter.failures.classify import BLANK, NO_MESSAGE, UNCLASSIFIED, VARIABLE

LITERAL_LIMIT: Final = 120
"""Characters of the message that the pattern takes up; what follows may be anything."""
WHOLE_LIMIT: Final = 1000
"""A longer message may have been cut: its end is not the end."""
NAME_LIMIT: Final = 40
TELLING: Final = 4
"""Fewer literal letters than this say little: then the pattern must be the whole message."""

_LOOKS_LIKE: Final = {
    "url": r"[A-Za-z][A-Za-z0-9+.-]*://\S+",
    "uuid": r"[0-9A-Fa-f-]{36}",
    "time": r"[0-9][0-9TZ:.,/年月日 +-]*",
    "id": r"[0-9A-Fa-f]{32,}",
    "number": r"[0-9]{6,}",
    "digits": "[0-9]+",
}
_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
_PIECE: Final = re.compile(
    f"(?P<blank>{BLANK.pattern})|{VARIABLE.pattern}|(?P<digits>[0-9]+)|(?P<text>.)", re.DOTALL
)
_RE2_SPACE: Final = frozenset("\t\n\f\r ")
_PLAIN_YAML: Final = re.compile("[a-z][a-z0-9]*_[a-z0-9_]*")
"""Without quotes, YAML takes some words for other things: null, no, 1."""
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
    if sum(map(str.isalpha, literal)) < TELLING:
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
    if not character.isprintable():  # YAML cannot hold some of these, and nobody could read them
        return "."
    return _SPECIAL.sub(r"\\\g<0>", character)


def _blank(text: str) -> str:
    if text == " ":
        return text
    return r"\s+" if _RE2_SPACE.issuperset(text) else "(?s:.+?)"


def _name(literal: str) -> str:
    """From the message's own words, for somebody to make a better one of."""
    name = ""
    for word in _WORD.findall(literal.lower()):
        if len(name) + 1 + len(word) > NAME_LIMIT:
            break
        name = f"{name}_{word}" if name else word
    return f"{name}_" if name in (UNCLASSIFIED, NO_MESSAGE) else name or "my_class"
