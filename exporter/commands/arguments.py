"""The commands that ask the API: their flags, and what runs those that look at the past.

Imports nothing of these before one is run, as every start reads the flags.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from exporter.config import ValueRefusedError, duration, load_config
from exporter.errors import ExporterError

DEFAULT_CONFIG: Final = Path("exporter.yaml")

USUAL_LABELS: Final = {"job": "metastudio-tts", "instance": "localhost:10047"}
"""Of series that Prometheus scrapes, if it is configured as the guide has it."""
_WATCH: Final = duration("10s", 86_400.0)


SERVE_EXAMPLES: Final = """examples:
  metastudio-tts-exporter                                     serve, with ./exporter.yaml
  metastudio-tts-exporter --config.file /etc/metastudio-tts-exporter/exporter.yaml --web.enable-lifecycle
  metastudio-tts-exporter serve --web.listen-address 127.0.0.1:10047 --shard 0/2
"""
CHECK_EXAMPLES: Final = """examples:
  metastudio-tts-exporter check --estimate
  metastudio-tts-exporter check --config.file new.yaml --web.config.file web.yaml
"""
HEALTHCHECK_EXAMPLES: Final = """examples:
  metastudio-tts-exporter healthcheck
  metastudio-tts-exporter healthcheck --url https://exporter:10047/-/ready
"""
COPY_EXAMPLES: Final = """examples:
  metastudio-tts-exporter store copy sqlite:///metastudio-tts-exporter.db \\
      'postgresql://exporter@db.example.com/metastudio?sslmode=verify-full' --password-file password
  metastudio-tts-exporter store copy postgresql://exporter@db.example.com/metastudio sqlite:////var/lib/new.db
"""


def add_commands(
    commands: argparse._SubParsersAction[Any], add_config_flag: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Add them all, each with what runs it."""
    for name, summary, add_flags, run in (
        ("classify", "what the rules make of failure messages", _add_classify_flags, _classify),
        ("verify", "compare the past with what was counted", _add_verify_flags, _verify),
        ("backfill", "write past jobs as samples to import", _add_backfill_flags, _backfill),
        ("assets", "write dashboards, rules and samples out of the package", _add_assets_flags, _assets),
    ):
        parser = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name != "assets":
            add_config_flag(parser)
        add_flags(parser)
        parser.set_defaults(run=run)
    store = commands.add_parser(
        "store",
        help="copy the books to another store",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=COPY_EXAMPLES,
    )
    actions = store.add_subparsers(title="commands", metavar="COMMAND", required=True)
    copy = actions.add_parser(
        "copy",
        help="copy all books from one store to another",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_copy_flags(copy)
    copy.set_defaults(run=_copy)


def add_demo_flags(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """examples:
  metastudio-tts-exporter demo
  metastudio-tts-exporter demo --incident stuck_queue --web.listen-address 127.0.0.1:10047
"""
    incident = parser.add_argument(
        "--incident",
        dest="incidents",
        action="append",
        type=_incident,
        metavar="NAME",
        help="from the start on, instead of some in turn; repeatable; any other text lists the names",
    )
    _complete_with(incident, _incident_names)
    parser.set_defaults(incidents=[])


def add_doctor_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Asks the API of each target some thirty questions, with half of its rate_limit (an exporter that"
        " runs with the same store leaves it that half), and says what differs from the documentation, what"
        " to configure, and whether the exporter can count exactly."
        " Changes nothing. Exit code 0: all targets are usable, 1: one is not."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """examples:
  metastudio-tts-exporter doctor                              all targets of exporter.yaml
  metastudio-tts-exporter doctor --target production --watch 5m
  metastudio-tts-exporter doctor --target production --save answers.jsonl
  metastudio-tts-exporter doctor --region cn-north-4 --json   keys from the SDK's usual chain
"""
    target = parser.add_argument(
        "--target", dest="targets", action="append", metavar="NAME", help="only this one, repeatable"
    )
    _complete_with(target, _target_names)
    parser.add_argument("--region", metavar="REGION", help="ask there, without a configuration")
    parser.add_argument("--endpoint", metavar="URL", help="with --region: ask there instead")
    parser.add_argument(
        "--watch",
        type=_watch_time,
        metavar="TIME",
        help="also list the last minutes for so long (5m), and see how records appear, change and vanish",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="also write the answers there, without ids, links, secrets: for a bug report, simulate --from"
        " (those to the questions; not the listings of --watch)",
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="findings as JSON")
    parser.set_defaults(targets=[], region=None, endpoint=None, watch=None, save=None, as_json=False)


def _complete_with(action: argparse.Action, names: Callable[[argparse.Namespace], Collection[str]]) -> None:
    """``names``: what the shell offers as values, by the flags that are there already."""
    action.completer = lambda parsed_args, **_: names(parsed_args)  # type: ignore[attr-defined]  # argcomplete's


def _incident_names(_flags: argparse.Namespace | None = None) -> Collection[str]:
    from exporter.simulator import INCIDENTS

    return INCIDENTS


def _incident(name: str) -> str:
    known = _incident_names()
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is unknown; there are {', '.join(sorted(known))}")
    return name


def _target_names(flags: argparse.Namespace) -> Collection[str]:
    """Those of the configuration; none where it cannot be read."""
    try:
        return [target.name for target in load_config(flags.config_file, environ=os.environ).targets]
    except ExporterError:
        return ()


def _watch_time(text: str) -> float:
    """Seconds."""
    try:
        return _WATCH.parse(text)
    except ValueRefusedError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from 10s to 24h, such as 5m") from None


def _add_classify_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows how many failure messages fall into which class by the configured rules, and proposes rules"
        " for those that no rule knows. A failure is classified once, when it is counted: so do this"
        " before the first start. Messages come from a file or standard input, one a line (plain text, or"
        " records of the API as JSON lines), or with --since from the API."
    )
    parser.epilog = """examples:
  metastudio-tts-exporter classify messages.txt
  metastudio-tts-exporter classify --target production --since 24h
  grep -h job_id records.jsonl | metastudio-tts-exporter classify - --explain
  metastudio-tts-exporter classify messages.txt --compare new-rules.yaml
"""
    parser.add_argument("file", nargs="?", metavar="FILE", help="messages, one a line; -: standard input")
    _add_past_flags(parser, required=False)
    parser.add_argument("--explain", action="store_true", help="show which rule matched where")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="show what would move under the rules of this file"
    )
    parser.add_argument("--top", type=_positive, metavar="N", help="unclassified templates (default: 20)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="the result as JSON")
    parser.set_defaults(file=None, explain=False, compare=None, top=20, as_json=False)


def _add_verify_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists a past stretch again and compares it with what the store says was counted: by state, failure"
        " class, type and service, by the ids of the jobs, and by the characters of their texts. May run"
        " beside the exporter, as the same user: it changes nothing, and takes at most half of rate_limit. A"
        " run that is stopped shows what it has compared, and the --since to go on with. Exit code 0: equal,"
        " or every difference has a cause; 1: something is unexplained, or the API failed."
    )
    parser.epilog = """examples:
  metastudio-tts-exporter verify --since 24h
  metastudio-tts-exporter verify --target production --since 2026-01-30 --until 2026-01-31 --json
"""
    _add_past_flags(parser, required=True)
    parser.add_argument("--json", dest="as_json", action="store_true", help="the result as JSON")
    parser.set_defaults(as_json=False)


def _add_backfill_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes past jobs as samples with timestamps, one a minute by time of creation, up to where live"
        " counting began: created, finished, failures, text length, synthesized characters. Jobs that live"
        " counting has are left out, and every series ends with 0, so that increase() across the seam is"
        " right. A run that was stopped goes on where it was, with the same command and -o."
    )
    parser.epilog = """examples:
  metastudio-tts-exporter backfill --since 30d -o past.om --label instance=exporter:10047
  promtool tsdb create-blocks-from openmetrics past.om /var/lib/prometheus/data

  metastudio-tts-exporter backfill --since 7d -o past.txt --format victoriametrics
  curl -X POST --data-binary @past.txt http://localhost:8428/api/v1/import/prometheus
"""
    _add_past_flags(parser, required=True)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="(default: standard output)")
    parser.add_argument(
        "--format", dest="form", choices=("openmetrics", "victoriametrics"), help="(default: openmetrics)"
    )
    parser.add_argument(
        "--label",
        dest="labels",
        type=_label,
        action="append",
        metavar="NAME=VALUE",
        help="a label that Prometheus adds to the live series, repeatable"
        " (default: job=metastudio-tts and instance=localhost:10047)",
    )
    parser.add_argument(
        "--allow-recent", dest="recent", action="store_true", help="also the last three hours, if asked for"
    )
    parser.set_defaults(output=None, form="openmetrics", labels=[], recent=False)


_OWN_LABELS: Final = ("target", "job_type", "tts_service_enum", "job_state", "fail_msg_class", "le")


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if name in _OWN_LABELS:
        raise argparse.ArgumentTypeError(f"{name} is a label of the series themselves: leave it out")
    if equals and re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) and not name.startswith("__") and value:
        return name, value
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as instance=exporter:10047")


def _add_assets_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes Grafana's dashboards and provisioning, Prometheus' rules and a sample configuration of this"
        " version into a folder. Files that are there already are left alone if they are the same; others are"
        " only replaced with --force."
    )
    parser.epilog = """examples:
  metastudio-tts-exporter assets ./metastudio
  metastudio-tts-exporter assets /etc/metastudio --force
"""
    parser.add_argument("folder", type=Path, metavar="DIR", help="made if it does not exist")
    parser.add_argument("--force", action="store_true", help="replace files that differ")
    parser.set_defaults(force=False)


def _add_copy_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Copies all books of all targets from one store to another that holds none, in one transaction, and"
        " compares every row afterwards. The exporter must be stopped, all its replicas too. The former store"
        " stays as it is. Stores are named as in storage.url; a relative path begins in the current folder."
    )
    parser.epilog = COPY_EXAMPLES
    parser.add_argument(
        "source", metavar="FROM", help="sqlite:///FILE or postgresql://USER@HOST:PORT/DATABASE"
    )
    parser.add_argument("target", metavar="TO", help="the same; a file that does not exist is made")
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="password of the database (default: as of libpq, in PGPASSWORD, PGPASSFILE or ~/.pgpass)",
    )
    parser.set_defaults(password_file=None)


def _add_past_flags(parser: argparse.ArgumentParser, *, required: bool) -> None:
    asking = " The API is asked with half of rate_limit: an exporter that runs leaves it that half."
    parser.description = (parser.description or "") + asking
    target = parser.add_argument("--target", metavar="NAME", help="may be left out where there is only one")
    _complete_with(target, _target_names)
    parser.add_argument(
        "--since",
        metavar="TIME",
        required=required,
        help="jobs created from then on: 24h, 7d (before now), 2026-01-31 or 2026-01-31T08:00:00Z",
    )
    parser.add_argument("--until", metavar="TIME", help="and before then (default: now)")
    parser.set_defaults(target=None, since=None, until=None)


def _positive(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) <= 1_000_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 20")


def _classify(flags: argparse.Namespace) -> int:
    from exporter.commands.classify import ClassifyFlags, classify

    if (flags.file is None) == (flags.since is None):
        raise ExporterError(
            "give either a FILE of messages (- for standard input), or --since 24h to ask the API"
        )
    if flags.since is None and (flags.target is not None or flags.until is not None):
        raise ExporterError("--target and --until go with --since: they ask the API")
    return classify(
        ClassifyFlags(
            config_file=flags.config_file,
            config_given=flags.config_file != DEFAULT_CONFIG,
            file=flags.file,
            target=flags.target,
            since=flags.since,
            until=flags.until,
            explain=flags.explain,
            compare=flags.compare,
            top=flags.top,
            as_json=flags.as_json,
        ),
        environ=os.environ,
        out=sys.stdout,
        err=sys.stderr,
        redactor=flags.redactor,
    )


def _verify(flags: argparse.Namespace) -> int:
    from exporter.commands.verify.command import VerifyFlags, verify_past

    return verify_past(
        VerifyFlags(flags.config_file, flags.target, flags.since, flags.until, flags.as_json),
        environ=os.environ,
        out=sys.stdout,
        err=sys.stderr,
        redactor=flags.redactor,
    )


def _backfill(flags: argparse.Namespace) -> int:
    from exporter.commands.backfill.command import BackfillFlags, backfill

    return backfill(
        BackfillFlags(
            flags.config_file,
            flags.target,
            flags.since,
            flags.until,
            flags.output,
            flags.form,
            tuple({**USUAL_LABELS, **dict(flags.labels)}.items()),
            flags.recent,
        ),
        environ=os.environ,
        out=sys.stdout,
        err=sys.stderr,
        redactor=flags.redactor,
    )


def _assets(flags: argparse.Namespace) -> int:
    from exporter.commands.assets import write_assets

    return write_assets(flags.folder, force=flags.force, out=sys.stdout)


def _copy(flags: argparse.Namespace) -> int:
    from exporter.commands.store import CopyFlags, copy_store

    return copy_store(
        CopyFlags(flags.source, flags.target, flags.password_file),
        out=sys.stdout,
        err=sys.stderr,
        redactor=flags.redactor,
    )
