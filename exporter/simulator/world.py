"""The jobs of one project: they arrive, wait, run, end, are listed late, change, vanish.

Pure and deterministic: the same seed gives the same jobs however often and in whatever steps it is
asked to advance. No clock (``now``, seconds since 1970 UTC, is an argument), no HTTP.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from .arrivals import Arrivals, Effect, WorldOptions
from .job import FAILED, SUCCEED, Quirk, SimulatedJob, number_of, position

BUSINESS_TYPE: Final = "SYNTHETICS_SOUND"
"""The only ``business_type`` there is here; records do not show it."""


class TimedEffect(NamedTuple):
    start: float
    end: float
    effect: Effect


class Selection(NamedTuple):
    """Jobs of the list that match a request, oldest first."""

    jobs: Sequence[SimulatedJob]
    low: int
    high: int
    """The matching ones are ``jobs[low:high]``."""


class World:
    """One project's jobs since ``start``."""

    def __init__(
        self,
        seed: int | str = 0,
        *,
        start: float,
        rate: float = 60.0,
        project_id: str = "",
        options: WorldOptions | None = None,
    ) -> None:
        """``rate`` is jobs per minute, the day's average; it may be changed at any time."""
        self.seed = f"{seed}/{project_id}"
        self.project_id = project_id
        self.rate = rate
        self.options = options or WorldOptions()
        self.start = start
        self.now = start
        self.arrivals = Arrivals(self.seed, self.options)
        self.jobs: list[SimulatedJob] = []
        """Every job that is remembered, oldest first, also those not listed yet and those deleted."""
        self.listing: list[SimulatedJob] = []
        """What the list API has now, oldest first."""
        self.on_forget: Callable[[SimulatedJob], None] = lambda job: None
        """Called with every job that is forgotten, so that sums can stay exact."""
        self._next_second = math.floor(start)
        self._to_list: list[tuple[float, int, SimulatedJob]] = []
        self._to_delete: list[tuple[float, int, SimulatedJob]] = []
        self._effects: list[TimedEffect] = []
        self._scripted: dict[str, SimulatedJob] = {}
        self._scripted_count = 0
        self._forgotten_until = start

    # -- time --------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let everything happen that happens until ``now``. An earlier ``now`` changes nothing."""
        if now <= self.now:
            return
        self.now = now
        while self._next_second <= now:
            self._live(self._next_second)
            self._next_second += 1
        while self._to_list and self._to_list[0][0] <= now:
            self._show(heapq.heappop(self._to_list)[2])
        while self._to_delete and self._to_delete[0][0] <= now:
            self._hide(heapq.heappop(self._to_delete)[2])
        retention = self.options.retention
        if retention is not None and now - retention - self._forgotten_until > retention / 10.0:
            self.forget_before(now - retention)

    def schedule(self, effect: Effect, start: float, end: float) -> None:
        """Have an incident happen. The past does not change: ``start`` is moved up to now."""
        entry = TimedEffect(max(start, self.now), end, effect)
        self._effects = [*(old for old in self._effects if old.end > self.now), entry]
        if effect.stuck:
            for job in self.jobs:
                if job.finished > self.now:
                    self._delay(job)

    def end_effects(self, effect: Effect) -> None:
        """End this incident now, before its time. What it did to jobs stays done."""
        self._effects = [old for old in self._effects if old.effect is not effect]

    def forget_before(self, at: float) -> None:
        """Drop the jobs created before ``at`` that have ended; ``on_forget`` is called with each."""
        cut = bisect.bisect_left(self.jobs, int(at * 1000), key=_created)
        gone = [job for job in self.jobs[:cut] if job.finished <= self.now and job.listed <= self.now]
        for job in gone:
            self.on_forget(job)
            self._scripted.pop(job.job_id, None)
        numbers = {job.number for job in gone}
        self.jobs[:cut] = [job for job in self.jobs[:cut] if job.number not in numbers]
        cut = bisect.bisect_left(self.listing, int(at * 1000), key=_created)
        self.listing[:cut] = [job for job in self.listing[:cut] if job.number not in numbers]
        self._forgotten_until = max(self._forgotten_until, at)

    # -- what tests and faults do to single jobs -----------------------------------------------------

    def add(
        self,
        *,
        created: float | None = None,
        job_type: str = "ASYNC_JOB",
        service: str = "TTS_LLM",
        text_length: int = 100,
        started: float | None = None,
        finished: float = math.inf,
        fail_msg: str | None = None,
        listed: float | None = None,
        deleted: float = math.inf,
        quirk: Quirk | None = None,
    ) -> SimulatedJob:
        """A scripted job, listed at once. Times are absolute seconds; a ``fail_msg`` makes it fail."""
        born = self.now if created is None else created
        self._scripted_count += 1
        job = SimulatedJob(
            number=self.arrivals.number(math.floor(born), 0xFFFF - self._scripted_count % 0x4000),
            created_ms=self.arrivals.stored(born),
            job_type=job_type,
            tts_service_enum=service,
            asset_id=self.arrivals.voices.get(service, ("",))[0],
            text_length=text_length,
            started=min(finished, born if started is None else started),
            finished=finished,
            final_state=SUCCEED if fail_msg is None else FAILED,
            listed=max(born, self.now) if listed is None else listed,
            deleted=deleted,
            fail_msg=fail_msg or "",
            fail_kind="" if fail_msg is None else "scripted",
            quirk=quirk,
        )
        if quirk is not None and quirk.job_id is not None:
            self._scripted[quirk.job_id] = job
        self._enter(job)
        return job

    def delete(self, job: SimulatedJob, now: float) -> None:
        """The record vanishes from the list."""
        job.deleted = now
        self._hide(job)

    def regress(self, job: SimulatedJob, now: float) -> None:
        """The finished job is shown as PROCESSING from now on."""
        job.quirk = job.quirk or Quirk()
        job.quirk.regress_at = now

    def relabel(self, job: SimulatedJob, now: float, service: str) -> None:
        """The job is shown with this ``tts_service_enum`` from now on."""
        job.quirk = job.quirk or Quirk()
        job.quirk.relabel_at, job.quirk.relabel_to = now, service

    # -- what the list API asks ------------------------------------------------------------------------

    def find(self, job_id: str) -> SimulatedJob | None:
        """The listed job with this id."""
        scripted = self._scripted.get(job_id)
        if scripted is not None:
            return scripted if scripted.visible_at(self.now) else None
        number = number_of(job_id)
        if number is None:
            return None
        second = number >> 16 & 0xFFFFFFFF
        window = self.between(second * 1000, second * 1000 + 999)
        for job in window.jobs[window.low : window.high]:
            if job.number == number:
                return job
        return None

    def between(self, since_ms: int | None, until_ms: int | None) -> Selection:
        """The listed jobs created in that time; both bounds are inclusive."""
        low = 0 if since_ms is None else bisect.bisect_left(self.listing, since_ms, key=_created)
        high = len(self.listing)
        if until_ms is not None:
            high = bisect.bisect_right(self.listing, until_ms, key=_created)
        return Selection(self.listing, low, max(low, high))

    # -- how jobs come about ---------------------------------------------------------------------------

    def _live(self, second: int) -> None:
        active = [entry.effect for entry in self._effects if entry.start <= second < entry.end]
        for job in self.arrivals.jobs_of(second, self.rate, active):
            self._enter(job)

    def _enter(self, job: SimulatedJob) -> None:
        """Add a new job, and list it when its time has come."""
        self._delay(job)
        _insert(self.jobs, job)
        if job.deleted < math.inf:
            heapq.heappush(self._to_delete, (job.deleted, job.number, job))
        if job.listed <= self.now:
            self._show(job)
        else:
            heapq.heappush(self._to_list, (job.listed, job.number, job))

    def _delay(self, job: SimulatedJob) -> None:
        """Move start and end out of the times when nothing starts or ends."""
        for start, end, effect in self._effects:
            if not effect.stuck:
                continue
            if start <= job.started < end:
                job.started = end + (job.started - start) / 4.0
            if start <= job.finished < end:
                job.finished = end + (job.finished - start) / 4.0
            job.finished = max(job.finished, job.started)

    def _show(self, job: SimulatedJob) -> None:
        if job.visible_at(self.now):
            _insert(self.listing, job)

    def _hide(self, job: SimulatedJob) -> None:
        index = bisect.bisect_left(self.listing, position(job), key=position)
        if index < len(self.listing) and self.listing[index] is job:
            del self.listing[index]


def _created(job: SimulatedJob) -> int:
    return job.created_ms


def _insert(jobs: list[SimulatedJob], job: SimulatedJob) -> None:
    if not jobs or position(jobs[-1]) < position(job):
        jobs.append(job)
    else:
        bisect.insort(jobs, job, key=position)
