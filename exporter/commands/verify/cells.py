"""The labels by which jobs of one minute are compared, made of what is stored and of what is listed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from exporter.ledger import FAILED, FINAL_STATES, IDS_MASK, UNCOUNTED, LabelSet, Record, split_length
from exporter.store import MinuteCount

EXPIRED: Final = "expired"
"""State of a cell of jobs that were given up, whatever the reason."""


class MinuteCell(NamedTuple):
    """Labels of jobs of one minute."""

    job_type: str
    tts_service_enum: str
    state: str
    """A final one, or ``expired``."""
    fail_class: str
    """Of FAILED jobs; otherwise empty."""

    @property
    def label_set(self) -> LabelSet:
        return self.job_type, self.tts_service_enum

    def __str__(self) -> str:
        return " ".join(filter(None, (self.job_type, self.tts_service_enum, self.state, self.fail_class)))


class Count(NamedTuple):
    """What was counted in a cell."""

    jobs: int
    ids: int | None
    """The sum of their numbers; ``None`` where it is not known."""
    characters: int = 0
    """Of their texts, as far as their lengths were shown when they ended."""
    lengths: Mapping[int, int] = {}
    """Of those created before counting began, by text length, -1 where it was not shown: how many."""


def cell_of(
    record: Record, fit: Callable[[LabelSet], LabelSet], classify: Callable[[str], str]
) -> MinuteCell:
    """Where the exporter would count a job now; an open one that is not open in the store was given up."""
    label_set = fit((record.job_type, record.tts_service_enum))
    state = record.job_state if record.job_state in FINAL_STATES else EXPIRED
    return MinuteCell(*label_set, state, classify(record.fail_msg) if state == FAILED else "")


def cells_of(minute: Mapping[tuple[str, str, str, str], MinuteCount]) -> dict[MinuteCell, Count]:
    """What the store counted in a minute; those given up are one cell for each label set."""
    cells: dict[MinuteCell, Count] = {}
    for (job_type, service, state, detail), count in minute.items():
        detail, length = split_length(detail)
        if detail == UNCOUNTED:
            continue
        final = state in FINAL_STATES
        cell = MinuteCell(job_type, service, state if final else EXPIRED, detail if state == FAILED else "")
        before = cells.get(cell, Count(0, 0))
        known = before.ids is not None and count.ids is not None
        ids = ((before.ids or 0) + (count.ids or 0)) & IDS_MASK if known else None
        lengths = before.lengths
        if length is not None:
            lengths = {**lengths, length: lengths.get(length, 0) + count.jobs}
        cells[cell] = Count(before.jobs + count.jobs, ids, before.characters + count.characters, lengths)
    return cells
