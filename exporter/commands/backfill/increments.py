"""What one job adds to which series. Pure. The names are those of the exporter's own metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from exporter.exposition import bound_label
from exporter.ledger import FAILED, FINAL_STATES, SUCCEED, LabelSet, Record

CREATED: Final = "metastudio_tts_jobs_created"
FINISHED: Final = "metastudio_tts_jobs_finished"
FAILURES: Final = "metastudio_tts_job_failures"
TEXT_LENGTH: Final = "metastudio_tts_text_length_characters"
SYNTHESIZED: Final = "metastudio_tts_synthesized_characters"
FAMILIES: Final = {
    CREATED: "counter",
    FINISHED: "counter",
    FAILURES: "counter",
    TEXT_LENGTH: "histogram",
    SYNTHESIZED: "counter",
}
"""In the order they are written: name -> type."""


class SeriesKey(NamedTuple):
    """One series: its family, what the sample's name has behind it, and its labels but the common ones."""

    family: str
    suffix: str
    job_type: str
    tts_service_enum: str
    label: str = ""
    """Name of a third label."""
    value: str = ""


class Increments:
    """Makes increments of records."""

    def __init__(
        self,
        buckets: tuple[int, ...],
        classify: Callable[[str], str],
        fit: Callable[[LabelSet], LabelSet],
    ) -> None:
        """``fit``: the label set that is counted under, where there are too many."""
        self._buckets = buckets
        self._les = (*(bound_label(bound) for bound in buckets), "+Inf")
        self._classify = classify
        self._fit = fit

    def of(self, record: Record) -> Iterator[tuple[SeriesKey, int]]:
        """Every series that the job appears in, also those that it adds 0 to."""
        labels = self._fit((record.job_type, record.tts_service_enum))
        state, length = record.job_state, record.text_length
        yield SeriesKey(CREATED, "_total", *labels), 1
        if length is not None:
            first = bisect_left(self._buckets, length)
            for place, le in enumerate(self._les):
                yield SeriesKey(TEXT_LENGTH, "_bucket", *labels, "le", le), int(place >= first)
            yield SeriesKey(TEXT_LENGTH, "_sum", *labels), length
            yield SeriesKey(TEXT_LENGTH, "_count", *labels), 1
        if state not in FINAL_STATES:
            return
        yield SeriesKey(FINISHED, "_total", *labels, "job_state", state), 1
        if state == SUCCEED:
            yield SeriesKey(SYNTHESIZED, "_total", *labels), length or 0
        elif state == FAILED:
            fail_class = self._classify(record.fail_msg)
            yield SeriesKey(FAILURES, "_total", *labels, "fail_msg_class", fail_class), 1
