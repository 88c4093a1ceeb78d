"""Which jobs a difference between two sums of ids (``id_number``) comes from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Final, NamedTuple

from exporter.ledger import IDS_MASK, id_number

NAMED: Final = 3
"""Jobs at most that a sum of ids is taken apart into."""
_SEARCHED: Final = 400
"""Listed jobs at most among which three are searched."""


class Exact(NamedTuple):
    """The jobs by which what is counted in a cell differs from what is listed there."""

    more: tuple[str, ...]
    """Counted here: listed elsewhere, or counted twice."""
    fewer: tuple[str, ...]
    """Listed here, and not counted here."""


def can_search(jobs: int, number: int) -> bool:
    """Can all choices of so many of the jobs be tried?"""
    return number < NAMED or (number == NAMED and jobs <= _SEARCHED)


def find_exact(
    every: Mapping[int, str], mine: Mapping[int, str], off: int, more: int, number: int
) -> Exact | None:
    """The fewest jobs, up to ``number``: ``more`` of them too many, with numbers that add up to ``off``."""
    for some in range(number + 1):
        fewer = (some - more) // 2
        if abs(more) > some or (some - more) % 2 or not can_search(len(every), some):
            continue
        if (found := _find(every, mine, off, some - fewer, fewer)) is not None:
            return found
    return None


def find_ids(names: Iterable[str], wanted: int, number: int) -> tuple[str, ...] | None:
    """Those ``number`` of the ids whose numbers add up to ``wanted``; ``None`` where there are none."""
    found = find_exact({id_number(name): name for name in names}, {}, wanted, number, number)
    return None if found is None else found.more


def _find(every: Mapping[int, str], mine: Mapping[int, str], off: int, more: int, fewer: int) -> Exact | None:
    """So many of ``every`` less so many of ``mine``: the last one is looked up, the others are tried."""
    if not more and not fewer:
        return None if off else Exact((), ())
    for added in combinations(every, max(0, more - 1)):
        for taken in combinations(mine, fewer if more else fewer - 1):
            left = (off - sum(added) + sum(taken)) & IDS_MASK
            plus, minus = ((*added, left), taken) if more else (added, (*taken, -left & IDS_MASK))
            known = every.keys() >= {*plus} and mine.keys() >= {*minus}
            if known and len({*plus, *minus}) == more + fewer:
                return Exact(tuple(every[it] for it in plus), tuple(mine[it] for it in minus))
    return None
