"""What a finding is. Pure; findings are made in ``about_access``, ``about_list``, ``about_records``."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from exporter.commands.doctor.facts import Facts


class Verdict(StrEnum):
    OK = "ok"
    DIFFERS = "differs"
    """From the documentation or the configuration. The exporter allows for it, with ``config`` if any."""
    UNUSABLE = "unusable"
    """The exporter cannot count exactly so."""
    NOT_KNOWN = "not known"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found out."""

    name: str
    verdict: Verdict
    text: str
    config: tuple[str, ...] = ()
    """Lines of the target's configuration that answer it."""
    poll: tuple[str, ...] = ()
    """Lines of section ``poll``."""


Examine = Callable[[Facts], Finding | None]
"""``None``: nothing to say about this target."""


def ok(name: str, text: str) -> Finding:
    return Finding(name, Verdict.OK, text)


def differs(name: str, text: str, *config: str) -> Finding:
    return Finding(name, Verdict.DIFFERS, text, config)


def unusable(name: str, text: str, *config: str) -> Finding:
    return Finding(name, Verdict.UNUSABLE, text, config)


def not_known(name: str, text: str) -> Finding:
    return Finding(name, Verdict.NOT_KNOWN, text)
