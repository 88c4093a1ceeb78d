"""The rule files as data, and the same rules in a quicker world."""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "prometheus" / "rules"
TESTS: Final = ROOT / "prometheus" / "tests"

MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
DURATION: Final = re.compile(r"(?<=\[)\d+[smhdw](?=\])|(?<=\boffset )\d+[smhdw]\b")
"""Ranges and offsets in an expression; the names of recorded series have no such neighbours."""
SECONDS: Final = re.compile(r"\* 60\b")
"""How these rules write every number of seconds: ``20 * 60``."""

Rule = dict[str, Any]


@functools.cache
def read_yaml(path: Path) -> Any:
    """Not to be changed."""
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)  # each worker of pytest reads them


def groups() -> list[dict[str, Any]]:
    """Every group of every file."""
    files = sorted(RULES.glob("*.yaml"))
    return copy.deepcopy([group for path in files for group in read_yaml(path)["groups"]])


def rules(kind: str) -> list[Rule]:
    """The rules that have the key ``kind``: ``alert`` or ``record``."""
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


def needed(test: Any) -> list[dict[str, Any]]:
    """The groups with only those rules that a promtool test depends on: the same result in less time.

    They are the alerts and recorded series that it names, and what these are made of.
    """
    made, used = groups(), list[Rule]()
    names = set(_words(test))
    if "ALERTS" in names:  # of any alert
        return made
    while more := [
        rule
        for group in made
        for rule in group["rules"]
        if rule not in used and not names.isdisjoint((rule.get("record"), rule.get("alert")))
    ]:
        used += more
        names.update(_words(more))
    for group in made:
        group["rules"] = [rule for rule in group["rules"] if rule in used]
    return [group for group in made if group["rules"]]


def _words(data: Any) -> list[str]:
    return re.findall(r"[\w:]+", json.dumps(data).replace(r"\n", " "))


def shorter(duration: str, factor: int) -> str:
    """``30m`` with factor 60 is ``30000ms``."""
    number, unit = re.fullmatch(r"(\d+)(ms|[smhdw])", duration).groups()  # type: ignore[union-attr]  # or it fails
    return f"{max(1, int(number) * MS[unit] // factor)}ms"


def quickened(factor: int) -> dict[str, Any]:
    """One rule file in which every time is ``factor`` times as short, and nothing else is changed.

    Ranges, offsets, ``for``, the groups' intervals and the numbers of seconds are times. Shares, counts,
    factors and label matchers are not. So it is the same rules, in a world that runs faster.
    """
    made = groups()
    for group in made:
        group["interval"] = shorter(group["interval"], factor)
        for rule in group["rules"]:
            expr = DURATION.sub(lambda match: shorter(match.group(), factor), rule["expr"])
            rule["expr"] = SECONDS.sub(f"* (60 / {factor})", expr)
            if "for" in rule:
                rule["for"] = shorter(rule["for"], factor)
    return {"groups": made}
