"""The jobs born in one second: how many, what they are, how they will end, what is odd about them.

Pure and deterministic: every second has its own random generators, made from the seed, so it does not
matter in which steps anybody asks. Oddities have a generator of their own: switching them on leaves
everything else as it was.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from . import life
from .job import FAILED, SUCCEED, Quirk, SimulatedJob
from .messages import fail_msg

_STUCK_HOURS: Final = 12.0
_MOST_PER_SECOND: Final = 0x4000  # leaves numbers for twins and for scripted jobs


class WorldOptions(msgspec.Struct, kw_only=True):
    """How the world departs from the ordinary. Probabilities are per job, all off by default."""

    rhythm: float = 0.6
    """Amplitude of the day; 0 is the same rate around the clock."""
    noise: float = 0.15
    """Sigma of the minute-to-minute change of the rate."""
    milliseconds: bool = False
    """Creation times are stored to the millisecond instead of the second."""
    retention: float | None = None
    """Seconds after which finished jobs are forgotten (and vanish from the list)."""
    stuck: float = 0.0003
    """Hang for up to twelve hours, then end."""
    lost: float = 0.0
    """Never end."""
    late: float = 0.0
    late_seconds: float = 60.0
    """Late records are listed up to this long after creation."""
    vanish: float = 0.0
    vanish_seconds: float = 600.0
    """Vanishing records are deleted up to this long after they ended."""
    regression: float = 0.0
    label_change: float = 0.0
    no_job_id: float = 0.0
    no_create_time: float = 0.0
    no_text_length: float = 0.0
    unknown_state: float = 0.0
    unknown_type: float = 0.0
    unknown_service: float = 0.0
    twin: float = 0.0
    """Two jobs at once, equal in every field shown, and without an id."""

    def quirky(self) -> bool:
        """Whether any record may be odd."""
        return any(
            (self.late, self.vanish, self.regression, self.label_change, self.no_job_id, self.no_create_time,
             self.no_text_length, self.unknown_state, self.unknown_type, self.unknown_service, self.twin)
        )  # fmt: skip


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What an incident does to the jobs while it lasts."""

    rate_factor: float = 1.0
    slow_factor: float = 1.0
    stuck: bool = False
    """Nothing starts or ends; afterwards the backlog drains in a quarter of the time."""
    fail_share: float = 0.0
    fail_kind: str = "internal"
    fail_service: str | None = None
    """Only jobs of this ``tts_service_enum`` fail; ``None`` for all."""


class Arrivals:
    """Makes the jobs of one project, second by second."""

    def __init__(self, seed: str, options: WorldOptions) -> None:
        self.options = options
        self.voices = life.voices(seed)
        self._seed = seed
        self._salt = zlib.crc32(seed.encode()) & 0xFFFF
        self._minute = (-1, 1.0)

    def jobs_of(self, second: int, rate: float, effects: Sequence[Effect]) -> list[SimulatedJob]:
        """Everything born in that second, oldest first; ``rate`` is the day's average per minute."""
        rng = random.Random(f"{self._seed}/{second}")  # noqa: S311  a simulation, not a secret
        mean = rate / 60.0 * life.rhythm(second, self.options.rhythm) * self._noise(second)
        for effect in effects:
            mean *= effect.rate_factor
        births = sorted(second + rng.random() for _ in range(min(_MOST_PER_SECOND, life.poisson(mean, rng))))
        jobs = [self._born(self.number(second, index), at, effects, rng) for index, at in enumerate(births)]
        if self.options.quirky():
            odd = random.Random(f"{self._seed}/{second}/odd")  # noqa: S311  a simulation, not a secret
            twins = [self._make_odd(job, odd) for job in jobs]
            jobs += [twin for twin in twins if twin is not None]
        return jobs

    def number(self, second: int, index: int) -> int:
        """See ``SimulatedJob.number``."""
        return self._salt << 48 | (second & 0xFFFFFFFF) << 16 | index

    def stored(self, at: float) -> int:
        """A creation time as the service keeps it, milliseconds."""
        return math.floor(at * 1000.0) if self.options.milliseconds else math.floor(at) * 1000

    def _born(self, number: int, at: float, active: Sequence[Effect], rng: random.Random) -> SimulatedJob:
        profile = life.PROFILE_TABLE[int(rng.random() * 100)]
        service = life.SERVICE_TABLE[int(rng.random() * 100)]
        length = life.text_length(profile, rng)
        wait = rng.expovariate(1.0 / profile.wait)
        work = life.work_seconds(profile, length, rng)
        kind = ""
        if rng.random() < profile.fail_share:
            kind = rng.choice(life.KIND_TABLES[profile.job_type])
        for effect in active:
            wait, work = wait * effect.slow_factor, work * effect.slow_factor
            if effect.fail_service in (None, service) and rng.random() < effect.fail_share:
                kind = effect.fail_kind
        if kind:
            work = life.failed_work_seconds(kind, work, rng)
        fate = rng.random()
        if fate < self.options.stuck:
            work += rng.uniform(1.0, _STUCK_HOURS) * 3600.0
        elif fate > 1.0 - self.options.lost:
            work = math.inf
        return SimulatedJob(
            number=number,
            created_ms=self.stored(at),
            job_type=profile.job_type,
            tts_service_enum=service,
            asset_id=self.voices[service][int(rng.random() ** 2 * life.VOICES_PER_SERVICE)],
            text_length=length,
            started=at + wait,
            finished=at + wait + work,
            final_state=FAILED if kind else SUCCEED,
            listed=at,
            fail_msg=fail_msg(kind, rng) if kind else "",
            fail_kind=kind,
        )

    def _make_odd(self, job: SimulatedJob, rng: random.Random) -> SimulatedJob | None:
        """Apply the options' probabilities to one job; returns its twin, if it has one."""
        options = self.options
        if rng.random() < options.late:
            job.listed += rng.uniform(1.0, options.late_seconds)
        if rng.random() < options.vanish:
            job.deleted = max(job.listed, job.finished) + rng.uniform(1.0, options.vanish_seconds)
        quirk, without = Quirk(), set()
        if rng.random() < options.regression:
            quirk.regress_at = job.finished + rng.uniform(5.0, 120.0)
        if rng.random() < options.label_change:
            quirk.relabel_at = job.listed + rng.uniform(1.0, 60.0)
            quirk.relabel_to = rng.choice([name for name in life.SERVICES if name != job.tts_service_enum])
        for field in ("job_id", "create_time", "text_length"):
            if rng.random() < getattr(options, f"no_{field}"):
                without.add(field)
        if rng.random() < options.unknown_state:
            quirk.odd_state = rng.choice(("QUEUED", "CANCELLING", "PAUSED"))
        if rng.random() < options.unknown_type:
            job.job_type = rng.choice(("BATCH_JOB", "STREAM", "预合成"))
        if rng.random() < options.unknown_service:
            job.tts_service_enum = rng.choice(("TTS_LLM_V11", "TTS_MOBVOI"))
        twin = rng.random() < options.twin
        if twin:
            without.add("job_id")
        quirk.without = frozenset(without)
        if quirk != Quirk():
            job.quirk = quirk
        return msgspec.structs.replace(job, number=job.number | 0x8000) if twin else None

    def _noise(self, second: int) -> float:
        minute = second // 60
        if self._minute[0] != minute:
            rng = random.Random(f"{self._seed}/{minute}/noise")  # noqa: S311  a simulation, not a secret
            sigma = self.options.noise
            self._minute = (minute, math.exp(rng.gauss(0.0, sigma) - sigma * sigma / 2.0))
        return self._minute[1]
