"""Missing jobs: remembered ones that an answer should have shown and did not (R6, R9 of docs/counting.md).

Pure. Such a job was deleted, or the list is wrong for a while. Two decisions depend on which it is: may
"settled until" pass the job, and is an open job given up as vanished? The second cannot be taken back, so it
needs corroboration: answers that show other jobs where this one should be.

A miss is one answer without the job; those of empty answers count only when they are spread over time.
Decided after each miss, from the top:

| misses | absent for | others are shown | verdict |
| --- | --- | --- | --- |
| fewer than 3, or only by lookups | any time | any | WAITED_FOR: blocks "settled until" |
| 3 or more | less than ``overlap`` | any | WAITED_FOR |
| 3 or more | ``overlap`` or more | in this very answer | GONE: an open job has vanished |
| 12 or more | an hour and three ``overlap`` or more | no | GONE |
| 3 or more | ``overlap`` or more | lately, in other windows | EXEMPT: blocks nothing, stays open |
| 3 or more | an hour and three ``overlap`` or more | no | EXEMPT |
| 3 or more | ``overlap`` or more | no | WAITED_FOR: an API that lists nothing at all is at fault |

A job that is exempt already and final is GONE at once; an exempt one never blocks again until it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from exporter.ledger.changes import Rules
from exporter.ledger.job_index import CORROBORATED, EXEMPT, NEVER, UNDATED, UNLISTED, Job, JobIndex

ENOUGH: Final = 3
"""Misses in a row, spread over ``overlap``, after which a job is no longer waited for."""
PATIENCE: Final = 3_600_000
"""A list that shows nothing at all is believed only after this long (milliseconds)."""
NO_END: Final = 1 << 62
EMPTY_ENOUGH: Final = 12
"""Misses in a row, spread over ``PATIENCE``, after which empty answers alone make an open job vanish."""


class MissVerdict(Enum):
    """What one more miss means: see the table above."""

    WAITED_FOR = "waited for"
    EXEMPT = "waived"
    """Windows are complete without it; an open job stays open and is still checked."""
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
        """Jobs that are waited for, with their time of creation: "settled until" does not pass them (R6)."""
        self.look_up_alone: set[str] = set()
        """Open jobs to look up by id: around them the API lists far more than is known, or fails."""
        self.last_nonempty = 0
        """When an answer last had anything in it."""
        self.silence: tuple[int, int] | None = (0, NO_END)
        """The first and the last empty answer since then; unknown before a start, so as long as can be."""
        self._quiet = max(rules.overlap // 3, 3 * rules.interval)
        """How long (milliseconds) a list that shows nothing at all is taken for a quiet one."""
        self._shown_after_all = False
        self._exempt: list[str] = []

    def missed(
        self, job_id: str, job: Job, begun: int, now: int, *, listing: bool, corroborated: bool
    ) -> MissVerdict:
        """Take note of a miss, in an answer to a request made at ``begun``.

        ``listing``: it was a listing, not a lookup by id. ``corroborated``: it showed other jobs.

        ``now`` is surely not before ``begun``: what is measured from there is never too long.
        """
        if job.flags & EXEMPT and not job.open:
            return MissVerdict.GONE
        if corroborated and job.open and not job.flags & CORROBORATED:
            # Misses in empty answers before this one no longer count.
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
        verdict = self._judge(job, begun, corroborated=corroborated)
        if verdict is MissVerdict.WAITED_FOR and not job.flags & EXEMPT:
            self.blocking[job_id] = job.created
            return verdict
        self.blocking.pop(job_id, None)
        if not job.flags & EXEMPT:
            job.flags |= EXEMPT
            self._exempt.append(job_id)
        return verdict if verdict is MissVerdict.GONE else MissVerdict.EXEMPT

    def asked(self, job_ids: Iterable[str], begun: int) -> None:
        """A window with these jobs was listed at ``begun``: missing open ones are not due again at once."""
        for job_id in job_ids:
            job = self._jobs.get(job_id)
            if job is not None and job.open and job.misses:
                job.last_checked = max(job.last_checked, begun)
                self._jobs.changed(job_id)

    def still_look_up_alone(self) -> set[str]:
        """``look_up_alone``, without the jobs that are no longer open."""
        jobs = self._jobs
        self.look_up_alone = {
            job_id for job_id in self.look_up_alone if (job := jobs.get(job_id)) and job.open
        }
        return self.look_up_alone

    def _spacing(self, misses: int) -> int:
        """How long after the first of so many misses another empty answer counts as one more.

        Checks may follow each other closely, or be an hour apart.
        """
        return misses * (self._overlap // ENOUGH if misses < ENOUGH else PATIENCE // EMPTY_ENOUGH)

    def _judge(self, job: Job, now: int, *, corroborated: bool) -> MissVerdict:
        absent = now - job.missing_since
        if job.misses < ENOUGH or absent < self._overlap or not job.flags & UNLISTED:
            return MissVerdict.WAITED_FOR
        patient = absent >= max(PATIENCE, 3 * self._overlap)
        if corroborated or (patient and job.misses >= EMPTY_ENOUGH):
            return MissVerdict.GONE
        # A list that shows nothing at all says little about one job: ten minutes of empty answers
        # are a fault of the API, not the end of every job.
        alive = self.last_nonempty > job.missing_since and not self._silent()
        return MissVerdict.EXEMPT if alive or patient else MissVerdict.WAITED_FOR

    def end(self, job_id: str, job: Job, settled_until: int) -> None:
        """The job was shown after all."""
        self._jobs.changed(job_id)
        job.misses, job.missing_since = 0, 0
        job.flags &= ~(UNLISTED | EXEMPT | CORROBORATED)
        # Nobody knows when it ended: answers that missed it did not show it open either.
        job.last_checked = NEVER
        self._shown_after_all |= self.blocking.pop(job_id, -1) >= settled_until

    def clock_jumped(self, by: int) -> None:
        """The API's time was stale, and came right: nobody was missing for longer because of that."""
        for job_id, job in self._jobs.items():
            if job.misses:
                job.missing_since += by
                self._jobs.changed(job_id)

    def showed_something(self, at: int) -> None:
        """The answer to a request made at ``at`` was not empty: the API lists at all."""
        if self._silent():
            # All misses of a time in which the API listed nothing count as one.
            for job_id in self.blocking:
                job = self._jobs.get(job_id)
                if job is not None and not job.flags & CORROBORATED:
                    job.misses, job.missing_since = 1, max(at, job.missing_since)
                    self._jobs.changed(job_id)
        self.last_nonempty, self.silence = max(self.last_nonempty, at), None

    def _silent(self) -> bool:
        """Were answers empty, and nothing but empty, for too long to be a quiet time?"""
        return self.silence is not None and self.silence[1] - self.silence[0] >= self._quiet

    def take_shown_after_all(self) -> bool:
        """Was a job that is waited for shown? Then the windows that missed it were not complete (R6)."""
        refuted, self._shown_after_all = self._shown_after_all, False
        return refuted

    def take_exempt(self) -> list[str]:
        """Ids that are no longer waited for, since the last call."""
        exempt, self._exempt = self._exempt, []
        return exempt
