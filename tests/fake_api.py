"""A list API in memory, with a clock that tests move: what the poller sees of the cloud.

Each fault is a plain attribute or a hook; nothing here knows the rules of counting.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import UserDict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from exporter.cloud.times import parse_time
from exporter.errors import ApiError, ErrorKind
from exporter.ledger.first_start import Uptime
from exporter.ledger.record import JobsQuery, Page, Record
from exporter.ledger.settings import LedgerSettings
from exporter.ledger.snapshot import TargetView
from exporter.polling.budget import Budget
from exporter.polling.poller import PollSettings
from exporter.store.base import Store
from testkit import world
from testkit.world import RightClock, assemble

START = 1_750_000_020_000
"""A whole minute."""
SECOND = 1000
MINUTE = 60_000


class FakeClock(RightClock):
    """The API's clock and everybody else's: milliseconds since 1970, moved by hand."""

    ms = START

    def __init__(self) -> None:
        self.frozen_at: int | None = None
        """A gateway caches ``Date``."""

    def now_ms(self) -> int | None:
        now = super().now_ms()
        return now if now is None or self.frozen_at is None else min(now, self.frozen_at)


class JobTable(UserDict[str, Record]):
    """Jobs by id, and in the order of their creation: long lists are asked for thousands of times."""

    def __init__(self) -> None:
        super().__init__()
        self._order: list[tuple[int, str]] = []

    def __setitem__(self, job_id: str, record: Record) -> None:
        if job_id in self.data:
            self._leave(job_id)
        self.data[job_id] = record
        insort(self._order, (record.create_time or 0, job_id))

    def __delitem__(self, job_id: str) -> None:
        self._leave(job_id)
        del self.data[job_id]

    def _leave(self, job_id: str) -> None:
        place = self.data[job_id].create_time or 0, job_id
        del self._order[bisect_left(self._order, place)]

    def between(self, since: int | None, until: int | None) -> list[tuple[str, Record]]:
        """Those created then, both ends included, earliest first."""
        first = 0 if since is None else bisect_left(self._order, (since, ""))
        last = len(self._order) if until is None else bisect_left(self._order, (until + 1, ""))
        return [(job_id, self.data[job_id]) for _, job_id in self._order[first:last]]


class FakeApi:
    """Jobs by id, and what the list shows of them, in which order."""

    project_id: str | None = "p1"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.jobs = JobTable()
        self.appears: dict[str, int] = {}
        """Job -> when it becomes listed (API time)."""
        self.newest_first = True
        self.clip = 100
        self.cap: int | None = None
        """Offsets past it give an empty page."""
        self.count_respects_filters = True
        self.time_filters_work = True
        self.since_inclusive = self.until_inclusive = True
        self.exact: dict[str, int] = {}
        """Job -> time of creation that the filters compare, where that is not what the list shows."""
        self.empty = False
        self.fail: Callable[[JobsQuery], ApiError | None] = lambda query: None
        self.before_page: Callable[[JobsQuery], None] = lambda query: None
        self.queries: list[JobsQuery] = []
        self.zone = ""
        """Times are written in this zone, without saying so."""
        self.answer: Callable[[JobsQuery, Page], Page] = lambda query, page: page
        self._names = (f"job-{number:06d}" for number in itertools.count())

    def create(self, at: int | None = None, state: str = "WAITING", **fields: Any) -> str:
        job_id: str = fields.pop("job_id", None) or next(self._names)
        values: dict[str, Any] = {
            "job_type": "ASYNC_JOB",
            "tts_service_enum": "TTS_LLM",
            "text_length": 10,
        } | fields
        created = self.clock.ms // SECOND * SECOND if at is None else at
        self.jobs[job_id] = Record(job_id, created, state, **values)
        return job_id

    def change(self, name: str, /, **fields: Any) -> None:
        self.jobs[name] = replace(self.jobs[name], **fields)

    def finish(self, job_id: str, state: str = "SUCCEED", **fields: Any) -> None:
        self.change(job_id, job_state=state, **fields)

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        self.queries.append(query)
        if error := self.fail(query):
            raise error
        self.before_page(query)
        self.clock.known += 1
        matching = [] if self.empty else list(self.matching(query))
        limit = min(query.limit, self.clip)
        if self.cap is not None and query.offset >= self.cap:
            records: list[Record] = []
        else:
            records = matching[query.offset : query.offset + limit]
        if self.zone:
            records = [_as_written(record, self.zone) for record in records]
        count = len(matching) if self.count_respects_filters else len(self.jobs)
        return self.answer(query, Page(tuple(records), 0 if self.empty else count))

    def matching(self, query: JobsQuery) -> Iterator[Record]:
        bounded = self.time_filters_work and not self.exact
        order = self.jobs.between(query.since, query.until) if bounded else self.jobs.between(None, None)
        for job_id, record in reversed(order) if self.newest_first else order:
            created = self.exact.get(job_id, record.create_time or 0)
            in_window = (query.since is None or created >= query.since + (not self.since_inclusive)) and (
                query.until is None or created <= query.until - (not self.until_inclusive)
            )
            if (
                self.appears.get(job_id, 0) <= self.clock.ms
                and (in_window or not self.time_filters_work)
                and query.job_id in (None, record.job_id)
                and query.job_type in (None, record.job_type)
            ):
                yield record


def _as_written(record: Record, zone: str) -> Record:
    """As the client reads its time, when that is written in ``zone`` and names none."""
    created = datetime.fromtimestamp((record.create_time or 0) / 1000, ZoneInfo(zone))
    time, other = parse_time(created.replace(tzinfo=None).isoformat(), ZoneInfo(zone))
    return replace(record, create_time=time, other_time=other)


def ledger_settings(**changes: Any) -> LedgerSettings:
    few: dict[str, Any] = {
        "text_length_buckets": (50, 100, 1000),
        "duration_buckets": (5 * SECOND, 60 * SECOND, 600 * SECOND),
        "classify": lambda text: text or "no_message",
    }
    return replace(world.ledger_settings(), **(few | changes))


class PollerHarness:
    """A poller on a fake API and a real store: what a target is in the running program."""

    def __init__(self, store: Store, api: FakeApi | None = None, **options: Any) -> None:
        self.clock = api.clock if api else FakeClock()
        self.api = api or FakeApi(self.clock)
        self.store = store
        self.views: list[TargetView] = []
        self.settings = PollSettings(
            interval=15.0,
            timeout=120.0,
            budget=options.pop("budget", 75),
            time_filters=options.pop("time_filters", True),
        )
        self.trust_count: bool | None = options.pop("trust_count", None)
        self.scope: str = options.pop("scope", "region=cn-north-4")
        self.retention = 30 * 24 * 60 * MINUTE
        self.budget: Budget | None = None
        """Shared with other targets; without one the poller has its own."""
        self.monotonic: Callable[[], float]
        self.wall: Callable[[], float]
        self.boot = "first"
        """Of the machine."""
        self.ledger_settings = ledger_settings(**options)
        self.restart()

    def restart(self) -> None:
        """As after a crash: everything but the store is gone."""
        self.monotonic = self.wall = lambda: self.clock.ms / SECOND
        self.repository, self.reader, self.poller = assemble(
            self.api,
            self.store,
            self.ledger_settings,
            self.settings,
            lambda view: self.views.append(view),
            scope=self.scope,
            retention=self.retention,
            trust_count=self.trust_count,
            budget=self.budget,
            monotonic=lambda: self.monotonic(),
            wall=lambda: self.wall(),
            uptime=lambda: Uptime(self.boot, self.clock.ms),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.clock.ms += int(seconds * SECOND)

    async def poll(self, times: int = 1, every: int = 15 * SECOND) -> str:
        """Poll, letting ``every`` milliseconds pass after each."""
        outcome = ""
        for _ in range(times):
            outcome = await self.poller.poll()
            self.clock.ms += every
        return outcome

    @property
    def view(self) -> TargetView:
        return self.views[-1]

    def created(self) -> int:
        return sum(self.view.created.values())

    def finished(self, state: str | None = None) -> int:
        return sum(value for labels, value in self.view.finished.items() if state in (None, labels[2]))

    def expired(self, reason: str | None = None) -> int:
        return sum(value for labels, value in self.view.expired.items() if reason in (None, labels[2]))

    def open(self) -> int:
        assert self.view.gauges is not None
        return sum(self.view.gauges.open_jobs.values())

    def balanced(self) -> bool:
        return self.created() == self.finished() + self.expired() + self.open()


def outage(query: JobsQuery) -> ApiError | None:
    """A ``fail`` hook: the API is down."""
    return ApiError(ErrorKind.SERVER, "service unavailable", status=503)
