"""``fail_msg`` -> class, and ``fail_msg`` -> template. Pure: text in, text out.

Knows how rules are tried and what varies in a message; must not know where rules or messages come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any, Final

import re2

from exporter.failures.builtin import ClassPattern

UNCLASSIFIED: Final = "unclassified"
NO_MESSAGE: Final = "no_message"

CLASSIFIED_LIMIT: Final = 4096
TEMPLATE_LIMIT: Final = 200
_REMEMBERED: Final = 1024
"""Texts whose class is kept: services repeat themselves, and finding a kept one takes 0.1 us."""
_REMEMBERED_LENGTH: Final = 512
"""Longer texts are not kept: they rarely repeat, and memory stays below a megabyte."""


def compile_rule(pattern: str) -> Any:  # noqa: ANN401 - google-re2 ships no types
    """The compiled pattern, or ValueError with RE2's own one-line reason."""
    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes to standard error
    options.never_capture = True
    try:
        return re2.compile(pattern.encode(), options=options)
    except re2.error as error:
        reason = error.args[0] if error.args else b""
        raise ValueError(
            reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        ) from None
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair") from None


class Classifier:
    """Tries rules in order; the first that matches names the class. ValueError for a pattern RE2 refuses."""

    def __init__(self, rules: Iterable[ClassPattern]) -> None:
        rules = tuple(rules)
        named = dict.fromkeys(name for name, _ in rules if name not in (UNCLASSIFIED, NO_MESSAGE))
        self.classes: tuple[str, ...] = (*named, UNCLASSIFIED, NO_MESSAGE)
        self._rules = tuple((name, compile_rule(pattern)) for name, pattern in rules)
        # Of a function and not of a method, which would refer to this object from within.
        self._remember = lru_cache(maxsize=_REMEMBERED)(partial(_first_match, self._rules))

    def classify(self, text: str) -> str:
        """One of ``classes``."""
        if len(text) <= _REMEMBERED_LENGTH:
            return self._remember(text)
        return _first_match(self._rules, text[:CLASSIFIED_LIMIT])


def _first_match(rules: Iterable[tuple[str, Any]], text: str) -> str:
    if not text.strip():
        return NO_MESSAGE
    message = text.encode("utf-8", "replace")  # half a surrogate pair can arrive as a JSON escape
    # One by one: an ordinary message takes 20 us, the worst one of 4,096 characters 0.3 ms. re2.Set,
    # which scans once for all rules, takes 1.5 us and 20 ms: too long for untrusted text.
    for name, pattern in rules:
        if pattern.search(message):
            return name
    return UNCLASSIFIED


BLANK: Final = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+"
)
_URL: Final = r"(?P<url>[A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s\"'<>,;，。；、（）()【】]+)"
_SHORT_ID: Final = (
    # What a placeholder or a cut left of a word is none: a template of a template is the same.
    "(?<![0-9A-Za-z])(?<!<time>)(?<!<uuid>)"
    "(?=[0-9]*[A-Fa-f])(?=[A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}"
    "(?![0-9A-Za-z…]|<url>)"
)
"""Hexadecimal digits that are neither a word nor a number."""
_OTHERS: Final = (
    r"(?=[0-9A-Fa-f])(?:"  # passes over most text five times as fast
    r"(?P<uuid>[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12})"
    r"|(?P<time>(?:[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{4}年[0-9]{1,2}月[0-9]{1,2}日)"
    r"(?:[T ]?[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
    r"|[0-9]{8}T[0-9]{6}Z?|[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?)"
    rf"|(?P<id>[0-9A-Fa-f]{{32,}}|{_SHORT_ID})"
    r"|(?P<number>[0-9]{6,}))"
)
VARIABLE: Final = re.compile(f"{_URL}|{_OTHERS}")
_DIGITS: Final = "(?P<digits>[0-9]+)"
_PARTS: Final = re.compile(f"{VARIABLE.pattern}|{_DIGITS}")
_PARTS_WITHOUT_URL: Final = re.compile(f"{_OTHERS}|{_DIGITS}")
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"000000000")
_WHOLE_IDS: Final = re.compile(
    r"(?<![^ =\"'(\[])(?:([0A-Fa-f]{8}(?:-[0A-Fa-f]{4}){3}-[0A-Fa-f]{12})"
    r"|(?=0*[A-Fa-f])(?=[A-Fa-f]*0)[0A-Fa-f]{8,}(?![0-9A-Za-z…:<+.-]))"
)
"""Those that are parts that vary for certain, whatever stands around them. All digits are ``0`` here."""
_LETTERS_ALONE: Final = re.compile("[A-Fa-f]{8}-|[A-Fa-f]{32}")
"""A part that varies and has no digit matches."""
_FORMS: Final = 4096
"""Forms that are remembered."""


def template(text: str) -> str:
    """The message with placeholders for what varies (``<uuid>``, ``<id>``, ``<number>``, ``<url>``,
    ``<time>``).

    One line of at most ``TEMPLATE_LIMIT`` characters, without control characters.
    """
    line = BLANK.sub(" ", text[:CLASSIFIED_LIMIT]).strip()
    line = VARIABLE.sub(lambda match: f"<{match.lastgroup}>", line)
    return line if len(line) <= TEMPLATE_LIMIT else line[: TEMPLATE_LIMIT - 1] + "…"


def form(text: str) -> str:
    """Equal for messages that differ only in variable parts and digits: they get the same suggested rule.

    For comparing, not for reading: a template has its numbers below a million.
    """
    # As bytes it takes a tenth of the time.
    alike = text.encode("utf-8", "surrogatepass").translate(_DIGITS_ALIKE).decode("utf-8", "surrogatepass")
    if "0" in alike:
        # Which digits and ids they are makes no difference, and finding a remembered form takes 0.1 us.
        return _form_of(_WHOLE_IDS.sub(_alike, alike))
    return _form_of(alike) if "://" in alike or _LETTERS_ALONE.search(alike) else alike


def _alike(found: re.Match[str]) -> str:
    return "00000000-0000-0000-0000-000000000000" if found[1] else "0000000a"


def without_parts(text: str) -> str:
    """A placeholder for each part that varies."""
    parts = _PARTS if "://" in text else _PARTS_WITHOUT_URL
    return parts.sub(lambda match: f"\0{match.lastgroup}\0", text)


_form_of: Final = lru_cache(_FORMS)(without_parts)
