"""Makes untrusted text fit to be shown: no secret of ours, no control character, bounded length.

Every text from the cloud passes through here before it becomes part of a message. Knows nothing of errors or
HTTP; what is a secret, and where a text may be cut, is decided in ``log.Redactor``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Final

from exporter.log import REDACTED, Redactor

MESSAGE_LIMIT: Final = 300
_SEARCHED: Final = 16_384
"""Characters. What stands behind them is not shown."""
_AUTHORIZATION: Final = re.compile(
    r"SDK-HMAC-SHA256\s+Access=[\w*-]*(?:,\s*SignedHeaders=[\w*;-]*)?(?:,\s*Signature=[\w*]*)?"
)
"""Whosever it is: the header and nothing behind it, which may say what is wrong."""


class MessageRedactor:
    """Redacts the texts of one answer: secrets of the request, and all others that are known."""

    def __init__(self, secrets: Iterable[str] = (), known: Redactor | None = None) -> None:
        """``known`` has the other secrets of the process, also those that were replaced meanwhile."""
        self._secrets = tuple(secrets)
        self._known = known

    # Made at the first message: most requests succeed and need none.
    @cached_property
    def _own(self) -> Redactor:
        return Redactor(self._secrets)

    @cached_property
    def _all(self) -> Redactor:
        return Redactor(self._secrets, self._known)

    def __call__(self, text: str, limit: int = MESSAGE_LIMIT) -> str:
        """One printable line of at most ``limit`` characters."""
        shown = _AUTHORIZATION.sub(REDACTED, self._all.redact_beginning(text, _SEARCHED))
        line = "".join(char if char.isprintable() else _escaped(char) for char in shown.strip())
        return line if len(line) <= limit else line[: limit - 1] + "…"

    def field(self, text: str, size: int) -> str:
        """The first ``size`` characters of what a record says, as they were sent.

        Only secrets of the request are searched: there are many records, and of a thousand targets the
        secrets take a millisecond. The log redacts all of them.
        """
        return self._own.redact_beginning(text, size)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()
