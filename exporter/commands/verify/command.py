"""The command: which stretch can be compared, what is read for it, what is printed, and the exit code."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter import log
from exporter.commands import console
from exporter.commands.console import counted_noun
from exporter.commands.past import (
    IncompleteError,
    Past,
    PastJobs,
    config_and_target,
    past_jobs,
    read_past,
    spell_time,
)
from exporter.commands.verify.cells import EXPIRED, MinuteCell, cell_of, cells_of
from exporter.commands.verify.compare import Cause, Difference, MinuteComparison, group
from exporter.config import Config, TargetConfig
from exporter.errors import ExporterError
from exporter.ledger import (
    OTHER,
    Anomaly,
    LabelSet,
    Record,
    StoredLedger,
    documented_label_sets,
    totals,
)
from exporter.process import INTERRUPTED
from exporter.runtime import classifier, open_past
from exporter.store import CountedPast, StoredPast
from exporter.units import MINUTE, SECOND, milliseconds

_SHOWN: Final = 40
"""Differences in the table; JSON has all."""
_NAMES: Final = 3
"""Ids in a row of the table."""
_READ_AGAIN: Final = 500
"""Minutes that are read once more before their differences are believed."""
_MAY_PASS: Final = frozenset(Cause) - {Cause.RULES_CHANGED, Cause.LABEL_CHANGED}
"""Causes that a job may look like while it changes between two reads."""
_SAYS: Final = {
    Cause.RULES_CHANGED: "counted by other rules for fail_msg, or its message changed",
    Cause.EXPIRED_THEN_FINISHED: "given up as expired, finished later: expired is final (R1)",
    Cause.LATE_RECORD: "listed later than poll.overlap after its creation: raise poll.overlap",
    Cause.DELETED: "counted, and not listed any more",
    Cause.LABEL_CHANGED: "counted under the labels it was shown with when it ended (R1)",
    Cause.STATE_REGRESSION: "counted by its first final state, which the API took back (R1)",
    Cause.LATE_TEXT_LENGTH: "its text_length was not listed before it ended: characters lack it (R1)",
    Cause.UNEXPLAINED: "please report it, with the output of doctor --save",
}


class VerifyFlags(NamedTuple):
    """Those of ``verify``."""

    config_file: Path
    target: str | None
    since: str
    until: str | None
    as_json: bool = False


class Verification(NamedTuple):
    """What was compared, and what differs."""

    target: str
    compared: Past
    left_out: tuple[str, ...]
    """Parts of the stretch that cannot be compared, and why."""
    listed: int
    counted: int
    still_open: int
    """Jobs that are listed and open in the store: they are counted when they end."""
    requests: int
    differences: tuple[Difference, ...]
    stopped: str = ""
    """Why the rest of the stretch was not compared."""


def verify_past(
    flags: VerifyFlags, *, environ: Mapping[str, str], out: TextIO, err: TextIO, redactor: log.Redactor
) -> int:
    """0 equal or explained, 1 otherwise, 130 after Ctrl-C. Raises ExporterError."""
    log.configure("error", "logfmt", err, redactor=redactor)
    config, target = config_and_target(flags.config_file, flags.target, environ)
    now = int(time.time() * SECOND)
    past = read_past(flags.since, flags.until, now)
    stored = open_past(config.storage, target, redactor)
    compared, left_out = comparable(
        past,
        stored.ledger,
        milliseconds(config.storage.retention),
        now=now,
        overlap=milliseconds(config.poll.overlap),
    )
    verifier = Verifier(config, target, stored, compared)

    async def compare() -> bool:
        async with past_jobs(config, target, environ, redactor, err) as jobs:
            with console.bar(err, compared.until - compared.since, target.name) as advance:
                await verifier.run(jobs, advance)
        return True

    code, stopped = 0, ""
    try:
        if console.run(compare()) is None:
            code, stopped = INTERRUPTED, f"stopped at {spell_time(verifier.reached)}"
    except IncompleteError as error:
        code, stopped = 1, str(error)
    result = Verification(
        target.name,
        Past(compared.since, verifier.reached),
        tuple(left_out),
        verifier.listed,
        verifier.counted,
        verifier.still_open,
        verifier.requests,
        tuple(verifier.differences),
        stopped,
    )
    if flags.as_json:
        console.print_json(_as_json(result), out)
    elif verifier.reached > compared.since:
        print_result(result, console.new_console(out))
    if stopped:
        go_on = f"go on with --since {spell_time(verifier.reached)}"
        print(f"metastudio-tts-exporter: {stopped}; {go_on}", file=err)
    return code or int(any(one.cause is Cause.UNEXPLAINED for one in result.differences))


def comparable(
    past: Past, ledger: StoredLedger, retention: int, *, now: int, overlap: int
) -> tuple[Past, list[str]]:
    """The whole minutes that can be compared, and what is left out. Raises ExporterError if none can."""
    watermarks = ledger.watermarks
    assert watermarks is not None  # noqa: S101 - open_past refuses a store without
    settled = watermarks.settled_until
    bounds = (
        (_ceil(watermarks.baseline), "counting began then"),
        (_ceil(settled - retention + MINUTE), "counts by minute are kept for storage.retention"),
    )
    since, until = _ceil(past.since), min(past.until, settled) // MINUTE * MINUTE
    left_out = []
    for bound, why in bounds:
        if since < bound:
            since = bound
            left_out.append(f"before {spell_time(bound)}: {why}")
    if until < past.until - MINUTE:
        left_out.append(
            f"from {spell_time(until)} on: not settled yet: {_wait_for(past.until, now, overlap)}"
        )
    if since >= until:
        why = "; ".join(left_out) or "less than a minute"
        raise ExporterError(f"nothing of {past} can be compared: {why}")
    return Past(since, until), left_out


def _wait_for(until: int, now: int, overlap: int) -> str:
    """Why it is not settled, and until when: it is read at least once per ``overlap`` (R5)."""
    due = until + 2 * overlap
    why = f"all is listed once more when it is poll.overlap ({overlap // SECOND} s) old"
    if due > now:
        return f"{why}; the rest can be compared from {spell_time(due)} on"
    return f"{why}, which was due by {spell_time(due)}: is the exporter running, and are its polls complete?"


def _ceil(ms: int) -> int:
    return -(-ms // MINUTE) * MINUTE


class Verifier:
    """Compares a stretch minute by minute as it is listed."""

    def __init__(self, config: Config, target: TargetConfig, stored: StoredPast, past: Past) -> None:
        """``past``: whole minutes."""
        self._stored = stored
        self._past = past
        self.reached = past.since
        """Every minute before is compared."""
        self.requests = 0
        ledger, filters = stored.ledger, target.filters
        self._classify = classifier(config).classify
        self._known = {
            *documented_label_sets(filters.job_type, filters.tts_service_enum),
            *ledger.label_sets,
        }
        self._anomalies = {
            anomaly: bool(ledger.totals.get((totals.ANOMALIES, "", "", anomaly))) for anomaly in Anomaly
        }
        self._given_up = any(jobs and key[0] == totals.EXPIRATIONS for key, jobs in ledger.totals.items())
        self._again = _READ_AGAIN
        self.listed = self.counted = self.still_open = 0
        self.differences: list[Difference] = []

    async def run(self, jobs: PastJobs, advance: Callable[[float], None]) -> None:
        """Raises IncompleteError, StoreError. What was compared until then counts."""
        waiting: list[Record] = []
        try:
            async for piece in jobs.pieces(self._past):
                waiting += piece.records
                end = piece.window.until // MINUTE * MINUTE
                if end > self.reached:
                    now = [record for record in waiting if (record.create_time or 0) < end]
                    waiting = [record for record in waiting if (record.create_time or 0) >= end]
                    await self._compare(jobs, Past(self.reached, end), now)
                advance(piece.window.until - piece.window.since)
        finally:
            self.requests = jobs.requests

    async def _compare(self, jobs: PastJobs, past: Past, records: list[Record]) -> None:
        listed = _by_minute(records)
        counted = self._stored.read(*past)
        for number in sorted({*listed, *counted.minutes}):
            here = listed.get(number, [])
            minute = self._minute(number, here, counted)
            if self._again and any(one.cause in _MAY_PASS for one in minute.differences):
                self._again -= 1
                here, counted_again, minute = await self._read_again(jobs, number)
            else:
                counted_again = counted
            self.listed += len(here)
            cells = cells_of(counted_again.minutes.get(number, {}))
            self.counted += sum(count.jobs for count in cells.values())
            self.still_open += sum(record.job_id in counted_again.open_jobs for record in here)
            self.differences += minute.differences
            self.reached = (number + 1) * MINUTE
        self.reached = past.until

    async def _read_again(
        self, jobs: PastJobs, number: int
    ) -> tuple[list[Record], CountedPast, MinuteComparison]:
        """A minute, such that the store did not change while it was listed."""
        past = Past(number * MINUTE, (number + 1) * MINUTE)
        for _ in range(3):
            before = self._stored.read(*past)
            records = [record async for piece in jobs.pieces(past, probe=False) for record in piece.records]
            counted = self._stored.read(*past)
            minute = self._minute(number, records, counted)
            if before == counted or not minute.differences:
                break
        return records, counted, minute

    def _minute(self, number: int, records: Iterable[Record], counted: CountedPast) -> MinuteComparison:
        ended = (record for record in records if record.job_id not in counted.open_jobs)
        listed = group((cell_of(record, self._fit, self._classify), record) for record in ended)
        cells = cells_of(counted.minutes.get(number, {}))
        return MinuteComparison(
            number,
            cells,
            listed,
            late_records=self._anomalies[Anomaly.LATE_RECORD],
            regressions=self._anomalies[Anomaly.STATE_REGRESSION],
            given_up=self._given_up,
            label_changes=self._anomalies[Anomaly.LABEL_CHANGED],
            late_lengths=self._anomalies[Anomaly.MISSING_TEXT_LENGTH],
        )

    def _fit(self, label_set: LabelSet) -> LabelSet:
        return label_set if label_set in self._known else (OTHER, OTHER)


def _by_minute(records: Iterable[Record]) -> dict[int, list[Record]]:
    minutes: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        minutes[(record.create_time or 0) // MINUTE].append(record)
    return minutes


def print_result(result: Verification, to: Console) -> None:
    """For people."""
    for text in result.left_out:
        to.print(Text(f"not compared: {text}"), soft_wrap=True)
    to.print(
        Text(
            f"{result.target}: {result.compared}: {counted_noun(result.listed, 'job')} listed,"
            f" {result.counted} counted as ended, {result.still_open} still open;"
            f" {counted_noun(result.requests, 'request')}"
        ),
        soft_wrap=True,
    )
    if not result.differences:
        to.print("equal: by state, class, type and service, by the ids of the jobs, and by characters")
        return
    causes: Counter[Cause] = Counter()
    for one in result.differences:
        causes[one.cause] += one.jobs
    summary = _table("what differs")
    summary.add_column("cause", no_wrap=True)
    summary.add_column("jobs", justify="right", no_wrap=True)
    summary.add_column("meaning")
    for cause, number in causes.most_common():
        summary.add_row(str(cause), str(number), _SAYS[cause])
    console.print_table(summary, to)
    to.print()
    table = _table()
    table.add_column("cause\ncreated", no_wrap=True)
    table.add_column("jobs", justify="right", no_wrap=True)
    table.add_column("counted as\n→ listed as")
    table.add_column("job ids", no_wrap=True)
    # What needs a person comes first.
    ordered = sorted(result.differences, key=lambda one: (one.cause is not Cause.UNEXPLAINED, one.minute))
    for one in ordered[:_SHOWN]:
        style = "bold red" if one.cause is Cause.UNEXPLAINED else "bold"
        table.add_row(
            Text.assemble((one.cause, style), f"\n{spell_time(one.minute * MINUTE)[:16]}Z"),
            str(one.jobs),
            Text(f"{_spell_cells(one)}\n{one.note}".rstrip()),
            Text("\n".join(_names(one))),
        )
    console.print_table(table, to)
    if len(ordered) > _SHOWN:
        to.print(f"and {len(ordered) - _SHOWN} more: --json has all of them")


def _table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _as_listed(cell: MinuteCell | None) -> MinuteCell | None:
    """A list has no expired jobs: what the store has given up is open there."""
    return cell._replace(state="open") if cell is not None and cell.state == EXPIRED else cell


def _spell_cells(one: Difference) -> str:
    return f"{one.counted or 'not counted'}\n→ {_as_listed(one.listed) or 'not listed'}"


def _names(one: Difference) -> Iterator[str]:
    """A line for each, to be copied."""
    names = one.job_ids or one.among
    if names and not one.job_ids:
        yield f"{one.jobs} of these:"
    yield from names[:_NAMES]
    if len(names) > _NAMES:
        yield f"and {len(names) - _NAMES} more"


def _as_json(result: Verification) -> dict[str, object]:
    return {
        "target": result.target,
        "since": spell_time(result.compared.since),
        "until": spell_time(result.compared.until),
        "complete": not result.stopped,
        "error": result.stopped or None,
        "go_on_since": spell_time(result.compared.until) if result.stopped else None,
        "not_compared": result.left_out,
        "listed": result.listed,
        "counted": result.counted,
        "open": result.still_open,
        "requests": result.requests,
        "differences": [
            {
                "created": spell_time(one.minute * MINUTE),
                "cause": one.cause,
                "counted": one.counted and one.counted._asdict(),
                "listed": (listed := _as_listed(one.listed)) and listed._asdict(),
                "jobs": one.jobs,
                "job_ids": one.job_ids,
                "among": one.among,
                "note": one.note,
            }
            for one in result.differences
        ],
    }
