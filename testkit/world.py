"""The real poller on a simulated world, in one process, on a clock that nobody waits for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final

from exporter.errors import ApiError, ErrorKind
from exporter.ledger.first_start import Uptime
from exporter.ledger.record import JobsQuery, Page, Record
from exporter.ledger.settings import LedgerSettings
from exporter.ledger.snapshot import TargetView
from exporter.ledger.stored import StoredLedger
from exporter.polling.budget import Budget
from exporter.polling.paging import PageMemory
from exporter.polling.poller import Poller, PollSettings
from exporter.polling.source import JobSource
from exporter.polling.windows import Reader
from exporter.simulator.job import SimulatedJob
from exporter.simulator.world import World
from exporter.store.base import Commit, Store
from exporter.store.repository import LedgerRepository
from exporter.store.sqlite import SqliteStore

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
IDENTITY: Final = TargetView(target="t", region="cn-north-4", project_id="", api_endpoint="https://api")
REQUEST_SECONDS: Final = 0.2
"""How long a request takes at the default rate limit."""


class InlineExecutor(Executor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - an executor hands every error to whoever waits
            future.set_exception(error)
        return future


def ledger_settings(interval: float = 15.0) -> LedgerSettings:
    """The defaults of the configuration."""
    return LedgerSettings(
        interval=int(interval * SECOND),
        overlap=5 * MINUTE,
        window=60 * MINUTE,
        max_job_age=24 * 60 * MINUTE,
        max_catch_up=24 * 60 * MINUTE,
        text_length_buckets=(50, 100, 200, 500, 1000, 2000, 3000, 5000, 10000),
        duration_buckets=tuple(SECOND * s for s in (5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)),
        max_label_sets=100,
        classify=lambda text: text[:20] or "no_message",
    )


class RightClock:
    """Of an API whose ``Date`` is always right, known after two answers. Subclasses say what time it is."""

    on_our_clock = False
    known = 0
    """Answers since the start."""

    @property
    def ms(self) -> int:
        raise NotImplementedError

    def now_ms(self) -> int | None:
        return self.ms if self.known >= 2 else None

    def latest_ms(self) -> int | None:
        return self.now_ms()

    def furthest_ms(self) -> int | None:
        return self.now_ms()

    def reached(self, ms: int) -> None:
        pass

    def use_our_clock(self) -> None:
        pass

    def undecided(self, tolerance: float) -> bool:
        return False

    def skew(self, wall: float) -> float | None:
        return None if self.known < 2 else self.ms / SECOND - wall


class WorldClock(RightClock):
    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def ms(self) -> int:
        return int(self._world.now * SECOND)


class WorldSource:
    """The list API on a world, newest first, and the clock of its answers."""

    project_id: str | None = "p"

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = WorldClock(world)
        self.down = False

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        self.clock.known += 1
        self.world.advance(self.world.now + REQUEST_SECONDS)
        if self.down:
            raise ApiError(ErrorKind.SERVER, "down", status=503)
        if query.job_id is not None:
            job = self.world.find(query.job_id)
            return Page(() if job is None else (_record(job, self.world.now),), int(job is not None))
        jobs, low, high = self.world.between(query.since, query.until)
        last = high - query.offset
        shown = jobs[max(low, last - query.limit) : max(low, last)]
        return Page(tuple(_record(job, self.world.now) for job in reversed(shown)), high - low)


def _record(job: SimulatedJob, now: float) -> Record:
    state = job.shown_state_at(now)
    message = job.fail_msg if state == "FAILED" else ""
    return Record(
        job.job_id, job.created_ms, state, job.job_type, job.tts_service_enum, job.text_length, message
    )


class NoStore:
    """Keeps nothing: what is measured on it is not the disk."""

    place = "nowhere"

    def load(self, target: str, scope: str, now: int, keep: int) -> StoredLedger:
        return StoredLedger()

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        pass

    def load_breakers(self) -> dict[str, str]:
        return {}

    def save_breakers(self, breakers: dict[str, str]) -> None:
        pass

    def close(self) -> None:
        pass


def quick_store(path: Path) -> SqliteStore:
    """The real store, but it does not wait for the disk: nobody pulls the plug."""
    store = SqliteStore(path)
    store.db.execute("PRAGMA synchronous = OFF")
    return store


def assemble(
    source: JobSource,
    store: Store,
    ledger_settings: LedgerSettings,
    settings: PollSettings,
    publish: Callable[[TargetView], None],
    *,
    identity: TargetView = IDENTITY,
    scope: str = "s",
    retention: int = 30 * 24 * 60 * MINUTE,
    trust_count: bool | None = None,
    budget: Budget | None = None,
    monotonic: Callable[[], float],
    wall: Callable[[], float],
    uptime: Callable[[], Uptime] | None = None,
    sleep: Callable[[float], Awaitable[None]],
) -> tuple[LedgerRepository, Reader, Poller]:
    """What a target is in the running program, after a start; only the store outlives it."""
    repository = LedgerRepository(
        identity,
        scope=scope,
        job_type=None,
        service=None,
        settings=ledger_settings,
        retention=retention,
        store=store,
        executor=InlineExecutor(),
    )
    reader = Reader(source, PageMemory(trust_count), split_by_type=True)
    poller = Poller(
        identity.target,
        settings,
        source=source,
        reader=reader,
        repository=repository,
        budget=budget,
        publish=publish,
        monotonic=monotonic,
        wall=wall,
        uptime=uptime or (lambda: Uptime("boot", int(monotonic() * SECOND))),
        sleep=sleep,
    )
    return repository, reader, poller


class BenchHarness:
    """One target."""

    def __init__(
        self, world: World, *, interval: float = 15.0, budget: int = 75, store: Store | None = None
    ) -> None:
        self.source = WorldSource(world)
        self.world = world
        self.settings = ledger_settings(interval)
        self.views: list[TargetView] = []
        self.repository, self.reader, self.poller = assemble(
            self.source,
            store or NoStore(),
            self.settings,
            PollSettings(interval=interval, timeout=120.0, budget=budget),
            self._publish,
            monotonic=lambda: self.world.now,
            wall=lambda: self.world.now,
            sleep=self._sleep,
        )

    def _publish(self, view: TargetView) -> None:
        self.views[:] = [view]

    async def _sleep(self, seconds: float) -> None:
        self.world.advance(self.world.now + seconds)
