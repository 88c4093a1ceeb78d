"""The text of a failure or an error without what names a person, a place or a thing. Pure.

First go the values that fields of the answers gave as ids and names, whatever they look like. What is left is
judged by its form: quotations, values of keys such as user=, addresses, links, paths, ids. Other words stay,
and codes of errors, and numbers below 10,000: a name that looks like any word is not known as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from exporter.failures import template

_NAMES_OF_FIELDS: Final = re.compile(
    r"(?i)(?:.*_)?(?:id|ids|name|url|uri|path|user|account|domain|bucket|project|e?mail|phone|key|token)"
)
"""Fields whose values are ids or names, also where the documentation does not know them."""
_SHORTEST: Final = 3
_INSIDE: Final = 8
"""So long an id is found inside a word, too; a shorter one may be a part of many words."""
_SMALL_NUMBER: Final = 4
"""Digits. A number of so few may be anything."""
_CODE: Final = re.compile(r"((?:MSS|APIGW?)\.[0-9]{4,9})(?![0-9])")
_UNBROKEN: Final = r"[^\s\"'<>()（）,，;；]"
_DATE: Final = r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}(?:[T ][0-9]{1,2}:[0-9:.]+(?:Z|[+-][0-9:]{4,6})?)?"
_QUOTED: Final = re.compile(
    "|".join(
        f"{begin}[^{begin}{end}]+{end}"
        for begin, end in ('""', "``", "“”", "„“", "‘’", "「」", "『』", "《》", "«»")
    )
    + "|(?<![A-Za-z0-9])'[^']+'(?![A-Za-z0-9])"
)
_NAMED: Final = re.compile(
    r"(?i)((?:password|passwd|pwd|secret|token|密码|口令)\s*[=:：]\s*"
    r"|(?:user|account|name|domain|bucket|project|speaker|key|id|用户|账号|姓名)\s*[=＝]\s*)"
    rf"(?!<){_UNBROKEN}+"
)
"""The value of a key that says what it is."""
_FORMS: Final = tuple(
    (placeholder, re.compile(pattern))
    for placeholder, pattern in (
        ("<id>", r"[0-9A-Fa-f]{8}(?:[-_][0-9A-Fa-f]{4}){3}[-_][0-9A-Fa-f]{12}"),  # a UUID
        ("<time>", _DATE),
        (
            "<address>",
            r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?|(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}",
        ),
        ("<mail>", rf"{_UNBROKEN}+@{_UNBROKEN}+"),
        ("<url>", rf"[A-Za-z][A-Za-z0-9+.-]*://{_UNBROKEN}+"),
        ("<path>", rf"{_UNBROKEN}*(?:[/\\]|\?{_UNBROKEN}*=){_UNBROKEN}*\w{_UNBROKEN}*"),
        ("<name>", r"(?:[\w-]+\.)+[A-Za-z][A-Za-z0-9]{1,5}(?![\w-]|\.\w)"),  # of a host or a file
    )
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9+/=]{24,}|[A-Za-z0-9]+(?:[-_]+[A-Za-z0-9]+)*")
_LARGE_NUMBER: Final = re.compile(r"[0-9]{5,}")
_JOINT: Final = re.compile("[-_]+")
_WORDS: Final = re.compile(r"[a-z]{0,20}(?:[A-Z]{2,5}(?=[A-Z][a-z]|$)|[A-Z][a-z]{3,20})*")
"""One or several, such as HTTPServerError."""
_KEY_PREFIXES: Final = ("ak", "sk")
_ACCESS_KEY: Final = 20
"""Characters of one."""
_LONG: Final = 24
"""Characters of what is no word any more."""
_PHONE: Final = 7
"""Digits of the shortest phone number."""


def named_values(element: object, name: str = "") -> Iterator[str]:
    """The values of fields that hold an id or a name, at any depth."""
    if isinstance(element, dict):
        for key, value in element.items():
            yield from named_values(value, key)
    elif isinstance(element, list):
        for value in element:
            yield from named_values(value, name)
    elif (
        isinstance(element, str | int) and not isinstance(element, bool) and _NAMES_OF_FIELDS.fullmatch(name)
    ):
        yield str(element)


def any_of(values: Iterable[str]) -> re.Pattern[str] | None:
    """Finds each of these, in upper and lower case; not those that may as well be a number or a part of a
    word. ``None`` where none is left.
    """
    usable = {
        value
        for value in values
        if len(value) >= _SHORTEST and not (value.isdecimal() and len(value) <= _SMALL_NUMBER)
    }
    ordered = sorted(usable, key=lambda value: (-len(value), value))
    found = [
        re.escape(value) if len(value) >= _INSIDE else rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])"
        for value in ordered
    ]
    return re.compile("|".join(found), re.IGNORECASE) if found else None


def without_names(text: str, known: re.Pattern[str] | None = None) -> str:
    """A template of the text. ``known``: values that are ids or names."""
    if known is not None:
        text = known.sub("<id>", text)
    parts = (part if _CODE.fullmatch(part) else _by_form(part) for part in _CODE.split(text))
    return "".join(parts).strip()


def _by_form(text: str) -> str:
    text = _NAMED.sub(r"\1<name>", _QUOTED.sub(lambda it: f"{it[0][0]}<text>{it[0][-1]}", text))
    for placeholder, form in _FORMS:
        text = form.sub(placeholder, text)
    text = _TOKEN.sub(lambda found: "<id>" if _is_id(found[0]) else found[0], text)
    begin, end = (" " if text[at:][:1].isspace() else "" for at in (0, -1))
    return f"{begin}{template(_LARGE_NUMBER.sub('<number>', text))}{end}"


def _is_id(token: str) -> bool:
    """Whether letters and digits, joined or not, are rather an id or a key than words and numbers."""
    parts = _JOINT.split(token)
    numbered = [part for part in parts if any(map(str.isdigit, part))]
    numbers = all(map(str.isdigit, numbered))
    length = sum(map(len, numbered))
    if numbered and not numbers and length >= _INSIDE:  # 8f3a2b1c, ab12-cd34
        return True
    if numbers and len(numbered) > 2 and length >= _PHONE:  # 138-0013-8000, but not 1-24
        return True
    if len(parts) > 1 and parts[0].lower() in _KEY_PREFIXES:  # sk-abcd-efgh
        return True
    if numbered and len(numbered) < len(parts) and _is_in_groups([len(part) for part in parts]):
        return True
    if token.isalpha() and token.isupper() and len(token) == _ACCESS_KEY:
        return True
    return any(map(_is_no_word, parts))


def _is_in_groups(lengths: list[int]) -> bool:
    """Four groups of four characters, or many short ones: job-ab-cd-ef-gh-12."""
    return (len(lengths) > 4 and max(lengths) <= 4) or (len(lengths) > 3 and set(lengths) == {4})


def _is_no_word(part: str) -> bool:
    """Longer than a word, or capitals inside it: a certificate, a key."""
    mixed = re.search("[A-Z]{2}", part) and re.search("[a-z][A-Z]", part) and len(part) >= _INSIDE
    return bool(mixed or len(part) >= _LONG) and not _WORDS.fullmatch(part)
