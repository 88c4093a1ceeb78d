"""One answer of the list API as it came: which fields a record has, and what stands in them.

The exporter's own records keep only what is counted. Pure: bytes in, values out.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

FIELDS: Final = ("job_id", "create_time", "job_state", "job_type", "tts_service_enum", "text_length")
"""What a record needs to be counted in full."""


class RawJob(msgspec.Struct, frozen=True):
    """One record. A field that is missing, empty or of another type is ``None``."""

    job_id: str | None = None
    create_time: str | int | float | None = None
    """As sent."""
    job_state: str | None = None
    job_type: str | None = None
    tts_service_enum: str | None = None
    text_length: int | None = None
    asset_id: str | None = None
    fail_msg: str | None = None


class RawPage(msgspec.Struct, frozen=True):
    """The records in the order sent, and ``count`` as sent."""

    jobs: tuple[RawJob, ...] = ()
    count: int | None = None

    @property
    def ids(self) -> list[str]:
        return [job.job_id for job in self.jobs if job.job_id is not None]


def read_list(body: bytes) -> RawPage:
    """Raises msgspec.DecodeError, a ValueError, for what is no JSON object."""
    answer = msgspec.json.decode(body, type=dict[str, Any])
    data, count = answer.get("data"), answer.get("count")
    elements = data if isinstance(data, list) else []
    jobs = tuple(_job(element) for element in elements if isinstance(element, dict))
    return RawPage(jobs, count if _is_whole(count) else None)


def _job(element: dict[str, Any]) -> RawJob:
    texts = ("job_state", "job_type", "tts_service_enum", "asset_id", "fail_msg")
    job_id, created, length = element.get("job_id"), element.get("create_time"), element.get("text_length")
    return RawJob(
        job_id=str(job_id) if _is_whole(job_id) else _text(job_id),
        create_time=created if _is_whole(created) or isinstance(created, float) else _text(created),
        text_length=length if _is_whole(length) else None,
        **{name: _text(element.get(name)) for name in texts},
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
