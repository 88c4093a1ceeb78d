"""The secrets of this process, and every spelling in which they may turn up in a text.

Knows secrets as text; must not know what they open or where they are shown. The one place that decides what
is replaced and where a text may be cut: nothing is too short to be a secret, and no cut leaves a part of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from html.entities import codepoint2name
from typing import Final

from exporter.bounded import BoundedDict

REDACTED: Final = "***"
_RENEWED_LIMIT: Final = 200
"""Some hours of every target's temporary keys; older ones have expired."""
_LONGEST: Final = 40
"""Characters that one character of a secret can become: more than any of its patterns matches."""
_ESCAPE: Final = r"\\{1,3}"
"""What stands before an escaped character: several, where JSON holds JSON."""
_LETTERS: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
_ENTITIES: Final = {**codepoint2name, ord("'"): "apos"}


class Redactor:
    """Replaces secrets by ``***``. More secrets can be added at any time, as they are read or renewed."""

    def __init__(self, secrets: Iterable[str] = (), others: Redactor | None = None) -> None:
        """``others`` has its secrets replaced too, also those that it learns later."""
        self._lasting = set(secrets)
        self._others = others
        self._renewed = BoundedDict[str, None](limit=_RENEWED_LIMIT)
        self._spellings: dict[str, _Spellings] = {}
        self._collect_spellings()

    def add(self, secret: str) -> None:
        """From now on it is replaced, in all its spellings."""
        self._lasting.add(secret)
        self._collect_spellings()

    def add_renewed(self, secret: str) -> None:
        """Like ``add``, for a temporary secret that is added again at every use: only the latest are kept."""
        known = secret in self._renewed
        self._renewed.remember(secret, None)
        if not known:
            self._collect_spellings()

    def _collect_spellings(self) -> None:
        secrets = {*self._lasting, *self._renewed} - {""}
        # The longest first: one secret may be the beginning of another.
        self._spellings = {
            secret: self._spellings.get(secret) or _Spellings(secret)
            for secret in sorted(secrets, key=len, reverse=True)
        }

    def redact(self, text: str) -> str:
        """The whole text."""
        for spellings in self._all():
            text = spellings.replaced(text)
        return text

    def redact_beginning(self, text: str, size: int) -> str:
        """The first ``size`` characters of a text that may be far longer; what follows is not searched.

        Fewer where the cut would go through a secret: no part of it is left.
        """
        if len(text) > size:
            text = text[: self._cut(text, size)] or REDACTED
        return self.redact(text)

    def _cut(self, text: str, end: int) -> int:
        """The last place up to ``end`` that is within no secret."""
        before = -1
        while end != before:
            before = end
            for spellings in self._all():
                end = spellings.cut(text, end)
        return end

    def _all(self) -> Iterator[_Spellings]:
        if self._others is not None:
            yield from self._others._all()
        yield from self._spellings.values()


class _Spellings:
    """One secret, as it is and as it is written in a URL, in a form, in JSON, in Python and in HTML."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        # It is written the same way everywhere: without it the text need not be searched any further.
        self._part = max(re.findall("[A-Za-z0-9]+", secret), key=len, default="")
        self._longest = len(secret) * (1 if self._part == secret else _LONGEST)

    @cached_property  # hardly any secret ever turns up in a text
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(map(_character, self._secret)))

    def replaced(self, text: str) -> str:
        """``text`` with ``***`` in its place."""
        return self._pattern.sub(REDACTED, text) if self._part in text else text

    def cut(self, text: str, end: int) -> int:
        """Where the first that goes over ``end`` begins; ``end`` if none does."""
        start, window = max(0, end - self._longest), text[: end + self._longest]
        if window.find(self._part, start) < 0:
            return end
        while (found := self._pattern.search(window, start)) and found.start() < end:
            if found.end() > end:
                return found.start()
            start = found.start() + 1
        return end


def _character(char: str) -> str:
    """A pattern of all that one character of a secret may be written as."""
    if char.isascii() and char.isalnum():
        return char
    number = ord(char)
    encoded = char.encode(errors="replace")  # half of a surrogate pair becomes a question mark
    units = char.encode("utf-16-be", "surrogatepass").hex()
    in_any_case = [
        "".join(f"%(?:25){{0,2}}{byte:02x}" for byte in encoded),
        "".join(f"{_ESCAPE}u{units[at : at + 4]}" for at in range(0, len(units), 4)),
        "".join(f"{_ESCAPE}x{byte:02x}" for byte in encoded),
        f"{_ESCAPE}U{number:08x}",
        f"&(?:amp;)?#(?:0{{0,5}}{number}|x0{{0,5}}{number:x});",
    ]
    if number < 256:
        in_any_case.append(f"{_ESCAPE}x{number:02x}")
    as_it_is = [r"\\{0,3}" + re.escape(char)]
    if char in _LETTERS:
        as_it_is.append(_ESCAPE + _LETTERS[char])
    if number in _ENTITIES:
        as_it_is.append(f"&(?:amp;)?{_ENTITIES[number]};")
    if char == " ":
        as_it_is.append(r"\+")
    return f"(?:(?i:{'|'.join(in_any_case)})|{'|'.join(reversed(as_it_is))})"
