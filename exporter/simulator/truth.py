"""What is true, for tests to compare with: every job, and sums by label. Plain loops, meant to be obviously
right.

Knows the simulated world; must not know how the exporter counts. A job is part of the truth from when the
list has shown it, also if its record vanished afterwards. A label that a record lacks is ``unknown``; a job
whose label changed is summed under its first one.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TypedDict

import msgspec

from .job import FAILED, SUCCEED, SimulatedJob
from .world import World

JobLabels = tuple[str, str]
"""(job_type, tts_service_enum)"""
StateLabels = tuple[str, str, str]
"""(job_type, tts_service_enum, state or kind of failure)"""


class Sums(msgspec.Struct):
    """Counts by label, as a perfect observer would have them."""

    created: Counter[JobLabels] = msgspec.field(default_factory=Counter)
    finished: Counter[StateLabels] = msgspec.field(default_factory=Counter)
    open: Counter[StateLabels] = msgspec.field(default_factory=Counter)
    """By the state that the list shows."""
    failures: Counter[StateLabels] = msgspec.field(default_factory=Counter)
    """By the kind of failure that really happened, see ``messages.py``."""
    text_length: Counter[JobLabels] = msgspec.field(default_factory=Counter)
    """Characters of created jobs whose record has a text length."""
    text_length_jobs: Counter[JobLabels] = msgspec.field(default_factory=Counter)
    synthesized_characters: Counter[JobLabels] = msgspec.field(default_factory=Counter)
    """Characters of the jobs that succeeded."""

    def add(self, job: SimulatedJob, at: float) -> None:
        """Count one job as it is at ``at``."""
        labels = labels_of(job)
        state = job.state_at(at)
        length = None if job.lacks("text_length") else job.text_length
        self.created[labels] += 1
        if length is not None:
            self.text_length[labels] += length
            self.text_length_jobs[labels] += 1
        if state not in (SUCCEED, FAILED):
            self.open[(*labels, job.shown_state_at(at))] += 1
            return
        self.finished[(*labels, state)] += 1
        if state == FAILED:
            self.failures[(*labels, job.fail_kind)] += 1
        elif length is not None:
            self.synthesized_characters[labels] += length


def labels_of(job: SimulatedJob) -> JobLabels:
    """The labels of a job, as its record first shows them."""
    return (
        "unknown" if job.lacks("job_type") else job.job_type,
        "unknown" if job.lacks("tts_service_enum") else job.tts_service_enum,
    )


class Truth:
    """Answers questions about one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._baseline: float | None = None
        self._forgotten = Sums()
        self._forgotten_newest = -math.inf
        world.on_forget = self._forget

    def count_from(self, baseline: float) -> None:
        """Keep jobs created from here on in the sums when they are forgotten; call it before they are."""
        if self._forgotten_newest >= baseline:
            raise ValueError("jobs created after this baseline are forgotten already")
        self._baseline = baseline
        self._forgotten = Sums()

    def jobs(
        self, since: float = -math.inf, until: float = math.inf, at: float = math.inf
    ) -> list[SimulatedJob]:
        """The remembered jobs created in [since, until] and shown by the list until ``at``, oldest first."""
        return [
            job
            for job in self.world.jobs
            if since * 1000 <= job.created_ms <= until * 1000
            and job.listed <= at
            and job.listed < job.deleted
        ]

    def expected(self, since: float = -math.inf, until: float | None = None, at: float | None = None) -> Sums:
        """Sums over the jobs created in [since, until] seconds as they are at ``at`` (default: now)."""
        at = self.world.now if at is None else at
        sums = Sums()
        for job in self.jobs(since, math.inf if until is None else until, at):
            sums.add(job, at)
        if self._forgotten_newest < since:
            return sums
        if until is not None or since != (-math.inf if self._baseline is None else self._baseline):
            raise ValueError("jobs of that time are forgotten: call count_from(since) early, leave out until")
        for name in Sums.__struct_fields__:
            getattr(sums, name).update(getattr(self._forgotten, name))
        return sums

    def _forget(self, job: SimulatedJob) -> None:
        self._forgotten_newest = max(self._forgotten_newest, job.created_ms / 1000)
        if job.listed < job.deleted and (self._baseline is None or job.created_ms >= self._baseline * 1000):
            self._forgotten.add(job, self.world.now)


class JobFacts(TypedDict):
    """One job in the JSON answer; ``null`` for what never happens."""

    job_id: str
    created_ms: int
    job_type: str
    tts_service_enum: str
    """As first shown."""
    tts_service_enum_now: str
    """As shown at the time that is asked about."""
    asset_id: str
    text_length: int
    started: float | None
    finished: float | None
    final_state: str
    fail_kind: str
    fail_msg: str
    listed: float | None
    deleted: float | None
    lacks: list[str]


def job_facts(job: SimulatedJob, at: float) -> JobFacts:
    """Everything about a job, ready for JSON."""
    return {
        "job_id": job.job_id,
        "created_ms": job.created_ms,
        "job_type": job.job_type,
        "tts_service_enum": job.tts_service_enum,
        "tts_service_enum_now": job.shown_service_at(at),
        "asset_id": job.asset_id,
        "text_length": job.text_length,
        "started": _finite(job.started),
        "finished": _finite(job.finished),
        "final_state": job.final_state,
        "fail_kind": job.fail_kind,
        "fail_msg": job.fail_msg,
        "listed": _finite(job.listed),
        "deleted": _finite(job.deleted),
        "lacks": sorted(job.quirk.without) if job.quirk else [],
    }


def rows(sums: Sums) -> dict[str, list[list[str | int]]]:
    """Sums ready for JSON: by name, rows of label values with the number last."""
    return {
        name: [[*labels, number] for labels, number in sorted(getattr(sums, name).items())]
        for name in Sums.__struct_fields__
    }


def _finite(at: float) -> float | None:
    return at if math.isfinite(at) else None
