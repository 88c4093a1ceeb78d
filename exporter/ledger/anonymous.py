"""Identities for records that come without a ``job_id`` (the last part of rule R1).

Pure. Such a record is known by what it has (creation time, type, voice, WebSocket id) and by its ordinal
among the jobs that are equal in these. Which of them it is, the books tell by the rest: another text length
is another job, unless one of the two is not known, for it may be told later; then by service and state,
which may change. Records that are equal in all of this cannot be told apart, so only their number counts: a
state that was booked is matched first, and nothing is booked twice. This is outside the guarantee of the
books, and counted as ``missing_job_id``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from exporter.ledger.job_index import EXPIRED, NEVER, Job, JobIndex
from exporter.ledger.record import FINAL_STATES, OPEN_STATES, Record


def identify_anonymous(records: Iterable[Record], jobs: JobIndex) -> Iterator[tuple[str, Record]]:
    """The identity of each record without ``job_id`` in one complete window."""
    equals: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.job_id is None and not record.malformed:
            equals[record.key].append(record)
    for key, group in equals.items():
        yield from _match(key, group, jobs)


def _match(key: str, group: list[Record], jobs: JobIndex) -> Iterator[tuple[str, Record]]:
    known: dict[str, Job] = {}
    while (job := jobs.get(f"{key}:{len(known)}")) is not None:
        known[f"{key}:{len(known)}"] = job
    new = len(known)
    # Finished ones first: of equals, these are least likely to be new.
    rest = sorted(group, key=lambda record: record.job_state not in FINAL_STATES)
    for same_state in (True, False):
        free: dict[tuple[object, ...], list[str]] = defaultdict(list)
        for name, job in known.items():
            if same_state or job.open:
                free[job.text_length, job.tts_service_enum, same_state and job.state].append(name)
        unmatched = []
        for record in rest:
            names = free[_length(record), record.tts_service_enum, same_state and record.job_state]
            if names:
                name = names.pop(0)
                del known[name]
                yield name, record
            else:
                unmatched.append(record)
        rest = unmatched
    likely = sorted(
        (cost, place, name)
        for name, job in known.items()
        for place, record in enumerate(rest)
        if (cost := _unlikely(record, job)) is not None
    )
    names_of: dict[int, str] = {}
    for _, place, name in likely:
        if name in known and place not in names_of:
            del known[name]
            names_of[place] = name
    for place, record in enumerate(rest):
        if place not in names_of:
            names_of[place] = f"{key}:{new}"
            new += 1
        yield names_of[place], record


def _length(record: Record) -> int:
    return NEVER if record.text_length is None else record.text_length


def _unlikely(record: Record, job: Job) -> tuple[bool, bool, bool] | None:
    """How much speaks against their being the same, what weighs most first; ``None``: they are not."""
    length = _length(record)
    if NEVER not in (length, job.text_length) and length != job.text_length:
        return None
    given_up = job.state == EXPIRED and record.job_state in OPEN_STATES
    went_back = not (job.open or given_up or job.state == record.job_state)
    return went_back, record.tts_service_enum != job.tts_service_enum, length != job.text_length
