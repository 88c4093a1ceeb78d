"""The settings that counting depends on: a pure value."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of one target, in milliseconds."""

    interval: int
    overlap: int
    window: int
    max_job_age: int
    max_catch_up: int
    text_length_buckets: tuple[int, ...]
    duration_buckets: tuple[int, ...]
    max_label_sets: int
    classify: Callable[[str], str]
    """``fail_msg`` -> class."""
    time_may_repeat: int
    """How far apart the two times may be that one text means, where the list has no time filters.

    R7, docs/counting.md. Finished jobs are remembered for so much longer: one of the first hour would look
    new in the second.
    """
