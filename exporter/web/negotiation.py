"""Accept and Accept-Encoding -> what to answer with (RFC 9110, sections 12.4 and 12.5).

Knows these two headers; must not know anything else of HTTP.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from exporter.exposition import Format

_RANGES = {
    "application/openmetrics-text": (Format.OPENMETRICS, 2),
    "text/plain": (Format.PROMETHEUS, 2),
    "application/*": (Format.OPENMETRICS, 1),
    "text/*": (Format.PROMETHEUS, 1),
}
"""Media range -> the format that it names, and how exactly. ``*/*`` names both, and means text 0.0.4."""

_CACHED: Final = 64
"""Header values whose meaning is kept: every scraper sends the same ones each time."""


class _Preference(NamedTuple):
    """How much a client wants one format; the greatest wins."""

    quality: float
    exactness: int
    """A range that names the format says more about it than a wildcard, whatever their qualities."""
    position: int
    """Negative: of equals the first."""


@lru_cache(_CACHED)
def choose_format(accept: str) -> Format:
    """The format that the client likes best; text 0.0.4, which all can read, when it names neither.

    Versions are not compared: a client that asks for one that we do not speak gets the one that we do,
    and the answer's Content-Type says which.
    """
    wanted: dict[Format, _Preference] = {}
    for position, (media_range, quality) in enumerate(_items(accept)):
        if media_range == "*/*":
            named = [(Format.PROMETHEUS, 0)]
        else:
            named = [_RANGES[media_range]] if media_range in _RANGES else []
        for form, exactness in named:
            preference = _Preference(quality, exactness, -position)
            known = wanted.get(form, preference)
            wanted[form] = max(known, preference, key=lambda p: (p.exactness, p.quality, p.position))
    acceptable = {form: preference for form, preference in wanted.items() if preference.quality > 0}
    return max(acceptable, key=acceptable.__getitem__, default=Format.PROMETHEUS)


@lru_cache(_CACHED)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the client reads gzip: named, or covered by ``*``, and not with ``q=0``."""
    codings = dict(_items(accept_encoding))
    return codings.get("gzip", codings.get("x-gzip", codings.get("*", 0.0))) > 0


def _items(header: str) -> list[tuple[str, float]]:
    """The elements of a list header with their qualities; those whose quality is unreadable are left out."""
    items = []
    for element in header.split(","):
        value, *parameters = (part.strip() for part in element.split(";"))
        quality = _quality(parameters)
        if value and quality is not None:
            items.append((value.lower(), quality))
    return items


def _quality(parameters: list[str]) -> float | None:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            digits = value.strip()
            if not digits.isascii() or not digits.replace(".", "", 1).isdigit():
                return None
            quality = float(digits)
            return quality if quality <= 1 else None
    return 1.0
