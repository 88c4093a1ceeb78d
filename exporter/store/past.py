"""What a store says of the past, whatever kind of store it is.

It is read beside an exporter that may be writing to it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from exporter.ledger import Job, StoredLedger


class MinuteCount(NamedTuple):
    """Jobs that were created in one minute, with the same labels, last state, and class or reason."""

    jobs: int
    characters: int
    ids: int | None
    """The sum of ``id_number`` of those that have an id; ``None`` where a former version counted."""


class CountedPast(NamedTuple):
    """What one read found of a stretch of creation time."""

    minutes: dict[int, dict[tuple[str, str, str, str], MinuteCount]]
    """Minute since 1970 -> (job_type, tts_service_enum, state, class or reason) -> jobs that ended."""
    open_jobs: dict[str, Job]


class StoredPast(Protocol):
    """The past of one target. Nothing is changed, and no lock is held between two reads."""

    ledger: StoredLedger
    """As it was at the beginning; of its minutes the last only, and maybe without jobs that are final."""

    def read(self, since: int, until: int) -> CountedPast:
        """What is counted now of jobs created from ``since`` to before ``until``: whole minutes, in ms.

        Raises StoreError.
        """
