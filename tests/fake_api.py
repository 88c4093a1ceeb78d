"""A scripted list API on a fake clock: what the poller sees of the cloud, without requests and bytes.

A test says of each record what it is and when it is listed, and makes the list break any promise: in the
simulator's world jobs live by themselves, and no list shows what cannot have happened. Each fault is a plain
attribute or a hook; nothing here knows the rules of counting.
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
from exporter.ledger.record import JobsQuery, Page, Record
from exporter.ledger.settings import LedgerSettings
from exporter.polling.poller import PollSettings
from exporter.store.base import Store
from testkit import world
from testkit.world import SECOND, FakeClock, TargetHarness


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


class PollerHarness(TargetHarness):
    """A target on a fake API and a real store."""

    def __init__(self, store: Store, api: FakeApi | None = None, **options: Any) -> None:
        self.api = api or FakeApi(FakeClock())
        of_polls = {*PollSettings.__struct_fields__} - {*LedgerSettings.__struct_fields__}
        settings = world.poll_settings(**{name: options.pop(name) for name in of_polls & options.keys()})
        target = {name: options.pop(name) for name in ("scope", "trust_count") if name in options}
        super().__init__(self.api, store, self.api.clock, settings, ledger_settings(**options), **target)


def outage(query: JobsQuery) -> ApiError | None:
    """A ``fail`` hook: the API is down."""
    return ApiError(ErrorKind.SERVER, "service unavailable", status=503)
