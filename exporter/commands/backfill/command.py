"""The command: which stretch, where it is kept meanwhile and written to, and what to do with the result."""

from __future__ import annotations

import asyncio
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TextIO

import msgspec

from exporter import log
from exporter.commands import console
from exporter.commands.backfill.increments import Increments
from exporter.commands.backfill.left_out import counted_live
from exporter.commands.backfill.output import OutputFormat, step_of, write_samples
from exporter.commands.backfill.spool import Spool
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
from exporter.commands.verify.cells import cell_of
from exporter.config import Config, TargetConfig
from exporter.errors import ExporterError, NoStoreError, NothingCountedError
from exporter.ledger import LabelSets, Record, documented_label_sets
from exporter.process import INTERRUPTED
from exporter.runtime import classifier, ledger_scope, open_past
from exporter.store import StoredPast
from exporter.units import MINUTE, SECOND

RECENT: Final = 3 * 60 * MINUTE
"""What is younger may still change, and Prometheus keeps it in memory: blocks must not reach into that."""


class BackfillFlags(NamedTuple):
    """Those of ``backfill``."""

    config_file: Path
    target: str | None
    since: str
    until: str | None
    output: Path | None
    form: OutputFormat = "openmetrics"
    labels: tuple[tuple[str, str], ...] = ()
    recent: bool = False
    """Allow the last three hours."""


def backfill(
    flags: BackfillFlags, *, environ: Mapping[str, str], out: TextIO, err: TextIO, redactor: log.Redactor
) -> int:
    """0 when all is written, 1 when the API failed midway, 130 after Ctrl-C. Raises ExporterError."""
    log.configure("error", "logfmt", err, redactor=redactor)
    config, target = config_and_target(flags.config_file, flags.target, environ)
    now = int(time.time() * SECOND)
    stored, nothing_counted = _stored(config, target, redactor)
    past = stretch(flags, now, stored)
    with spool_folder(flags.output) as folder:
        spool = Spool(folder, _purpose(flags, config, target), past)
        past = Past(*spool.progress.past)
        reader = BackfillReader(config, target, stored, spool, past)

        async def read() -> bool:
            rest = Past(spool.progress.reached, past.until)
            async with past_jobs(config, target, environ, redactor, err) as jobs:
                with console.bar(err, past.until - past.since, f"{target.name}: reading") as advance:
                    advance(rest.since - past.since)
                    try:
                        async for made in reader.run(jobs, rest):
                            advance(made)
                    except (asyncio.CancelledError, IncompleteError):
                        # Here what was added ends with a minute. A second Ctrl-C may come anywhere.
                        spool.save()
                        raise
            return True

        interrupted = False
        try:
            if spool.progress.reached < past.until:
                interrupted = console.run(read()) is None
            if not interrupted:
                spool.save()
                _write(spool, past, target, flags, out, err)
        except KeyboardInterrupt:
            interrupted = True
        except ExporterError as error:
            if spool.saved_until == past.since:
                spool.remove()
            resume = _resume(spool, flags, said=isinstance(error, IncompleteError))
            raise ExporterError(f"{error}\n{resume}") from error
        if interrupted:
            print(_resume(spool, flags), file=err)
            return INTERRUPTED
        spool.remove()
    print(_what_next(spool, past, target, flags, nothing_counted), file=err)
    if recent := too_recent(past, flags, now, baseline_of(stored)):
        print(recent, file=err)
    return 0


def baseline_of(stored: StoredPast | None) -> int | None:
    """When live counting began; ``None`` where it has not."""
    return None if stored is None or stored.ledger.watermarks is None else stored.ledger.watermarks.baseline


def too_recent(past: Past, flags: BackfillFlags, now: int, baseline: int | None) -> str:
    """What lies between the end and live counting, because it is too recent; empty where nothing does."""
    end = now // SECOND * SECOND if baseline is None else baseline
    if flags.until is not None or past.until >= end:
        return ""
    later = -(-(end + RECENT) // MINUTE) * MINUTE
    return (
        f"not in it: {Past(past.until, end)}, within the last three hours: write that to another file, after"
        f" {spell_time(later)} with --since {spell_time(past.until)}, or now with --allow-recent"
    )


def stretch(flags: BackfillFlags, now: int, stored: StoredPast | None) -> Past:
    """Up to where live counting begins. Raises ExporterError for what cannot be backfilled."""
    recent, baseline = (now - RECENT) // MINUTE * MINUTE, baseline_of(stored)
    if flags.until is not None:
        past = read_past(flags.since, flags.until, now)
    else:
        until = now // SECOND * SECOND if flags.recent else recent
        until = until if baseline is None else min(until, baseline)
        since = read_past(flags.since, None, now).since
        if since >= until:
            raise ExporterError(
                f"--since ({spell_time(since)}) must be before {spell_time(until)}, where this would end:"
                f" {'live counting began then' if until == baseline else 'the last three hours are left out'}"
            )
        past = Past(since, until)
    if baseline is not None and past.until > baseline:
        raise ExporterError(
            f"live counting began at {spell_time(baseline)}: what came later is counted already;"
            " leave out --until, or give one that is not later"
        )
    if past.until > recent and not flags.recent:
        raise ExporterError(
            f"--until ({spell_time(past.until)}) is within the last three hours: jobs may still change, and"
            " Prometheus keeps that time in memory, where blocks must not reach; try again later, or give"
            " --allow-recent"
        )
    since = past.since // MINUTE * MINUTE
    return Past(since, past.until)


def _stored(config: Config, target: TargetConfig, redactor: log.Redactor) -> tuple[StoredPast | None, str]:
    """What is counted already, or why nothing is. Raises StoreError."""
    try:
        return open_past(config.storage, target, redactor), ""
    except NoStoreError:
        return None, "there is no store here"
    except NothingCountedError:
        return None, "the store has nothing of this target"


class BackfillReader:
    """Reads past jobs into a spool, without those that live counting has."""

    def __init__(
        self, config: Config, target: TargetConfig, stored: StoredPast | None, spool: Spool, past: Past
    ) -> None:
        filters = target.filters
        documented = documented_label_sets(filters.job_type, filters.tts_service_enum)
        seen = () if stored is None else stored.ledger.label_sets
        self._fit = LabelSets(documented, seen, config.metrics.max_label_sets).fit
        self._classify = classifier(config).classify
        self._increments = Increments(config.metrics.text_length_buckets, self._classify, self._fit)
        self._stored, self._spool, self._past = stored, spool, past
        self._baseline = baseline_of(stored)

    async def run(self, jobs: PastJobs, past: Past) -> AsyncIterator[float]:
        """Yields the milliseconds read."""
        waiting: list[Record] = []
        begin = past.since
        # The minute of the baseline is compared as a whole: jobs of after it are in the same counts.
        last = -(-past.until // MINUTE) * MINUTE
        async for piece in jobs.pieces(Past(past.since, last)):
            waiting += piece.records
            end = piece.window.until if piece.window.until == last else piece.window.until // MINUTE * MINUTE
            if end > begin:
                here = [record for record in waiting if (record.create_time or 0) < end]
                waiting = [record for record in waiting if (record.create_time or 0) >= end]
                self._take(Past(begin, end), here)
                begin = end
                self._spool.reached(min(end, past.until))
            yield piece.window.until - piece.window.since

    def _take(self, past: Past, records: list[Record]) -> None:
        live: set[int] = set()
        if self._stored is not None and self._baseline is not None:
            counted = self._stored.read(*past)
            cells = [(cell_of(record, self._fit, self._classify), record) for record in records]
            live = counted_live(cells, self._baseline, counted)
        progress = self._spool.progress
        for place, record in enumerate(records):
            created = record.create_time or 0
            if created >= self._past.until:
                continue
            if place in live:
                progress.left_out += 1
                continue
            progress.jobs += 1
            step = min(step_of(created, self._past.since), self._last_step)
            for key, amount in self._increments.of(record):
                self._spool.add(key, step, amount)

    @property
    def _last_step(self) -> int:
        return -(-(self._past.until - self._past.since) // MINUTE)


def _write(
    spool: Spool, past: Past, target: TargetConfig, flags: BackfillFlags, out: TextIO, err: TextIO
) -> None:
    labels = {**dict(flags.labels), "target": target.name}
    with ExitStack() as opened:
        advance = opened.enter_context(console.bar(err, max(1, len(spool.series())), "writing"))
        whole = None if flags.output is None else opened.enter_context(console.whole_file(flags.output))
        file: BinaryIO = whole or out.buffer
        write_samples(spool, *past, labels, flags.form, file.write, advance)
        file.flush()


@contextmanager
def spool_folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        console.check_folder(output)
    if output is not None and _can_go_on(output):
        yield output.with_name(f".{output.name}.backfill")
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="metastudio-tts-backfill-")
    except OSError as error:
        raise ExporterError(f"backfill needs a temporary folder: set TMPDIR ({error})") from error
    with folder as name:
        yield Path(name) / "spool"


def _can_go_on(output: Path | None) -> bool:
    """Beside a file, what was read is kept for the next run; not beside a device."""
    return output is not None and not console.is_stream(output)


def _purpose(flags: BackfillFlags, config: Config, target: TargetConfig) -> str:
    """What the spool depends on: a run for something else begins anew."""
    rules = [(rule.class_name, rule.match) for rule in config.fail_msg_classes]
    settings = (
        flags.since,
        flags.until,
        target.name,
        target.endpoint,
        ledger_scope(target),
        config.metrics.text_length_buckets,
        rules,
        config.builtin_fail_msg_classes,
    )
    return msgspec.json.encode(settings).decode()


def _resume(spool: Spool, flags: BackfillFlags, *, said: bool = False) -> str:
    """How to go on; ``said``: how far it came is said already."""
    if _can_go_on(flags.output):
        how = "the same command goes on from there"
    else:
        how = "with -o FILE, the next run could go on from there"
    return how if said else f"read up to {spell_time(spool.saved_until)}: {how}"


def _what_next(
    spool: Spool, past: Past, target: TargetConfig, flags: BackfillFlags, nothing_counted: str
) -> str:
    """``nothing_counted``: why; empty where live counting has begun."""
    progress = spool.progress
    name = "FILE" if flags.output is None else shlex.quote(str(flags.output))
    them = "it" if progress.left_out == 1 else "them"
    left_out = f"{progress.left_out} left out because live counting has {them}"
    if nothing_counted:
        left_out = f"none left out: {nothing_counted}, so counting has not begun"
    jobs = counted_noun(progress.jobs, "job")
    lines = [f"{target.name}: {past}: {jobs} in {len(spool.series())} series, {left_out}"]
    if not spool.series():
        return lines[0]
    labels = ", ".join(f'{label}="{value}"' for label, value in flags.labels)
    lines.append(f"the series have the labels {labels}: they must be those of the live ones (--label)")
    if flags.form == "openmetrics":
        lines.append(f"promtool tsdb create-blocks-from openmetrics {name} /path/to/prometheus/data")
    else:
        lines.append(f"curl -X POST --data-binary @{name} http://localhost:8428/api/v1/import/prometheus")
    return "\n".join(lines)
