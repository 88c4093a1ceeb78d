"""``--watch``: lists the last minutes again and again, and sees how records appear, change and vanish.

Reads as the exporter does, by its own reader, with the lines that doctor proposed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from exporter.cloud import Client
from exporter.commands.doctor.findings import Finding, differs, not_known, ok
from exporter.config import Config, TargetConfig, spelled
from exporter.errors import ExporterError
from exporter.ledger import FINAL_STATES, Record
from exporter.polling import Reader, Window
from exporter.runtime import new_reader
from exporter.units import MINUTE, SECOND

_LOOK_BACK: Final = 10 * MINUTE
"""Jobs created so long before the start are watched, too."""
_PAUSE: Final = 5.0
"""Seconds between two listings, at least."""
_ROUNDED: Final = SECOND
"""A time may be shown later than it was by so much."""
_PATIENCE: Final = 120.0
_ENOUGH: Final = 300.0
"""Seconds to watch before no late record means anything."""
_SETTINGS: Final = ("project_id", "time_format", "time_zone", "trust_count")


class Watched(msgspec.Struct):
    """What was seen."""

    listings: int = 0
    jobs: int = 0
    late: int = 0
    longest_delay: int | None = None
    """Milliseconds from the creation of a late record to its listing, at most; or none was late."""
    vanished: int = 0
    relabelled: int = 0
    went_back: int = 0
    """From a final state to another one."""
    failed: str = ""
    """Why the last listing was not complete."""


class Watcher:
    """Compares each listing with the one before."""

    def __init__(self) -> None:
        self.watched = Watched()
        self._before: dict[str, Record] = {}
        self._asked_before: int | None = None
        """When the listing before was asked for, on the API's clock."""
        self._gone: set[str] = set()
        self._relabelled: set[str] = set()
        self._went_back: set[str] = set()

    def compare(self, records: Iterable[Record], asked: int, answered: int, since: int) -> None:
        """One more complete listing of what was created from ``since`` on. Times are the API's."""
        listed = {record.job_id: record for record in records if record.job_id is not None}
        watched = self.watched
        watched.listings += 1
        watched.jobs += len([job_id for job_id in listed if job_id not in self._before])
        for job_id, record in listed.items():
            known = self._before.get(job_id)
            if known is not None:
                self._changed(job_id, known, record)
                continue
            created = record.create_time or asked
            if self._asked_before is not None and created < self._asked_before - _ROUNDED:
                watched.late += 1
                watched.longest_delay = max(watched.longest_delay or 0, answered - created)
        for job_id, known in self._before.items():
            if job_id not in listed and (known.create_time or 0) > since + _ROUNDED:
                self._gone.add(job_id)
        watched.vanished = len(self._gone)
        self._before = {**self._before, **listed}
        for job_id in self._gone:
            self._before.pop(job_id, None)
        self._asked_before = asked

    def _changed(self, job_id: str, known: Record, now: Record) -> None:
        if (known.job_type, known.tts_service_enum) != (now.job_type, now.tts_service_enum):
            self._relabelled.add(job_id)
        if known.job_state in FINAL_STATES and now.job_state != known.job_state:
            self._went_back.add(job_id)
        self.watched.relabelled = len(self._relabelled)
        self.watched.went_back = len(self._went_back)


def with_proposed(target: TargetConfig, lines: Iterable[str]) -> TargetConfig:
    """The target with those of our own lines that change how it is asked."""
    proposed = {key: text.strip('"') for key, _, text in (line.partition(": ") for line in lines)}
    changes: dict[str, str | bool] = {key: proposed[key] for key in _SETTINGS if key in proposed}
    if "time_filters" in proposed:
        changes["time_filters"] = proposed["time_filters"] == "true"
    return msgspec.structs.replace(target, **changes)


async def watch(
    client: Client,
    target: TargetConfig,
    seconds: float,
    *,
    watcher: Watcher | None = None,
    step: Callable[[str], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Watched:
    """List again and again for so long. An error ends it, and is in the result.

    ``watcher`` has what was seen so far at any time.
    """
    reader = new_reader(client, target)
    watcher = watcher or Watcher()
    try:
        for _ in range(2):  # the API's clock is known after two answers
            await reader.probe(monotonic() + _PATIENCE, time_filters=target.time_filters)
        since = (client.clock.now_ms() or 0) - _LOOK_BACK
        end = monotonic() + seconds
        while monotonic() < end:
            listing_since = monotonic()
            asked = client.clock.now_ms() or 0
            until = (client.clock.latest_ms() or asked) + 2 * SECOND
            window, deadline = Window(since, until), monotonic() + _PATIENCE
            if target.time_filters:
                records = await _listing(reader, window, deadline)
            else:
                records = await _whole_list(reader, window, deadline)
            watcher.compare(records, asked, client.clock.latest_ms() or asked, since)
            step(f"{watcher.watched.jobs} jobs")
            await sleep(max(0.0, _PAUSE - (monotonic() - listing_since)))
    except ExporterError as error:
        watcher.watched.failed = str(error)
    return watcher.watched


async def _listing(reader: Reader, window: Window, deadline: float) -> list[Record]:
    """Everything in the window, in parts where it is too much for one. Raises ExporterError."""
    result = await reader.read(window, deadline)
    if result.error is not None:
        raise result.error
    if result.complete:
        return result.inside
    middle = (window.since + window.until) // 2 // SECOND * SECOND
    if middle <= window.since:
        raise ExporterError(f"a second of the list cannot be read completely: {result.reason}")
    halves = Window(window.since, middle), Window(middle, window.until)
    return [record for half in halves for record in await _listing(reader, half, deadline)]


async def _whole_list(reader: Reader, window: Window, deadline: float) -> list[Record]:
    """What is in the window, of an API without time filters. Raises ExporterError."""
    result = await reader.read_everything(window.until, deadline)
    if result.error is not None or not result.complete:
        raise result.error or ExporterError(f"the list cannot be read completely: {result.reason}")
    return [record for record in result.inside if (record.create_time or 0) >= window.since]


def findings_of(watched: Watched, config: Config, seconds: float) -> tuple[Finding, ...]:
    """What was seen, judged."""
    if not watched.jobs:
        why = watched.failed or "no job was listed"
        return (not_known("late records", why),)
    seen = f"{watched.jobs} jobs in {watched.listings} listings over {spelled(seconds)}"
    return (
        _late(watched, config, seen, seconds),
        _changes("vanished records", watched.vanished, seen, "they stay counted once they were seen"),
        _changes("changed labels", watched.relabelled, seen, "the first label counts"),
        _changes("final states", watched.went_back, seen, "the first final state counts", "changed"),
    )


def _late(watched: Watched, config: Config, seen: str, seconds: float) -> Finding:
    overlap = config.poll.overlap
    delay = round((watched.longest_delay or 0) / SECOND)
    short = seconds < _ENOUGH or bool(watched.failed)
    if short and 2 * delay <= overlap:
        why = watched.failed or f"watch for {spelled(_ENOUGH)} or longer to judge poll.overlap"
        return not_known("late records", f"{watched.late or 'none'} of {seen}, too short: {why}")
    if watched.longest_delay is None:
        return ok("late records", f"none of {seen}: poll.overlap ({spelled(overlap)}) is enough")
    longest = watched.longest_delay / SECOND
    needed = -(-2 * longest // 60) * 60  # twice what was seen: it was not the longest ever
    text = f"{watched.late} of {seen}, up to {longest:.0f} s after their creation"
    if needed <= overlap:
        return ok("late records", f"{text}: poll.overlap ({spelled(overlap)}) is enough")
    finding = differs("late records", f"{text}: poll.overlap is {spelled(overlap)}, propose twice the latest")
    return msgspec.structs.replace(finding, poll=(f"overlap: {spelled(needed)}",))


def _changes(name: str, number: int, seen: str, then: str, what: str = "") -> Finding:
    if not number:
        return ok(name, f"none of {seen}")
    return differs(name, f"{number}{f' {what}' if what else ''} of {seen}: {then}, nothing to configure")
