"""The secrets of this process, and every spelling in which they may turn up in a text.

Knows secrets as text; must not know what they open or where they are shown. The one place that decides what
is replaced and where a text may be cut: nothing is too short to be a secret, and no cut leaves a part of one.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from exporter.bounded import BoundedDict

REDACTED: Final = "***"
_RENEWED_LIMIT: Final = 200
"""Some hours of every target's temporary keys; older ones have expired."""


class Redactor:
    """Replaces secrets by ``***``. More secrets can be added at any time, as they are read or renewed."""

    def __init__(self, secrets: Iterable[str] = (), others: Redactor | None = None) -> None:
        """``others`` has its secrets replaced too, also those that it learns later."""
        self._lasting = set(secrets)
        self._others = others
        self._renewed = BoundedDict[str, None](limit=_RENEWED_LIMIT)
        self._spellings: tuple[str, ...] = ()
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
        found = {spelling for secret in (*self._lasting, *self._renewed) for spelling in _spellings(secret)}
        # The longest first: one secret may be the beginning of another.
        self._spellings = tuple(sorted(found - {""}, key=len, reverse=True))

    def redact(self, text: str) -> str:
        """The whole text."""
        for spelling in self._all():
            text = text.replace(spelling, REDACTED)
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
            for spelling in self._all():
                across = text.find(spelling, max(0, end - len(spelling) + 1), end + len(spelling) - 1)
                end = end if across < 0 else across
        return end

    def _all(self) -> tuple[str, ...]:
        return self._spellings if self._others is None else (*self._others._all(), *self._spellings)


def _spellings(secret: str) -> set[str]:
    """The secret as it is, and as it is written in a URL, in JSON, in Python and in HTML."""
    if secret.isascii() and secret.isalnum():
        return {secret}  # written the same way everywhere
    return {
        secret,
        quote(secret, safe="", errors="replace"),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
    }
