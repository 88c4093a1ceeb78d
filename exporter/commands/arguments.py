"""Flags of the commands that look at the past: they import nothing, as every start reads them."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_classify_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows how many failure messages fall into which class by the configured rules, and proposes rules"
        " for those that no rule knows. A failure is classified once, when it is counted: so do this"
        " before the first start. Messages come from a file or standard input, one a line (plain text, or"
        " records of the API as JSON lines), or with --since from the API."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
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


def add_verify_flags(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists a past stretch again and compares it with what the store says was counted: by state, failure"
        " class, type and service, and by the ids of the jobs. May run beside the exporter, as the same user:"
        " it changes nothing, and takes at most half of rate_limit. Exit code 0: equal, or every difference"
        " has a cause; 1: something is unexplained."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = """examples:
  metastudio-tts-exporter verify --since 24h
  metastudio-tts-exporter verify --target production --since 2026-01-30 --until 2026-01-31 --json
"""
    _add_past_flags(parser, required=True)
    parser.add_argument("--json", dest="as_json", action="store_true", help="the result as JSON")
    parser.set_defaults(as_json=False)


def _add_past_flags(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--target", metavar="NAME", help="may be left out where there is only one")
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
