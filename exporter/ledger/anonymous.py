"""Identities for records that come without a ``job_id`` (the last part of R1, docs/counting.md).

Pure. Such a record is known by what cannot change in a job (``Record.key``: creation time, type, voice,
WebSocket id) and by its number among the remembered jobs that are equal in these. Which of those it is, the
rest decides, what weighs most first:

1. The text length: another one means another job, unless one of the two is not known yet.
2. Service and state, which may change.

Records that are equal in all of this cannot be distinguished, so only their number counts: a final state that
was counted already is matched first, so that nothing is counted twice. Exact counting is not promised for
these records; they are counted as the anomaly ``missing_job_id``.
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
    # Finished records first: of equal ones, these are least likely to be new.
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
    """What speaks against their being one job, what weighs most first; ``None``: they are two."""
    length = _length(record)
    if NEVER not in (length, job.text_length) and length != job.text_length:
        return None
    given_up = job.state == EXPIRED and record.job_state in OPEN_STATES
    went_back = not (job.open or given_up or job.state == record.job_state)
    return went_back, record.tts_service_enum != job.tts_service_enum, length != job.text_length
