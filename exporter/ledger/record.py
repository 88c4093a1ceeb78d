"""What a job record is, once it has been read, and the values that its fields may have.

Pure values, no I/O. Times are integers: milliseconds since 1970 UTC on the API's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

WAITING: Final = "WAITING"
PROCESSING: Final = "PROCESSING"
SUCCEED: Final = "SUCCEED"
FAILED: Final = "FAILED"
UNKNOWN: Final = "unknown"
OTHER: Final = "other"

OPEN_STATES: Final = (WAITING, PROCESSING, UNKNOWN)
FINAL_STATES: Final = (SUCCEED, FAILED)

JOB_TYPES: Final = ("AUDITION", "ASYNC_JOB", "WEBSOCKET", "PRELOAD")
"""Documented values of ``job_type`` (docs/api.md)."""

TTS_SERVICES: Final = ("TTS_LLM", "TTS_LLM_VC", "TTS_LAB", "TTS_LAB_GPU", "GPU_CLONE", "TTS_LLM_VQ")
"""Documented values of ``tts_service_enum`` (docs/api.md)."""

EXPIRED_REASONS: Final = ("max_age", "vanished")

LABEL_SET: Final = ("job_type", "tts_service_enum")
"""The labels of every metric of jobs, beside the target."""
LabelSet = tuple[str, str]
"""(job_type, tts_service_enum)"""
SeriesLabels = tuple[str, str, str]
"""(job_type, tts_service_enum, value of the metric's third label): which series of a metric is meant"""


class Anomaly(StrEnum):
    """Label ``anomaly`` of ``metastudio_exporter_record_anomalies_total``: a closed set."""

    MISSING_JOB_ID = "missing_job_id"
    BAD_CREATE_TIME = "bad_create_time"
    MISSING_TEXT_LENGTH = "missing_text_length"
    UNKNOWN_STATE = "unknown_state"
    STATE_REGRESSION = "state_regression"
    LABEL_CHANGED = "label_changed"
    OUTSIDE_WINDOW = "outside_window"
    MALFORMED_RECORD = "malformed_record"
    LATE_RECORD = "late_record"


_ANONYMOUS: Final = "\x00anonymous:"


def is_anonymous(identity: str) -> bool:
    """Is it that of a record without ``job_id``, and not an id?"""
    return identity.startswith(_ANONYMOUS)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One job as one answer of the list API showed it. Every field survives being absent there."""

    job_id: str | None
    create_time: int | None
    """Milliseconds since 1970 UTC; ``None`` when absent or unreadable."""
    job_state: str
    """WAITING, PROCESSING, SUCCEED or FAILED; ``unknown`` for anything else."""
    job_type: str
    """As sent when it matches ``[A-Za-z0-9_.-]{1,64}``; ``unknown`` when absent, else ``other``."""
    tts_service_enum: str
    """Like ``job_type``."""
    text_length: int | None = None
    """Characters, >= 0; ``None`` when absent or not a whole number."""
    fail_msg: str = ""
    """Untrusted free text, cut at 4,096 characters; empty when absent."""
    asset_id: str = ""
    websocket_job_id: str = ""
    malformed: str = ""
    """Digest of the JSON text of an element that is not a record at all; empty for a record."""
    other_time: int | None = None
    """A later time that the same text may mean as well, where its zone sets the clocks back."""

    @property
    def key(self) -> str:
        """What tells this element apart from its neighbours on a page.

        Not unique for records without ``job_id``: two of them may be equal in all that they have.
        """
        if self.job_id is not None:
            return self.job_id
        if self.malformed:
            return f"\x00malformed:{self.malformed}"
        return f"{_ANONYMOUS}{self.create_time}:{self.job_type}:{self.asset_id}:{self.websocket_job_id}"


class Page(msgspec.Struct, frozen=True):
    """One valid answer of the list API: its elements in the order sent, and ``count`` as sent."""

    records: tuple[Record, ...]
    count: int | None = None


class JobsQuery(msgspec.Struct, frozen=True):
    """One list request. Both bounds are inclusive (docs/api.md), in milliseconds since 1970 UTC."""

    since: int | None = None
    until: int | None = None
    job_id: str | None = None
    job_type: str | None = None
    """Narrows the target's own filters; used to split a second that holds too many jobs."""
    limit: int = 100
    offset: int = 0
