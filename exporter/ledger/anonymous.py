"""Identities for records that come without a ``job_id`` (the last part of rule R1).

Pure. Such a record is known by what it has (creation time, type, voice, WebSocket id) and by its ordinal
among equals. Two equal records cannot be told apart, so only their number counts: a state that was booked
under one ordinal is matched first, finished records come before open ones, and nothing is booked twice.
This is outside the guarantee of the books, and counted as ``missing_job_id``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from exporter.ledger.jobs import JobBook
from exporter.ledger.model import FINAL_STATES, Record


def identify(records: Iterable[Record], jobs: JobBook) -> Iterator[tuple[str, Record]]:
    """The identity of each record without ``job_id`` in one complete window."""
    equals: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.job_id is None and not record.malformed:
            equals[record.key].append(record)
    for key, group in equals.items():
        yield from _match(key, group, jobs)


def _match(key: str, group: list[Record], jobs: JobBook) -> Iterator[tuple[str, Record]]:
    free = list(_ordinals(key, len(group), jobs))
    rest = []
    for record in sorted(group, key=lambda record: record.job_state not in FINAL_STATES):
        same = [
            name
            for name in free
            if (job := jobs.get(name)) and not job.open and job.state == record.job_state
        ]
        if record.job_state in FINAL_STATES and same:
            free.remove(same[0])
            yield same[0], record
        else:
            rest.append(record)
    # What is left goes to open jobs first, then to identities not seen before.
    free.sort(key=lambda name: (job := jobs.get(name)) is None or not job.open)
    yield from zip(free, rest, strict=False)


def _ordinals(key: str, count: int, jobs: JobBook) -> Iterator[str]:
    """Every identity known for ``key``, and as many as there are records."""
    ordinal = 0
    while ordinal < count or jobs.get(f"{key}:{ordinal}") is not None:
        yield f"{key}:{ordinal}"
        ordinal += 1
