"""One job of the simulated service: everything that is true of it, from birth to deletion.

Pure values. Times are seconds since 1970 UTC on the simulator's clock; ``inf`` means never.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

WAITING: Final = "WAITING"
PROCESSING: Final = "PROCESSING"
SUCCEED: Final = "SUCCEED"
FAILED: Final = "FAILED"

_MASK: Final = (1 << 64) - 1
_SCRAMBLE: Final = 0x9E3779B97F4A7C15  # odd, so multiplying by it modulo 2**64 can be undone
_UNSCRAMBLE: Final = pow(_SCRAMBLE, -1, 1 << 64)
_TAIL: Final = 0xD6E8FEB86659FD93


class Quirk(msgspec.Struct):
    """What is odd about one record as the list shows it."""

    job_id: str | None = None
    """This id instead of the generated one."""
    without: frozenset[str] = frozenset()
    """Names of fields that the record lacks."""
    odd_state: str | None = None
    """A state the documentation does not know, shown instead of PROCESSING."""
    regress_at: float = math.inf
    """From then on the finished job is shown as PROCESSING again."""
    relabel_at: float = math.inf
    relabel_to: str = ""
    """From ``relabel_at`` on shown as ``tts_service_enum``."""


class SimulatedJob(msgspec.Struct, gc=False):
    """The truth about one job."""

    number: int
    """16 bits of the world, 32 of the second of birth, 16 counting within it: unique, and gives the id."""
    created_ms: int
    """Creation time as the service stores and filters it, milliseconds."""
    job_type: str
    tts_service_enum: str
    asset_id: str
    text_length: int
    started: float
    finished: float
    final_state: str
    listed: float
    """When the list begins to show it."""
    deleted: float = math.inf
    fail_msg: str = ""
    fail_kind: str = ""
    quirk: Quirk | None = None

    @property
    def job_id(self) -> str:
        """The id, whether the list shows it or not."""
        if self.quirk is not None and self.quirk.job_id is not None:
            return self.quirk.job_id
        return id_of(self.number)

    def lacks(self, field: str) -> bool:
        """Whether the record comes without this field."""
        return self.quirk is not None and field in self.quirk.without

    def state_at(self, now: float) -> str:
        """What is true, whatever the list shows."""
        if now < self.started:
            return WAITING
        return PROCESSING if now < self.finished else self.final_state

    def shown_state_at(self, now: float) -> str:
        """What the list shows."""
        state = self.state_at(now)
        if self.quirk is not None:
            if now >= self.quirk.regress_at and now >= self.finished:
                state = PROCESSING
            if state == PROCESSING and self.quirk.odd_state is not None:
                return self.quirk.odd_state
        return state

    def shown_service_at(self, now: float) -> str:
        """What the list shows as ``tts_service_enum``."""
        if self.quirk is not None and now >= self.quirk.relabel_at:
            return self.quirk.relabel_to
        return self.tts_service_enum

    def visible_at(self, now: float) -> bool:
        """Whether the list has it."""
        return self.listed <= now < self.deleted


def position(job: SimulatedJob) -> tuple[int, int]:
    """Order of the list, oldest first."""
    return job.created_ms, job.number


def id_of(number: int) -> str:
    """A job id in UUID form. The number can be read back from it, so nobody needs a million-entry index."""
    digits = f"{number * _SCRAMBLE & _MASK:016x}{(number ^ _TAIL) * _TAIL & _MASK:016x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:30]}"


def number_of(job_id: str) -> int | None:
    """The number inside an id made by ``id_of``; ``None`` for any other text."""
    try:
        digits = job_id[0:8] + job_id[9:13] + job_id[15:18] + job_id[20]
        number = int(digits, 16) * _UNSCRAMBLE & _MASK
    except (ValueError, IndexError):
        return None
    return number if id_of(number) == job_id else None
