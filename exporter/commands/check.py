"""``check``: says everything that is wrong with the configuration, without starting anything.

Knows how to print problems, what polling costs and what is scraped; must not know how either is found out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TextIO, TypeVar

from exporter import log
from exporter.cloud import credentials_key
from exporter.commands.preflight import Flags, findings
from exporter.commands.series import SCRAPE_SECONDS, SCRAPES_A_DAY, estimate_series
from exporter.config import Config, inline_secrets, load_config, of_shard
from exporter.errors import ConfigError
from exporter.web import WebConfig, load_web_config

T = TypeVar("T")
NO_FLAGS: Final = Flags()


class Estimate(NamedTuple):
    """Requests a minute to MetaStudio for one target when it is quiet."""

    target: str
    head: float
    """Every poll reads the newest stretch of the list."""
    settle: float
    """Twice per ``poll.overlap`` the stretch that became old enough is read for the last time."""
    limit: float
    """What ``rate_limit`` allows a minute."""

    @property
    def total(self) -> float:
        return self.head + self.settle


def check(
    config_path: Path,
    *,
    environ: Mapping[str, str],
    out: TextIO,
    redactor: log.Redactor,
    estimate: bool = False,
    web_config_path: Path | None = None,
    flags: Flags = NO_FLAGS,
) -> int:
    """Prints every problem, one a line, and returns 1; or a line of summary per file, and returns 0.

    Warnings are printed too, and change nothing of that.
    """
    config = _tried(
        lambda: load_config(config_path, environ=environ, warn=lambda it: print(it, file=out)), out
    )
    if config is not None:
        for secret in inline_secrets(config):
            redactor.add(secret.reveal())
        found = findings(config, environ, flags, redactor)
        for warning in found.warnings:
            print(f"{config_path}: warning: {warning}", file=out)
        for problem in found.problems:
            print(f"{config_path}: {problem}", file=out)
        config = None if found.problems else config
    if config is not None:
        all_of_them, config = len(config.targets), of_shard(config, *flags.shard)
        count = f"{all_of_them} target{'' if all_of_them == 1 else 's'}"
        if flags.shard[1] > 1:
            count = f"{len(config.targets)} of its {count} in shard {flags.shard[0]}/{flags.shard[1]}"
        print(f"{config_path}: valid, {count}", file=out)
        if estimate:
            _print_estimates(config, environ, out)
    web = None if web_config_path is None else _tried(lambda: load_web_config(web_config_path), out)
    if web is not None:
        print(f"{web_config_path}: valid, {_describe(web)}", file=out)
    return int(config is None or (web is None and web_config_path is not None))


def _tried(read: Callable[[], T], out: TextIO) -> T | None:
    try:
        return read()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=out)
        return None


def _describe(web: WebConfig) -> str:
    count = len(web.users)
    users = f"{count} user{'' if count == 1 else 's'}" if count else "no passwords"
    return f"{'no TLS' if web.tls is None else 'TLS'}, {users}"


def estimates(config: Config) -> tuple[Estimate, ...]:
    """What each target costs while little happens: few new jobs, none of them open for long.

    On top come one request per 100 new records, rechecks of older open jobs, catching up after downtime, and
    retries. ``rate_limit`` bounds all of it.
    """
    poll = config.poll
    head, settle = 60 / poll.interval, 60 / max(poll.overlap / 2, poll.interval)
    return tuple(
        Estimate(target.name, head=head, settle=settle, limit=target.rate_limit * 60)
        for target in config.targets
    )


def _shared_limits(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """A line for credentials that several targets share, and for each limit that is too low."""
    sharing: dict[str, list[Estimate]] = defaultdict(list)
    for target, one in zip(config.targets, estimates(config), strict=True):
        sharing[credentials_key(target.auth, environ)].append(one)
    for those in sharing.values():
        total, limit = sum(one.total for one in those), min(one.limit for one in those)
        who = those[0].target
        if those[1:]:
            who += f" and {len(those) - 1} more, which share credentials"
        if total > limit:
            yield (
                f"warning: {who}: {total:.1f}, and rate_limit allows {limit:g}: polls will be late; raise"
                " poll.interval, or rate_limit as far as your quota goes"
            )
        elif those[1:]:
            yield f"{who}: {total:.1f} (rate_limit allows {limit:g})"


def _print_estimates(config: Config, environ: Mapping[str, str], out: TextIO) -> None:
    print("estimated requests a minute in the quiet case; new, open and late jobs add to it:", file=out)
    for one in estimates(config):
        print(
            f"  {one.target}: {one.total:.1f} (head {one.head:.1f}, settle {one.settle:.1f};"
            f" rate_limit allows {one.limit:g})",
            file=out,
        )
    for line in _shared_limits(config, environ):
        print(f"  {line}", file=out)
    print(
        f"estimated series, and samples a day at a scrape every {SCRAPE_SECONDS}s, without jobs and with jobs"
        " of every documented kind; open jobs and rare answers of the API add to it:",
        file=out,
    )
    process, targets = estimate_series(config)
    named = [
        *targets,
        ("the process itself", process, process),
        ("all", process + sum(one.first for one in targets), process + sum(one.full for one in targets)),
    ]
    for name, first, full in named:
        print(
            f"  {name}: {first:,} to {full:,} series,"
            f" {first * SCRAPES_A_DAY:,} to {full * SCRAPES_A_DAY:,} samples a day",
            file=out,
        )
