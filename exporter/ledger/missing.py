"""Missing jobs: remembered ones that an answer should have shown and did not (R6, R9, docs/counting.md).

Pure. Such a job was deleted, or the list is wrong for a while. Two decisions depend on which it is: may
"settled until" pass the job, and is an open job given up as vanished? The second cannot be taken back, so it
needs corroboration: answers that show other jobs where this one should be.

A miss is one answer without the job. How it is counted, the first line that fits:

    misses so far              missed by                   it counts
    -------------------------  --------------------------  ----------------------------------------------
    none                       any answer                  as the first miss
    none of them corroborated  a listing; the job is open  as the first miss: those before count no more
    any                        a listing                   as one more
    any                        an empty listing, a lookup  as one more when they are spread (``_spacing``)

What the job is from then on, the first line that fits:

    missing                                       other jobs are shown  verdict
    --------------------------------------------  --------------------  ---------------------------------
    TOO_SHORT: fewer than 3 misses, for less      anywhere or nowhere   UNCERTAIN
    than ``overlap``, or only by lookups
    VERY_LONG: LONG, and 12 misses or more        anywhere or nowhere   GONE
    SOME_TIME or LONG                             HERE, in this answer  GONE
    SOME_TIME or LONG                             ELSEWHERE, since the  EXEMPT
                                                  first miss
    LONG: for an hour and three ``overlap``       NOWHERE               EXEMPT
    SOME_TIME: for less than that                 NOWHERE               UNCERTAIN: an API that lists nothing
                                                                        at all is at fault

An exempt job never becomes uncertain again, until it is shown; one that is final as well is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from exporter.ledger.job_index import CORROBORATED, EXEMPT, MISSED_IN_LISTING, NEVER, UNDATED, Job, JobIndex
from exporter.ledger.settings import LedgerSettings

ENOUGH: Final = 3
"""Misses in a row, spread over ``overlap``, after which a job may be exempt or gone."""
PATIENCE: Final = 3_600_000
"""A list that shows nothing at all is believed only after this long (milliseconds)."""
NO_END: Final = 1 << 62
EMPTY_ENOUGH: Final = 12
"""Misses in a row, spread over ``PATIENCE``, after which empty answers alone make an open job vanish."""


class MissedBy(Enum):
    """Which answer did not show the job."""

    LOOKUP = auto()
    """One to a question for its id."""
    EMPTY_LISTING = auto()
    """A window that showed nothing."""
    LISTING = auto()
    """A window that showed other jobs: that corroborates the miss."""


class MissingFor(Enum):
    """How long, and how often, a job is missing."""

    TOO_SHORT = auto()
    SOME_TIME = auto()
    LONG = auto()
    VERY_LONG = auto()


class Others(Enum):
    """Where the list shows other jobs."""

    HERE = auto()
    ELSEWHERE = auto()
    NOWHERE = auto()


class MissVerdict(Enum):
    """What a missing job is."""

    UNCERTAIN = auto()
    """No window is complete without it: it blocks "settled until"."""
    EXEMPT = auto()
    """Windows are complete without it; an open job stays open and is still checked."""
    GONE = auto()
    """It is not listed any more: an open job has vanished."""


def miss_verdict(missing_for: MissingFor, others: Others) -> MissVerdict:
    """The second table above."""
    match missing_for, others:
        case MissingFor.TOO_SHORT, _:
            return MissVerdict.UNCERTAIN
        case (MissingFor.VERY_LONG, _) | (_, Others.HERE):
            return MissVerdict.GONE
        case (_, Others.ELSEWHERE) | (MissingFor.LONG, _):
            return MissVerdict.EXEMPT
    return MissVerdict.UNCERTAIN


class MissingJobs:
    """The missing jobs of one target, and what is known of the list that misses them."""

    def __init__(self, settings: LedgerSettings, jobs: JobIndex) -> None:
        self._overlap = settings.overlap
        self._jobs = jobs
        self.blocking = {
            name: job.created for name, job in jobs.items() if job.misses and not job.flags & EXEMPT
        }
        """Uncertain jobs, with their time of creation: "settled until" does not pass the earliest (R6)."""
        self.look_up_alone: set[str] = set()
        """Open jobs to look up by id: around them the API lists far more than is known, or fails."""
        self.last_nonempty = 0
        """When an answer last showed anything."""
        self.empty_answers: tuple[int, int] | None = (0, NO_END)
        """When the first and the last empty answer since then came; at a start: as far apart as can be."""
        self._quiet_time = max(settings.overlap // 3, 3 * settings.interval)
        """How long (milliseconds) a list may show nothing at all before that is taken for a fault."""
        self.shown_after_all = False
        """Was an uncertain job shown since ``take_shown_after_all``?"""
        self._exempt: list[str] = []

    def missed(self, job_id: str, job: Job, begun: int, now: int, missed_by: MissedBy) -> MissVerdict:
        """Take note of a miss, in an answer to a request made at ``begun``.

        ``now`` is surely not before ``begun``: what is measured from there is never too long.
        """
        if job.flags & EXEMPT and not job.open:
            return MissVerdict.GONE
        corroborated = missed_by is MissedBy.LISTING
        if not corroborated:
            self.empty_answers = (begun if self.empty_answers is None else self.empty_answers[0], begun)
        self._count(job, begun, now, missed_by)
        if job.open and missed_by is not MissedBy.EMPTY_LISTING:
            job.last_checked = max(job.last_checked, begun)
        self._jobs.changed(job_id)
        verdict = miss_verdict(self._missing_for(job, begun), self._others(job, missed_by))
        if job.flags & EXEMPT:
            return MissVerdict.EXEMPT if verdict is MissVerdict.UNCERTAIN else verdict
        if verdict is MissVerdict.UNCERTAIN:
            self.blocking[job_id] = job.created
        else:
            self.blocking.pop(job_id, None)
            job.flags |= EXEMPT
            self._exempt.append(job_id)
        return verdict

    def _count(self, job: Job, begun: int, now: int, missed_by: MissedBy) -> None:
        """The first table above."""
        corroborated = missed_by is MissedBy.LISTING
        if corroborated and job.open and not job.flags & CORROBORATED:
            job.misses, job.flags = 0, job.flags | CORROBORATED
        if not job.misses:
            job.misses, job.missing_since = 1, now
        elif corroborated or begun >= job.missing_since + self._spacing(job.misses):
            job.misses += 1
        if missed_by is not MissedBy.LOOKUP or job.flags & UNDATED:
            job.flags |= MISSED_IN_LISTING

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

    def _missing_for(self, job: Job, now: int) -> MissingFor:
        absent = now - job.missing_since
        if job.misses < ENOUGH or absent < self._overlap or not job.flags & MISSED_IN_LISTING:
            return MissingFor.TOO_SHORT
        if absent < max(PATIENCE, 3 * self._overlap):
            return MissingFor.SOME_TIME
        return MissingFor.VERY_LONG if job.misses >= EMPTY_ENOUGH else MissingFor.LONG

    def _others(self, job: Job, missed_by: MissedBy) -> Others:
        if missed_by is MissedBy.LISTING:
            return Others.HERE
        # Ten minutes of empty answers are a fault of the API, not the end of every job.
        alive = self.last_nonempty > job.missing_since and not self._lists_nothing()
        return Others.ELSEWHERE if alive else Others.NOWHERE

    def shown_again(self, job_id: str, job: Job, settled_until: int) -> None:
        """The job is missing no longer."""
        self._jobs.changed(job_id)
        job.misses, job.missing_since = 0, 0
        job.flags &= ~(MISSED_IN_LISTING | EXEMPT | CORROBORATED)
        # Nobody knows when it ended: answers that missed it did not show it open either.
        job.last_checked = NEVER
        self.shown_after_all |= self.blocking.pop(job_id, -1) >= settled_until

    def clock_jumped(self, by: int) -> None:
        """The API's time was stale and came right, ``by`` milliseconds later: no job was missing so long."""
        for job_id, job in self._jobs.items():
            if job.misses:
                job.missing_since += by
                self._jobs.changed(job_id)

    def showed_something(self, at: int) -> None:
        """The answer to a request made at ``at`` was not empty: the API lists at all."""
        if self._lists_nothing():
            # All misses of a time in which the API listed nothing count as one.
            for job_id in self.blocking:
                job = self._jobs.get(job_id)
                if job is not None and not job.flags & CORROBORATED:
                    job.misses, job.missing_since = 1, max(at, job.missing_since)
                    self._jobs.changed(job_id)
        self.last_nonempty, self.empty_answers = max(self.last_nonempty, at), None

    def _lists_nothing(self) -> bool:
        """Were all answers empty for too long to be a quiet time?"""
        if self.empty_answers is None:
            return False
        first, last = self.empty_answers
        return last - first >= self._quiet_time

    def take_shown_after_all(self) -> bool:
        """Was an uncertain job shown? Then the windows that missed it were not complete (R6)."""
        refuted, self.shown_after_all = self.shown_after_all, False
        return refuted

    def take_exempt(self) -> list[str]:
        """Ids that became exempt or are gone, since the last call."""
        exempt, self._exempt = self._exempt, []
        return exempt
