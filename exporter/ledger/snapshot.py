"""What the rest of the program may know of one target's books: an immutable value, made after a commit.

``metrics.py`` turns it into samples, the status page into tables. Times are milliseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from exporter.failures import UnclassifiedTemplate

LabelSet = tuple[str, str]
"""(job_type, tts_service_enum)"""
SeriesLabels = tuple[str, str, str]
"""(job_type, tts_service_enum, value of the metric's third label): which series of a metric is meant"""


class Exemplar(NamedTuple):
    """The latest job behind a number."""

    job_id: str
    """As the API sent it: untrusted text."""
    value: int
    """What it added: 1 for a count; for an observation its value, in the unit of the histogram's bounds."""
    at: int
    """When it was seen so, on the API's clock."""


class Histogram(NamedTuple):
    """Observations by bucket."""

    bounds: tuple[float, ...]
    """Upper bounds, ascending, without +Inf: characters or milliseconds of jobs, seconds of requests."""
    counts: tuple[int, ...]
    """Observations per bucket, not cumulated; one longer than ``bounds``: the last one is +Inf."""
    sum: float
    """In the unit of ``bounds``."""
    exemplars: Mapping[int, Exemplar] = {}
    """By place of the bucket in ``counts``; only since this process started."""


class JobGauges(msgspec.Struct, frozen=True):
    """Present states; known only once the books have a baseline."""

    jobs: Mapping[SeriesLabels, int] | None
    """By (..., job_state): created in the last ``poll.window``; ``None`` until that time has been read."""
    open_jobs: Mapping[SeriesLabels, int]
    oldest_open: Mapping[SeriesLabels, int]
    """Creation time of the oldest open job; no key where there is none."""
    counted_until: int
    """F: everything created before it, and listed within ``overlap``, is counted."""


class Minute(msgspec.Struct, frozen=True):
    """Jobs created in one minute, by what became of them, as docs/status-api.md shows them."""

    start: float
    """Unix seconds."""
    created: int
    finished: int
    failed: int
    expired: int
    open: int


class Activity(msgspec.Struct, frozen=True):
    """For the status page: the last hour as this process saw it."""

    minutes: tuple[Minute, ...] = ()
    """By minute of creation, oldest first."""
    failures: Mapping[str, int] = {}
    """FAILED jobs by class, most frequent first."""
    unclassified: tuple[UnclassifiedTemplate, ...] = ()
    """Most frequent first, since the start of the process."""


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything published about one target."""

    target: str
    region: str
    project_id: str
    """Empty until it is known."""
    api_endpoint: str
    label_sets: tuple[LabelSet, ...] = ()
    """Every label set in use: the documented ones that the filters allow, then those seen, in order."""
    classes: tuple[str, ...] = ()
    """Every ``fail_msg_class`` in use, in rule order, then ``unclassified`` and ``no_message``."""

    first_tried: int | None = None
    """By our own clock, while counting has not begun: it will begin from there (R4)."""
    counting_since: int | None = None
    """When the counters below began (B), for ``_created`` series; ``None`` when that is not known."""
    created: Mapping[LabelSet, int] = {}
    finished: Mapping[SeriesLabels, int] = {}
    failures: Mapping[SeriesLabels, int] = {}
    """By (..., fail_msg_class)"""
    failure_exemplars: Mapping[SeriesLabels, Exemplar] = {}
    """By (..., fail_msg_class); only since this process started."""
    expired: Mapping[SeriesLabels, int] = {}
    """By (..., reason)"""
    synthesized_characters: Mapping[LabelSet, int] = {}
    text_length: Mapping[LabelSet, Histogram] = {}
    duration_upper_bound: Mapping[LabelSet, Histogram] = {}
    duration_lower_bound: Mapping[LabelSet, Histogram] = {}
    gauges: JobGauges | None = None

    anomalies: Mapping[str, int] = {}
    skipped_ms: int = 0
    label_sets_folded: int = 0

    up: bool = False
    polls: Mapping[str, int] = {}
    """By outcome: complete, partial, failed."""
    poll_duration: Histogram | None = None
    """Milliseconds."""
    last_complete_poll: int | None = None
    clock_skew_ms: int | None = None
    """API clock minus ours; ``None`` until an answer carried a usable ``Date``."""
    believed_skew_ms: int | None = None
    """The same for the time that counting goes by, where not all of that ``Date`` is believed (R3)."""
    clocks_disagree: bool = False
    """By more than ``poll.overlap``; or the books are ahead of what the API's clock tells."""
    problem: str = ""
    """Why the last poll was not complete; empty after one that was. One line, may quote the API."""
    last_poll_requests: int = 0
    """List requests of the last poll, or of the one under way so far."""
    poll_budget: int = 0
    """How many it may have made."""
    activity: Activity = Activity()


class PollCost(msgspec.Struct, frozen=True):
    """What one poll cost, in list requests, and what it was allowed."""

    requests: int = 0
    budget: int = 0
