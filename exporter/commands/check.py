"""``check``: says everything that is wrong with the configuration, without starting anything.

Knows how to print problems and what polling costs; must not know how either is found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

from exporter.config import Config, load
from exporter.errors import ConfigError


class Estimate(NamedTuple):
    """Requests a minute to MetaStudio for one target when it is quiet."""

    target: str
    head: float
    """Every poll looks at the newest stretch of the list."""
    settle: float
    """Twice per ``poll.overlap`` the stretch that became old enough is read once more, for good."""
    limit: float
    """What ``rate_limit`` allows a minute."""

    @property
    def total(self) -> float:
        return self.head + self.settle


def check(config_path: Path, *, environ: Mapping[str, str], out: TextIO, estimate: bool = False) -> int:
    """Prints every problem, one a line, and returns 1; or one line of summary, and returns 0."""
    try:
        config = load(config_path, environ=environ)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=out)
        return 1
    count = len(config.targets)
    print(f"{config_path}: valid, {count} target{'' if count == 1 else 's'}", file=out)
    if estimate:
        _print_estimates(config, out)
    return 0


def estimates(config: Config) -> tuple[Estimate, ...]:
    """What each target costs while little happens: few new jobs, none of them open for long.

    On top come one request per 100 new records, looks at older open jobs, catching up after downtime, and
    retries. ``rate_limit`` bounds all of it.
    """
    poll = config.poll
    head, settle = 60 / poll.interval, 60 / max(poll.overlap / 2, poll.interval)
    return tuple(
        Estimate(target.name, head=head, settle=settle, limit=target.rate_limit * 60)
        for target in config.targets
    )


def _print_estimates(config: Config, out: TextIO) -> None:
    print("estimated requests a minute in the quiet case; new, open and late jobs add to it:", file=out)
    for one in estimates(config):
        print(
            f"  {one.target}: {one.total:.1f} (head {one.head:.1f}, settle {one.settle:.1f};"
            f" rate_limit allows {one.limit:g})",
            file=out,
        )
