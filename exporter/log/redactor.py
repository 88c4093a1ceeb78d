"""The secrets of this process, and every spelling in which they may turn up in a text.

Knows secrets as text; must not know what they open or where they are shown.
"""

from __future__ import annotations

import html
import json
from typing import Final
from urllib.parse import quote

from exporter.bounded import BoundedDict

REDACTED: Final = "***"
_RENEWED_LIMIT: Final = 200
"""Some hours of every target's temporary keys; older ones have expired."""


class Redactor:
    """Replaces secrets by ``***``. More secrets can be added at any time, as they are read or renewed."""

    def __init__(self) -> None:
        self._lasting: set[str] = set()
        self._renewed = BoundedDict[str, None](limit=_RENEWED_LIMIT)
        self._spellings: tuple[str, ...] = ()

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
        found = {spelling for secret in (*self._lasting, *self._renewed) for spelling in spellings(secret)}
        # The longest first: one secret may be the beginning of another.
        self._spellings = tuple(sorted(found - {""}, key=len, reverse=True))

    def redact(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, REDACTED)
        return text


def spellings(secret: str) -> set[str]:
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
