"""Remembered jobs that complete looks did not show: who is waited for, and for how long (rules R6, R9).

Pure. Such a job may be deleted, or the list may be wrong for a while. Two things hang on that: whether a
stretch of time is settled without it, and whether an open job is given up. The second cannot be taken back,
so it takes more: answers that show other jobs where this one should be.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from exporter.ledger.changes import Rules
from exporter.ledger.job_index import CORROBORATED, EXEMPT, NEVER, UNDATED, UNLISTED, Job, JobIndex

ENOUGH: Final = 3
"""Looks in a row without a job, spread over ``overlap``, after which it is no longer waited for."""
PATIENCE: Final = 3_600_000
"""A list that shows nothing at all is believed only after this long (milliseconds)."""
NO_END: Final = 1 << 62
EMPTY_ENOUGH: Final = 12
"""Looks in a row, spread over ``PATIENCE``, after which empty answers alone make an open job vanish."""


class Verdict(Enum):
    """What one more look without a job means."""

    WAITED_FOR = "waited for"
    EXEMPT = "waived"
    """Windows are complete without it; an open job stays open, and is looked at."""
    GONE = "gone"
    """It is not listed any more: an open job has vanished."""


class MissingJobs:
    """See the module."""

    def __init__(self, rules: Rules, jobs: JobIndex) -> None:
        self._overlap = rules.overlap
        self._jobs = jobs
        self.blocking = {
            name: job.created for name, job in jobs.items() if job.misses and not job.flags & EXEMPT
        }
        """Jobs that are waited for, by creation: they hold the settled time (R6)."""
        self.look_up_alone: set[str] = set()
        """Open jobs around which much more is listed than is known of, or nothing can be: asked for alone."""
        self.last_nonempty = 0
        """When an answer last had anything in it."""
        self.silence: tuple[int, int] | None = (0, NO_END)
        """The first and the last empty answer after that; before a start, nobody knows."""
        self._quiet = max(rules.overlap // 3, 3 * rules.interval)
        """How long (milliseconds) a list that shows nothing at all is taken for a quiet one."""
        self._refuted = False
        self._exempt: list[str] = []

    def missed(
        self, job_id: str, job: Job, begun: int, now: int, *, listing: bool, corroborated: bool
    ) -> Verdict:
        """A complete look at ``begun`` did not show the job; ``evident``: but it showed others.

        ``now`` is surely not before ``begun``: what is measured from there is never too long.
        """
        if job.flags & EXEMPT and not job.open:
            return Verdict.GONE
        if corroborated and job.open and not job.flags & CORROBORATED:
            # What empty answers said before counts no more.
            job.misses, job.flags = 0, job.flags | CORROBORATED
        if not corroborated:
            self.silence = (begun if self.silence is None else self.silence[0], begun)
        if not job.misses:
            job.misses, job.missing_since = 1, now
        elif corroborated or begun >= job.missing_since + self._spacing(job.misses):
            job.misses += 1
        if listing or job.flags & UNDATED:
            job.flags |= UNLISTED
        if job.open and (corroborated or not listing):
            job.last_checked = max(job.last_checked, begun)
        self._jobs.changed(job_id)
        verdict = self._verdict(job, begun, corroborated=corroborated)
        if verdict is Verdict.WAITED_FOR and not job.flags & EXEMPT:
            self.blocking[job_id] = job.created
            return verdict
        self.blocking.pop(job_id, None)
        if not job.flags & EXEMPT:
            job.flags |= EXEMPT
            self._exempt.append(job_id)
        return verdict if verdict is Verdict.GONE else Verdict.EXEMPT

    def asked(self, job_ids: Iterable[str], begun: int) -> None:
        """A stretch with these jobs was listed at ``begun``. Open ones it did not show wait for the next."""
        for job_id in job_ids:
            job = self._jobs.get(job_id)
            if job is not None and job.open and job.misses:
                job.last_checked = max(job.last_checked, begun)
                self._jobs.changed(job_id)

    def still_look_up_alone(self) -> set[str]:
        """``crowded``, without the jobs that are not open any more."""
        jobs = self._jobs
        self.look_up_alone = {
            job_id for job_id in self.look_up_alone if (job := jobs.get(job_id)) and job.open
        }
        return self.look_up_alone

    def _spacing(self, misses: int) -> int:
        """How long after the first of so many misses another empty answer counts as one more.

        Looks may follow each other closely, or end for an hour in which nobody asked.
        """
        return misses * (self._overlap // ENOUGH if misses < ENOUGH else PATIENCE // EMPTY_ENOUGH)

    def _verdict(self, job: Job, now: int, *, corroborated: bool) -> Verdict:
        absent = now - job.missing_since
        if job.misses < ENOUGH or absent < self._overlap or not job.flags & UNLISTED:
            return Verdict.WAITED_FOR
        patient = absent >= max(PATIENCE, 3 * self._overlap)
        if corroborated or (patient and job.misses >= EMPTY_ENOUGH):
            return Verdict.GONE
        # A list that shows nothing at all says little about one job: ten minutes of empty answers
        # are a fault of the API, not the end of every job.
        alive = self.last_nonempty > job.missing_since and not self._silent()
        return Verdict.EXEMPT if alive or patient else Verdict.WAITED_FOR

    def end(self, job_id: str, job: Job, settled_until: int) -> None:
        """The job was shown after all."""
        self._jobs.changed(job_id)
        job.misses, job.missing_since = 0, 0
        job.flags &= ~(UNLISTED | EXEMPT | CORROBORATED)
        # When it ended, nobody knows: looks that did not show it did not show it open either.
        job.last_checked = NEVER
        self._refuted |= self.blocking.pop(job_id, -1) >= settled_until

    def showed_something(self, at: int) -> None:
        """The answer to a request made at ``at`` was not empty: the API lists at all."""
        if self._silent():
            # What was missed in a silence of the whole list counts as one look, not as many.
            for job_id in self.blocking:
                job = self._jobs.get(job_id)
                if job is not None and not job.flags & CORROBORATED:
                    job.misses, job.missing_since = 1, max(at, job.missing_since)
                    self._jobs.changed(job_id)
        self.last_nonempty, self.silence = max(self.last_nonempty, at), None

    def _silent(self) -> bool:
        """Were answers empty, and nothing but empty, for too long to be a quiet time?"""
        return self.silence is not None and self.silence[1] - self.silence[0] >= self._quiet

    def take_refuted(self) -> bool:
        """Was a job that is waited for shown? Then the windows that missed it were not complete (R6)."""
        refuted, self._refuted = self._refuted, False
        return refuted

    def take_exempt(self) -> list[str]:
        """Ids that are no longer waited for, since the last call."""
        waived, self._exempt = self._exempt, []
        return waived
