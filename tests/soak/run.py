"""The soak: days of jobs in compressed time, with faults, against the real poller on a real store.

The simulated world lives in a process of its own, so that this one holds what the exporter holds and nothing
else. Time is a number that moves on with every poll and every answer; nobody sleeps. Run ``make soak``;
SIGTERM ends the stream of jobs early, and the verdict comes all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import msgspec

from exporter.cloud.records import Decoder
from exporter.cloud.redact import MessageRedactor
from exporter.errors import ApiError, ErrorKind, StoreError
from exporter.failures import BUILTIN_RULES, Classifier
from exporter.ledger.record import JobsQuery, Page
from exporter.simulator import wire
from exporter.simulator.arrivals import WorldOptions
from exporter.simulator.job import FAILED, SUCCEED, SimulatedJob
from exporter.simulator.world import World
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.world import (
    MINUTE,
    SECOND,
    START,
    FakeClock,
    Killed,
    TargetHarness,
    ledger_settings,
    listed,
    poll_settings,
)

DAY: Final = 24 * 60 * MINUTE
INTERVAL: Final = 15 * SECOND
REQUEST: Final = 25
"""Milliseconds that one request takes."""
RETENTION_HOURS: Final = 18.0
"""How long after its creation the world keeps a job that ended: longer than any is stuck."""
ODDITIES: Final = WorldOptions(
    retention=RETENTION_HOURS * 3600.0,
    late=0.02,
    late_seconds=200.0,
    stuck=0.0003,
    lost=0.0001,
    no_text_length=0.001,
    unknown_state=0.001,
    no_job_id=0.001,
    no_create_time=0.001,
    unknown_type=0.001,
    unknown_service=0.001,
    twin=0.0005,
)
"""Two in a hundred listed up to 200 seconds late, some stuck for hours, one in ten thousand for ever.

Some lack what a job is known by, or have labels that nobody documents. All this is counted exactly.
"""
UNKNOWABLE: Final = msgspec.structs.replace(
    ODDITIES, milliseconds=True, label_change=0.02, regression=0.01, vanish=0.01
)
"""Of some jobs nobody who polls can know all: deleted, or shown as open again, before a poll saw their end.
And a label that changes may be seen before it does, or not. See ``SoakResult.explained``."""
CHANGES: Final = {
    "delete": "records deleted",
    "regress": "finished jobs shown as open",
    "relabel": "open jobs shown with another service",
}
LABEL: Final = re.compile(r"[\w.:-]+", re.ASCII)


# --- the world, in its own process ------------------------------------------------------------------------


class Tally:
    """What a perfect observer would have counted at the end. Plain additions, meant to be obviously right."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, ...]] = Counter()
        self._classify = Classifier(BUILTIN_RULES).classify

    def add(self, job: SimulatedJob, now: float) -> None:
        """Each event under the labels shown with it (R1, docs/counting.md): those of the end may differ."""
        label_set, at_the_end = (
            tuple(name if LABEL.fullmatch(name) else "other" for name in (job.job_type, service))
            for service in (job.tts_service_enum, job.shown_service_at(now))
        )
        if job.quirk is not None and job.quirk.regress_at < float("inf"):
            self.sums["regressing",] += 1
        if job.deleted < float("inf"):
            self.sums["vanishing",] += 1
        length = 0 if job.lacks("text_length") else job.text_length
        self.sums["created", *label_set] += 1
        self.sums["text_length", *label_set] += length
        if job.finished == float("inf"):
            self.sums["expired", *at_the_end] += 1
            return
        self.sums["finished", *at_the_end, job.final_state] += 1
        if job.final_state == FAILED:
            self.sums["failures", *at_the_end, self._classify(job.fail_msg)] += 1
        if job.final_state == SUCCEED:
            self.sums["synthesized", *at_the_end] += length


STYLE: Final = wire.WireStyle()


def serve_world(seed: int, oddities: WorldOptions, connection: Connection) -> None:
    """Answer questions until the other end is closed. Jobs that are forgotten stay in the tally."""
    tally = Tally()
    world = World(seed, start=START / 1000, rate=0.0, options=oddities)
    world.on_forget = lambda job: tally.add(job, world.now)
    with contextlib.suppress(EOFError):
        while True:
            _serve_one(world, tally, connection)


def _serve_one(world: World, tally: Tally, connection: Connection) -> None:
    kind, now, value = connection.recv()
    world.advance(now)
    if kind == "list":
        jobs, count = listed(world, JobsQuery(*value))
        connection.send_bytes(wire.page(jobs, count, now, STYLE))
    elif kind == "rate":
        world.rate = value
    elif kind in ("delete", "regress", "relabel") and (job := world.find(value)) is not None:
        if kind == "delete":
            world.delete(job, now)
        elif kind == "regress":
            world.regress(job, now)
        elif now < job.finished:
            world.relabel(job, now, "TTS_LAB")
    elif kind == "truth":
        for job in world.jobs:
            tally.add(job, now)
        connection.send(dict(tally.sums))


# --- the cloud as the poller sees it ------------------------------------------------------------------------


class Cloud:
    """Asks the world, loses answers, goes down; ends the process now and then.

    Not ``WorldSource``: the world is in another process, and its answers are bytes that can be spoiled.
    """

    project_id: str | None = "p1"

    def __init__(self, clock: FakeClock, world: Connection, rng: random.Random) -> None:
        self.clock = clock
        self.requests = 0
        self.kill_after: int | None = None
        """So many requests from now the process ends."""
        self.down_until = 0
        self.empty_until = 0
        self.faults = True
        self.happened: Counter[str] = Counter()
        self.after_page: Callable[[], None] = lambda: None
        self.up_to_date: Callable[[], bool] = lambda: True
        """Is every stretch read more than once? Only then can an empty answer be told from an empty list."""
        self._world = world
        self._rng = rng
        self._decoder = Decoder("UTC")

    def tell(self, kind: str, value: object) -> None:
        self._world.send((kind, self.clock.ms / 1000, value))

    def truth(self) -> dict[tuple[str, ...], int]:
        """What every counter must say."""
        self.tell("truth", None)
        expected: dict[tuple[str, ...], int] = self._world.recv()
        return expected

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        self.requests += 1
        if self.kill_after is not None:
            self.kill_after -= 1
            if self.kill_after < 0:
                self.kill_after = None
                raise Killed
        if self.clock.ms < self.down_until:
            raise ApiError(ErrorKind.SERVER, "service unavailable", status=503)
        self.tell("list", msgspec.structs.astuple(query))
        body = self._world.recv_bytes()
        self.clock.ms += REQUEST
        if self.faults:
            body = self._spoil(body)
        page = self._decoder.decode(body, redact=MessageRedactor())
        self.clock.known += 1
        self.after_page()
        return page

    def _spoil(self, body: bytes) -> bytes:
        chance = self._rng.random()
        if (self.clock.ms < self.empty_until or chance < 0.004) and self.up_to_date():
            self.happened["empty answers"] += 1
            return b'{"count":0,"data":[]}'
        if chance < 0.010:
            self.happened["answers lost"] += 1
            raise ApiError(ErrorKind.TIMEOUT, "no answer in time")
        if chance < 0.014:
            self.happened["answers cut short"] += 1
            return body[: int(len(body) * self._rng.random())]
        return body


class MortalStore(SqliteStore):
    """A store whose process may end just before or just after a commit; or that refuses one."""

    kill: str = ""

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        kill, self.kill = self.kill, ""
        if kill == "before":
            raise Killed
        if kill == "refuse":
            raise StoreError("no space left on the device")
        super().commit(target, scope, commit)
        if kill == "after":
            raise Killed


# --- the run ------------------------------------------------------------------------------------------------


class Sample(msgspec.Struct, frozen=True):
    """How the exporter stands at one moment."""

    hours: float
    """Of simulated time."""
    jobs: int
    requests: int
    rss_mib: float
    store_mib: float
    remembered: int
    open: int
    behind_seconds: int
    """How far the settled time is behind the API's clock."""
    cpu_seconds: float


class SoakResult(msgspec.Struct):
    samples: list[Sample] = msgspec.field(default_factory=list)
    expected: dict[tuple[str, ...], int] = msgspec.field(default_factory=dict)
    counted: dict[tuple[str, ...], int] = msgspec.field(default_factory=dict)
    happened: dict[str, int] = msgspec.field(default_factory=dict)
    regressing: int = 0
    """Jobs that are shown as open again after their end."""
    vanishing: int = 0
    """Jobs that are deleted after their end, some of them at once."""
    imbalances: int = 0
    wall_seconds: float = 0.0

    @property
    def exact(self) -> bool:
        return self.expected == self.counted and not self.imbalances

    @property
    def explained(self) -> bool:
        """Is nothing counted twice, and nothing missed but what was deleted or shown as open again?

        By job_type, as a service that changes may be booked under either.
        """
        missed: Counter[str] = Counter()
        for sums, sign in ((self.expected, 1), (self.counted, -1)):
            for (name, job_type, *_), value in sums.items():
                missed[f"{name} {job_type}"] += sign * value
        created = [value for key, value in missed.items() if key.startswith("created ")]
        finished = [value for key, value in missed.items() if key.startswith("finished ")]
        return (
            min(*created, *finished) >= 0
            and sum(created) <= self.vanishing
            and sum(finished) <= self.vanishing + self.regressing
            and not self.imbalances
        )

    def total(self, name: str) -> int:
        return sum(value for key, value in self.expected.items() if key[0] == name)


class Soak:
    """One run. The schedule of faults follows from the seed."""

    def __init__(self, folder: Path, world: Connection, *, jobs_per_day: float, seed: int) -> None:
        self._rng = random.Random(seed)
        self._path = folder / "books.db"
        self._rate = jobs_per_day / 1440.0
        self.clock = FakeClock()
        self.cloud = Cloud(self.clock, world, self._rng)
        self.cloud.after_page = self._change_one
        self.cloud.up_to_date = self._is_up_to_date
        self.store = MortalStore(self._path)
        settings = msgspec.structs.replace(
            ledger_settings(),
            duration_buckets=(5_000, 60_000, 600_000),
            text_length_buckets=(100, 1_000, 10_000),
            classify=Classifier(BUILTIN_RULES).classify,
        )
        polls = poll_settings(interval=INTERVAL / SECOND)
        self.harness = TargetHarness(self.cloud, self.store, self.clock, polls, settings)
        self._reopen()
        self.result = SoakResult()
        self.stop = threading.Event()
        """No more jobs: let those there are end, and compare."""

    def _reopen(self) -> None:
        """As after a crash: everything but the file is gone."""
        self.store.close()
        self.store = MortalStore(self._path)
        self.harness.store = self.store
        self.harness.views = deque(maxlen=1)  # the last is enough for days
        self.clock.known = 0
        self.clock.frozen_at = None
        self.harness.retention = DAY
        self.harness.restart()

    async def run(self, days: float, progress: Callable[[Sample], None]) -> SoakResult:
        begun = time.monotonic()
        await self.harness.poller.poll()
        self.cloud.tell("rate", self._rate)
        await self._polls(START + int(days * DAY), progress, every=DAY // 24, faults=True)
        self.cloud.tell("rate", 0.0)
        # All that is open ends or expires, and what was listed late is settled. Not while time stands still.
        self.clock.frozen_at = None
        await self._polls(self.clock.ms + DAY + 60 * MINUTE, progress, every=DAY, faults=False)
        expected = self.cloud.truth()
        self.result.regressing = expected.pop(("regressing",), 0)
        self.result.vanishing = expected.pop(("vanishing",), 0)
        self.result.expected = expected
        self.result.counted = self._counted()
        self.result.happened = dict(sorted(self.cloud.happened.items()))
        self.result.wall_seconds = time.monotonic() - begun
        return self.result

    async def _polls(
        self, until: int, progress: Callable[[Sample], None], every: int, *, faults: bool
    ) -> None:
        self.cloud.faults = faults
        next_sample = self.clock.ms
        while self.clock.ms < until and not (faults and self.stop.is_set()):
            due = self.clock.ms + (INTERVAL if faults else MINUTE)
            if faults:
                self._trouble()
            try:
                await self.harness.poller.poll()
                self.result.imbalances += not self.harness.balanced()
            except Killed:
                self.cloud.happened["kills"] += 1
                self._reopen()
            self.clock.ms = max(self.clock.ms, due)
            if self.clock.ms >= next_sample and self.harness.repository.loaded:
                self.result.samples.append(self._sample())
                progress(self.result.samples[-1])
                next_sample += every

    def _trouble(self) -> None:
        """Now and then something worse than a bad answer begins."""
        rng, now, happened = self._rng, self.clock.ms, self.cloud.happened
        chance = rng.random()
        if chance < 0.002:
            self.cloud.kill_after = rng.randrange(12)
        elif chance < 0.004:
            self.store.kill = rng.choice(("before", "after"))
        elif chance < 0.0042:
            happened["commits refused"] += 1
            self.store.kill = "refuse"
        elif chance < 0.0045:
            happened["outages"] += 1
            self.cloud.down_until = now + rng.randrange(5, 60) * MINUTE
        elif chance < 0.0050:
            happened["minutes of nothing but empty lists"] += (minutes := rng.randrange(2, 15))
            self.cloud.empty_until = now + minutes * MINUTE
        elif chance < 0.0055:
            happened["times the API's clock stood still"] += 1
            self.clock.frozen_at = now
        elif chance < 0.0056:
            happened["hours of downtime"] += (hours := rng.randrange(1, 4))
            self.clock.ms += hours * 60 * MINUTE
            self._reopen()
        elif chance < 0.02:
            self.clock.frozen_at = None

    def _change_one(self) -> None:
        """A record that is in the store as it is vanishes from the list, between two pages or two polls.

        Or one that ended is shown as PROCESSING from then on, or one that did not with another service.
        """
        if self._rng.random() > 0.06 or not self.harness.repository.loaded:
            return
        kind = self._rng.choice(list(CHANGES))
        jobs = self.harness.repository.ledger.jobs
        second = self.clock.ms - self._rng.randrange(10 * MINUTE)
        some = jobs.items() if kind == "relabel" else jobs.created_in(second, second + SECOND)
        stored = [
            job_id for job_id, job in some if job.open == (kind == "relabel") and job_id not in jobs.dirty
        ]
        if stored:
            self.cloud.happened[CHANGES[kind]] += 1
            self.cloud.tell(kind, self._rng.choice(stored))

    def _is_up_to_date(self) -> bool:
        repository = self.harness.repository
        if not (repository.loaded and repository.ledger.started):
            return False
        return self.clock.ms - repository.ledger.watermarks.settled_until < 3 * repository.settings.overlap

    def _sample(self) -> Sample:
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        usage, ledger = resource.getrusage(resource.RUSAGE_SELF), self.harness.repository.ledger
        return Sample(
            hours=(self.clock.ms - START) / (60 * MINUTE),
            jobs=self.harness.created(),
            requests=self.cloud.requests,
            rss_mib=_rss_mib(),
            store_mib=sum(file.stat().st_size for file in files if file.exists()) / 2**20,
            remembered=len(ledger.jobs),
            open=ledger.jobs.open_count,
            behind_seconds=(self.clock.ms - ledger.watermarks.settled_until) // SECOND,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
        )

    def _counted(self) -> dict[tuple[str, ...], int]:
        view = self.harness.view
        counted: Counter[tuple[str, ...]] = Counter()
        counted.update({("created", *label_set): value for label_set, value in view.created.items()})
        counted.update({("finished", *labels): value for labels, value in view.finished.items()})
        counted.update({("failures", *labels): value for labels, value in view.failures.items()})
        counted.update(
            {("synthesized", *label_set): value for label_set, value in view.synthesized_characters.items()}
        )
        counted.update(
            {("text_length", *label_set): value.sum for label_set, value in view.text_length.items()}
        )
        for (job_type, service, _), value in view.expired.items():
            counted["expired", job_type, service] += value
        return {key: value for key, value in counted.items() if value}


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def soak(
    folder: Path,
    *,
    days: float,
    jobs_per_day: float = 1e6,
    seed: int = 1,
    oddities: WorldOptions = ODDITIES,
    progress: Callable[[Sample], None] = lambda sample: None,
    stop: threading.Event | None = None,
) -> SoakResult:
    """Run it; the store is made in ``folder``. ``stop`` ends the stream of jobs early."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    world = context.Process(target=serve_world, args=(seed, oddities, there))
    world.start()
    there.close()
    try:
        run = Soak(folder, here, jobs_per_day=jobs_per_day, seed=seed)
        run.stop = stop or run.stop
        try:
            return asyncio.run(run.run(days, progress))
        finally:
            run.store.close()
    finally:
        here.close()
        world.terminate()
        world.join()


def main() -> int:
    flags = argparse.ArgumentParser("python -m tests.soak.run", description=__doc__)
    flags.add_argument("--days", type=float, default=10.0)
    flags.add_argument("--jobs-per-day", type=float, default=1e6)
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--result", type=Path, help="write the result there as JSON")
    asked = flags.parse_args()

    def tell(sample: Sample) -> None:
        print(
            f"{sample.hours:7.1f} h {sample.jobs:10,} jobs  {sample.rss_mib:6.1f} MiB RSS"
            f"  {sample.store_mib:5.1f} MiB stored  {sample.remembered:7,} remembered"
            f" {sample.open:6,} open {sample.behind_seconds:6} s behind {sample.cpu_seconds:7.1f} s CPU",
            flush=True,
        )

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = soak(
            Path(folder),
            days=asked.days,
            jobs_per_day=asked.jobs_per_day,
            seed=asked.seed,
            progress=tell,
            stop=stop,
        )
    print(f"{result.total('created'):,} jobs in {result.wall_seconds:.0f} s; {result.happened}")
    wrong = {key for key, value in result.expected.items() if result.counted.get(key, 0) != value}
    for key in sorted(wrong | set(result.counted) - set(result.expected)):
        print(key, "expected", result.expected.get(key, 0), "counted", result.counted.get(key, 0))
    print("exact" if result.exact else f"NOT exact ({result.imbalances} publications out of balance)")
    if asked.result is not None:
        told = {name: getattr(result, name) for name in ("samples", "happened", "wall_seconds", "exact")}
        told["jobs"] = result.total("created")
        asked.result.write_bytes(msgspec.json.encode(told))
    return 0 if result.exact else 1


if __name__ == "__main__":
    sys.exit(main())
