"""Which past a command means (``--since``, ``--until``), and the jobs that the API lists of it now.

Knows flags, and how a long window is read piece by piece beside a running exporter; must not know what the
jobs are read for.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from exporter import log
from exporter.cloud import SharedLimits, build_client, network_of, parse_time
from exporter.commands.half_rate import HalfRate
from exporter.config import Config, TargetConfig, ValueRefusedError, duration, inline_secrets, load_config
from exporter.errors import ApiError, ExporterError
from exporter.exposition import ApiMetrics
from exporter.ledger import Record, floor_second
from exporter.polling import MANY, JobSource, Window
from exporter.runtime import new_reader
from exporter.units import MINUTE, SECOND, milliseconds

_PATIENCE: Final = 600.0
"""Seconds that one window may take, with the client's retries and the pauses of an API that throttles."""
_FIRST_WINDOW: Final = 10 * MINUTE
_LARGEST_WINDOW: Final = 7 * 1440 * MINUTE
_GROWTH: Final = 4
_AHEAD: Final = 366 * 1440 * MINUTE
_DURATION: Final = duration("1s", 3660 * 86_400.0)


class Past(NamedTuple):
    """A stretch of creation time: [since, until), whole seconds, milliseconds since 1970 UTC."""

    since: int
    until: int

    def __str__(self) -> str:
        return f"{spell_time(self.since)} to {spell_time(self.until)}"


def spell_time(ms: int) -> str:
    return datetime.fromtimestamp(ms // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_past(since: str, until: str | None, now: int) -> Past:
    """The stretch that the flags mean. Raises ExporterError for one that is reversed or in the future."""
    past = Past(_moment("--since", since, now), now if until is None else _moment("--until", until, now))
    for flag, moment in (("--since", past.since), ("--until", past.until)):
        if moment > now:
            raise ExporterError(f"{flag} {spell_time(moment)} is in the future: now is {spell_time(now)}")
    past = Past(floor_second(past.since), floor_second(past.until))
    if past.since >= past.until:
        raise ExporterError(
            f"--since ({spell_time(past.since)}) must be before --until ({spell_time(past.until)})"
        )
    return past


def _moment(flag: str, text: str, now: int) -> int:
    try:
        return now - milliseconds(_DURATION.parse(text))
    except ValueRefusedError:
        at, _ = parse_time(f"{text}T00:00:00Z" if len(text) == 10 and "-" in text else text, UTC)
    if at is None:
        raise ExporterError(
            f"{flag} {text!r} is no time: give a duration before now such as 24h or 7d,"
            " or a time such as 2026-01-31 or 2026-01-31T08:00:00Z"
        )
    return at


def config_and_target(
    path: Path, name: str | None, environ: Mapping[str, str]
) -> tuple[Config, TargetConfig]:
    """The configuration, and the target that is meant: the only one, or that with the name."""
    config = load_config(path, environ=environ)
    known = {target.name: target for target in config.targets}
    if name is None and len(known) > 1:
        raise ExporterError(f"there are several targets: give --target with one of {', '.join(known)}")
    if name is not None and name not in known:
        raise ExporterError(f"{path}: no target is named {name!r}; there are {', '.join(known)}")
    return config, config.targets[0] if name is None else known[name]


class Piece(NamedTuple):
    """One window that was read completely."""

    window: Window
    records: tuple[Record, ...]
    """Created in it, each once; without those whose time cannot be read."""


class IncompleteError(ExporterError):
    """The list could not be read to the end of the stretch."""

    def __init__(self, reached: int, reason: str) -> None:
        super().__init__(f"read up to {spell_time(reached)}, then: {reason}")
        self.reached = reached


class PastJobs:
    """Reads past jobs of one target."""

    def __init__(self, source: JobSource, target: TargetConfig) -> None:
        self._time_filters = target.time_filters
        self._reader = new_reader(source, target)

    @property
    def requests(self) -> int:
        """List requests made."""
        return self._reader.requests

    async def pieces(self, past: Past, *, probe: bool = True) -> AsyncIterator[Piece]:
        """The whole stretch in order. Raises IncompleteError, which says how far it came.

        ``probe``: ask first whether the API respects the time filters and ``count``; once is enough.

        One page of records at a time is in memory, and those of a window (about a thousand), except without
        time filters: then the API gives the whole list or nothing.
        """
        try:
            if probe:
                await self._reader.probe(self._deadline(), time_filters=self._time_filters)
        except ExporterError as error:
            raise IncompleteError(past.since, str(error)) from error
        if not self._time_filters:
            yield await self._everything(past)
            return
        since, size = past.since, _FIRST_WINDOW
        while since < past.until:
            window = Window(since, min(past.until, since + size))
            result = await self._reader.read(window, self._deadline())
            if not result.complete:
                size = floor_second((window.until - window.since) // 2)
                if size < SECOND or isinstance(result.error, ApiError):
                    raise IncompleteError(since, result.reason) from result.error
                continue
            records = tuple(record for record in result.inside if record.create_time is not None)
            yield Piece(window, records)
            since = window.until
            wanted = size * MANY // max(1, len(records))
            size = floor_second(max(SECOND, min(wanted, _GROWTH * size, _LARGEST_WINDOW)))

    async def _everything(self, past: Past) -> Piece:
        result = await self._reader.read_everything(past.until + _AHEAD, self._deadline())
        if not result.complete:
            raise IncompleteError(past.since, result.reason) from result.error
        inside = (
            record
            for record in result.listing
            if record.create_time is not None and past.since <= record.create_time < past.until
        )
        return Piece(Window(*past), tuple(inside))

    @staticmethod
    def _deadline() -> float:
        return time.monotonic() + _PATIENCE


@asynccontextmanager
async def past_jobs(
    config: Config,
    target: TargetConfig,
    environ: Mapping[str, str],
    redactor: log.Redactor,
    err: TextIO,
) -> AsyncIterator[PastJobs]:
    """Connected to the target's API with its credentials, at half of its rate. Raises ExporterError."""
    for secret in inline_secrets(config):
        redactor.add(secret.reveal())
    async with HalfRate(config, environ, redactor, err) as rates:
        asked = await rates.of(target)
        client = build_client(
            asked,
            events=ApiMetrics(time.time()).target(target.name),
            shared=SharedLimits(claims=None),
            environ=environ,
            network=network_of([asked], environ, redactor),
            redactor=redactor,
        )
        try:
            yield PastJobs(client, asked)
        finally:
            await client.aclose()
