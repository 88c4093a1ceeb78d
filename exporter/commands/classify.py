"""``classify``: what rules make of failure messages, before the exporter counts by them.

A failure is classified once, when it is counted: rules must be good before the first start. Knows where
messages come from and how the result is shown; must not know how rules are tried.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter import log
from exporter.commands import console
from exporter.commands.console import counted_noun
from exporter.commands.failure_messages import MessageFile
from exporter.commands.past import IncompleteError, config_and_target, past_jobs, read_past
from exporter.config import Config, load_config
from exporter.errors import ExporterError
from exporter.failures import (
    ClassTally,
    Comparison,
    TallyView,
    as_yaml,
    matched_part,
    template,
)
from exporter.ledger import FAILED
from exporter.process import INTERRUPTED, reason
from exporter.units import SECOND

STDIN: Final = "-"
SHOWN: Final = 20
_CHUNK: Final = 10_000
"""Messages in memory at a time, of at most ``CLASSIFIED_LIMIT`` characters."""
_BEFORE: Final = 30
"""Characters that are shown before and after what a rule matched."""


class ClassifyFlags(NamedTuple):
    """Those of ``classify``."""

    config_file: Path
    config_given: bool
    """By the user: then it must exist."""
    file: str | None = None
    target: str | None = None
    since: str | None = None
    until: str | None = None
    explain: bool = False
    compare: Path | None = None
    top: int = SHOWN
    as_json: bool = False


Add = Callable[[Mapping[str, int]], None]


class Move(NamedTuple):
    """Messages that other rules put into another class."""

    before: str
    after: str
    messages: int
    sample: str


def classify(
    flags: ClassifyFlags, *, environ: Mapping[str, str], out: TextIO, err: TextIO, redactor: log.Redactor
) -> int:
    """0, 1 where the API could not be read to the end, or 130 after Ctrl-C. Raises ExporterError."""
    config = _rules_of(flags, err)
    rules = config.failure_rules
    tally = ClassTally(rules)
    comparison = None
    if flags.compare is not None:
        comparison = Comparison(rules, load_config(flags.compare, rules_only=True).failure_rules)

    def add(messages: Mapping[str, int]) -> None:
        tally.add(messages)
        if comparison is not None:
            comparison.add(messages)

    code, stopped = 0, ""
    try:
        if flags.since is None:
            _from_file(flags.file or STDIN, add, err)
        elif console.run(_from_api(flags, environ, add, err, redactor)) is None:
            code, stopped = INTERRUPTED, "stopped"
    except KeyboardInterrupt:
        code, stopped = INTERRUPTED, "stopped"
    except IncompleteError as error:
        code, stopped = 1, str(error)
    view = tally.view()
    if code == INTERRUPTED and not view.messages:
        return code
    moves = () if comparison is None else _moves(comparison)
    if flags.as_json:
        console.print_json(_as_json(view, moves, flags), out)
    else:
        _print(view, moves, flags, config, console.new_console(out))
    if stopped:
        print(f"metastudio-tts-exporter: {stopped}; what is shown was read before", file=err)
    return code


def _rules_of(flags: ClassifyFlags, err: TextIO) -> Config:
    """The configuration, or one with the built-in rules alone where none is given and none exists."""
    if flags.since is None and not flags.config_given and not flags.config_file.exists():
        print(f"there is no {flags.config_file} here: the built-in rules alone are tried", file=err)
        return Config()
    return load_config(flags.config_file, rules_only=flags.since is None)


def _from_file(name: str, add: Add, err: TextIO) -> None:
    try:
        with sys.stdin.buffer if name == STDIN else Path(name).open("rb") as file:
            messages = MessageFile(file, "standard input" if name == STDIN else name)
            lines = iter(messages)
            while chunk := Counter(islice(lines, _CHUNK)):
                add(chunk)
    except OSError as error:
        raise ExporterError(f"cannot read {name}: {reason(error)}") from None
    for doubt in messages.doubts:
        print(f"warning: {doubt}", file=err)


async def _from_api(
    flags: ClassifyFlags, environ: Mapping[str, str], add: Add, err: TextIO, redactor: log.Redactor
) -> bool:
    log.configure("error", "logfmt", err, redactor=redactor)
    config, target = config_and_target(flags.config_file, flags.target, environ)
    past = read_past(flags.since or "", flags.until, int(time.time() * SECOND))
    async with past_jobs(config, target, environ, redactor, err) as jobs:
        with console.bar(err, past.until - past.since, target.name) as advance:
            async for piece in jobs.pieces(past):
                add(Counter(job.fail_msg for job in piece.records if job.job_state == FAILED))
                advance(piece.window.until - piece.window.since)
    return True


def _moves(comparison: Comparison) -> tuple[Move, ...]:
    moves = (Move(*move, messages, sample) for move, (messages, sample) in comparison.moves.items())
    return tuple(sorted(moves, key=lambda move: -move.messages))


def _print(
    view: TallyView, moves: tuple[Move, ...], flags: ClassifyFlags, config: Config, to: Console
) -> None:
    total = view.messages
    if not total:
        to.print("no failure messages")
        return
    classes = Table("class", title=counted_noun(total, "failure message"), title_justify="left")
    classes.add_column("messages", justify="right")
    classes.add_column("share", justify="right")
    for name, messages in view.classes.items():
        if messages:
            classes.add_row(Text(name), str(messages), f"{messages / total:.1%}")
    to.print(classes)
    if flags.explain:
        _print_rules(view, len(config.fail_msg_classes), to)
    if flags.compare is not None:
        _print_moves(moves, flags.compare, to)
    if view.proposals or view.further:
        _print_proposals(view, flags.top, to)


def _print_rules(view: TallyView, own: int, to: Console) -> None:
    table = Table("rule", "class", title="which rule matched where, in the order they are tried")
    table.title_justify = "left"
    table.add_column("messages", justify="right")
    table.add_column("for example", overflow="fold")
    for place, rule in enumerate(view.rules):
        if rule.messages:
            name = f"fail_msg_classes[{place}]" if place < own else f"built-in {place - own + 1}"
            table.add_row(name, Text(rule.class_name), str(rule.messages), _marked(rule.pattern, rule.sample))
    to.print(table)


def _marked(pattern: str, text: str) -> Text:
    before, matched, after = (_one_line(part) for part in matched_part(pattern, text))
    before = before if len(before) <= _BEFORE else "…" + before[-_BEFORE:]
    after = after if len(after) <= _BEFORE else after[:_BEFORE] + "…"
    return Text.assemble(before, ("»" + matched[: 4 * _BEFORE] + "«", "bold"), after)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _print_moves(moves: tuple[Move, ...], other: Path, to: Console) -> None:
    if not moves:
        to.print(f"with the rules of {other} no message changes its class")
        return
    table = Table("class", f"with {other}", title="what would move", title_justify="left")
    table.add_column("messages", justify="right")
    table.add_column("for example", overflow="fold")
    for move in moves:
        table.add_row(move.before, move.after, str(move.messages), Text(template(move.sample)))
    to.print(table)


def _print_proposals(view: TallyView, top: int, to: Console) -> None:
    if not view.proposals:
        unclassified = counted_noun(view.further, "unclassified message")
        them = "it" if view.further == 1 else "them"
        to.print(f"{unclassified} with nothing to be seen in {them}: no rule is proposed")
        return
    table = Table(title="unclassified, most frequent first", title_justify="left")
    table.add_column("messages", justify="right")
    table.add_column("template", overflow="fold")
    for proposal in view.proposals[:top]:
        table.add_row(str(proposal.messages), Text(proposal.template))
    to.print(table)
    left = _left(view, top)
    if left:
        to.print(f"and {counted_noun(left, 'message')} of further templates (--top shows more)")
    to.print("rules for these, to rename and to paste into the configuration:\n\nfail_msg_classes:")
    for proposal in view.proposals[:top]:
        to.print(Text(as_yaml(proposal.rule)), end="", soft_wrap=True)


def _left(view: TallyView, top: int) -> int:
    """Unclassified messages that none of the first ``top`` proposals takes."""
    return view.further + sum(proposal.messages for proposal in view.proposals[top:])


def _as_json(view: TallyView, moves: tuple[Move, ...], flags: ClassifyFlags) -> dict[str, object]:
    total = view.messages
    shown: dict[str, object] = {
        "messages": total,
        "classes": {
            name: {"messages": messages, "share": messages / total if total else 0.0}
            for name, messages in view.classes.items()
        },
        "unclassified": [
            {
                "template": proposal.template,
                "messages": proposal.messages,
                "class": proposal.rule.class_name,
                "match": proposal.rule.match,
            }
            for proposal in view.proposals[: flags.top]
        ],
        "further": _left(view, flags.top),
    }
    if flags.explain:
        shown["rules"] = [
            {
                "class": rule.class_name,
                "match": rule.pattern,
                "messages": rule.messages,
                "sample": template(rule.sample),
                "matched": matched_part(rule.pattern, rule.sample)[1] if rule.messages else "",
            }
            for rule in view.rules
        ]
    if flags.compare is not None:
        shown["moves"] = [
            {
                "class": move.before,
                "other": move.after,
                "messages": move.messages,
                "sample": template(move.sample),
            }
            for move in moves
        ]
    return shown
