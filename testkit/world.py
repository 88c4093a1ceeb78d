"""One target on a fake clock: the real poller, reader and ledger; and the simulator's world as its API.

Nobody waits. Tests, the soak and the benchmarks put their stand-ins for the API into ``TargetHarness``;
``WorldSource`` is for many jobs that live by themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableSequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from exporter.config import Config, StorageConfig, TargetConfig
from exporter.failures import Classifier
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
from exporter.runtime import target
from exporter.simulator.job import SimulatedJob
from exporter.simulator.world import World
from exporter.store.base import Commit, Store
from exporter.store.repository import LedgerRepository
from exporter.store.sqlite import SqliteStore

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
DEFAULTS: Final = Config(storage=StorageConfig())
TARGET: Final = TargetConfig(
    name="t", region="cn-north-4", endpoint="https://api", iam_endpoint="https://iam", project_id="p"
)
IDENTITY: Final = TargetView(target="t", region="cn-north-4", project_id="", api_endpoint="https://api")
START: Final = 1_750_000_020_000
"""A whole minute."""
REQUEST: Final = SECOND // 5
"""How long a request takes at the default rate limit."""


class Killed(BaseException):
    """The process ends here and now."""


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
    config = replace(DEFAULTS, poll=replace(DEFAULTS.poll, interval=interval))
    settings = target.ledger_settings(config, TARGET, Classifier(()))
    return replace(settings, classify=lambda text: text[:20] or "no_message")


def poll_settings(**changes: Any) -> PollSettings:
    """The defaults of the configuration."""
    return replace(target.poll_settings(DEFAULTS, TARGET), **changes)


class FakeClock:
    """The API's clock and everybody else's: milliseconds since 1970, moved by hand.

    Every ``Date`` is right, and known after two answers.
    """

    on_our_clock = False
    ms = START
    known = 0
    """Answers since the start."""

    def __init__(self) -> None:
        self.frozen_at: int | None = None
        """A gateway caches ``Date``."""

    def now_ms(self) -> int | None:
        if self.known < 2:
            return None
        return self.ms if self.frozen_at is None else min(self.ms, self.frozen_at)

    def latest_ms(self) -> int | None:
        return self.now_ms()

    def furthest_ms(self) -> int | None:
        return self.now_ms()

    def note_passed(self, ms: int) -> None:
        pass

    def use_our_clock(self) -> None:
        pass

    def undecided(self, tolerance: float) -> bool:
        return False

    def skew(self, wall: float) -> float | None:
        return None if self.known < 2 else self.ms / SECOND - wall


def listed(world: World, query: JobsQuery) -> tuple[list[SimulatedJob], int]:
    """What the list API answers: this page's jobs, newest first, and how many match."""
    if query.job_id is not None:
        job = world.find(query.job_id)
        return ([], 0) if job is None else ([job], 1)
    jobs, low, high = world.between(query.since, query.until)
    last = high - query.offset
    return list(jobs[max(low, last - query.limit) : max(low, last)][::-1]), high - low


class WorldSource:
    """The list API on a world in this process; every answer takes its time."""

    project_id: str | None = "p"

    def __init__(self, world: World, clock: FakeClock) -> None:
        self.world = world
        self.clock = clock

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        self.clock.known += 1
        self.clock.ms += REQUEST
        now = self.clock.ms / SECOND
        self.world.advance(now)
        jobs, count = listed(self.world, query)
        return Page(tuple(_record(job, now) for job in jobs), count)


def _record(job: SimulatedJob, now: float) -> Record:
    state = job.shown_state_at(now)
    message = job.fail_msg if state == "FAILED" else ""
    return Record(
        job.job_id, job.created_ms, state, job.job_type, job.tts_service_enum, job.text_length, message
    )


class NoStore:
    """Keeps nothing: what is measured on it is not the disk."""

    address = "nowhere"

    def load(self, target: str, scope: str, now: int, keep: int) -> StoredLedger:
        return StoredLedger()

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        pass

    def load_breakers(self) -> dict[str, str]:
        return {}

    def save_breakers(self, breakers: dict[str, str]) -> None:
        pass

    def command_asks(self, credentials: str) -> bool:
        return False

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
        budget=budget or Budget(),
        publish=publish,
        monotonic=monotonic,
        wall=wall,
        uptime=uptime or (lambda: Uptime("boot", int(monotonic() * SECOND))),
        sleep=sleep,
    )
    return repository, reader, poller


class TargetHarness:
    """One target on a fake clock: what it is in the running program, whatever stands in for the API."""

    def __init__(
        self,
        source: JobSource,
        store: Store,
        clock: FakeClock,
        settings: PollSettings,
        ledger_settings: LedgerSettings,
        *,
        scope: str = "region=cn-north-4",
        trust_count: bool | None = None,
    ) -> None:
        self.source = source
        self.store = store
        self.clock = clock
        self.settings = settings
        self.ledger_settings = ledger_settings
        self.scope = scope
        self.trust_count = trust_count
        self.retention = 30 * 24 * 60 * MINUTE
        self.views: MutableSequence[TargetView] = []
        """All that were published; a deque keeps the last ones."""
        self.budget: Budget | None = None
        """Shared with other targets; without one the poller has its own."""
        self.monotonic: Callable[[], float]
        self.wall: Callable[[], float]
        self.boot = "first"
        """Of the machine."""
        self.restart()

    def restart(self) -> None:
        """As after a crash: everything but the store is gone."""
        self.monotonic = self.wall = lambda: self.clock.ms / SECOND
        self.repository, self.reader, self.poller = assemble(
            self.source,
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
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
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
