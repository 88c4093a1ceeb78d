"""Makes untrusted text fit to be shown: no secret of ours, no control character, bounded length.

Every text from the cloud passes through here before it becomes part of a message. Knows nothing of errors or
HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

from exporter.log import spellings

MESSAGE_LIMIT: Final = 300
_SCAN_LIMIT: Final = 16_384
_SHORTEST: Final = 4
"""Characters. To redact a shorter "secret" would make most messages unreadable."""
_MASK: Final = "***"
_AUTHORIZATION: Final = re.compile(r"SDK-HMAC-SHA256\s+Access=.*?Signature=\w*", re.DOTALL)


class MessageRedactor:
    """Masks the given secrets, also where a server echoes them in another spelling."""

    def __init__(self, secrets: Iterable[str] = (), known: Callable[[str], str] = str) -> None:
        """``known`` redacts all other secrets of the process, also those that were replaced meanwhile."""
        self._given = tuple(secrets)
        self._known = known

    @cached_property
    def _secrets(self) -> list[str]:
        """Longest first. Made at the first message: most requests succeed and need none."""
        found: set[str] = set()
        for secret in self._given:
            if len(secret) >= _SHORTEST:
                found |= spellings(secret)
        return sorted(found, key=len, reverse=True)

    def __call__(self, text: str, limit: int = MESSAGE_LIMIT) -> str:
        """One line of at most ``limit`` characters, with a mask in place of every secret."""
        scanned = text[:_SCAN_LIMIT]
        scanned = _AUTHORIZATION.sub(_MASK, scanned)
        scanned = self.redact(self._known(scanned))
        if len(text) > _SCAN_LIMIT and self._secrets:
            # The cut may have left the beginning of a secret at the end, where nothing found it.
            scanned = scanned[: -len(self._secrets[0])]
        line = "".join(char if char.isprintable() else _escaped(char) for char in scanned.strip())
        return line if len(line) <= limit else line[: limit - 1] + "…"

    def redact(self, text: str) -> str:
        """The same text, whole, with a mask in place of the given secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()
