"""Every corner that the documents leave open, as switches of the simulator, and what doctor says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Corner(NamedTuple):
    """One way in which an API may be."""

    options: Mapping[str, Any] = {}
    world: Mapping[str, Any] = {}
    finding: str = ""
    """The finding that speaks of it."""
    verdict: str = "ok"
    config: tuple[str, ...] = ()
    """Lines proposed for it."""


TRUST_COUNT = 'trust_count: "true"'
RFC, UNIX, UNIX_MS = "rfc3339", "unix", "unix_ms"

CORNERS: Mapping[str, Corner] = {
    "documented": Corner(finding="order"),
    "oldest-first": Corner({"order": "oldest"}, finding="order"),
    "no-order": Corner({"order": "random"}, finding="order", verdict="differs", config=(TRUST_COUNT,)),
    # times
    "milliseconds": Corner({"time_format": "rfc3339_ms"}, {"milliseconds": True}, "create_time"),
    "offset-in-times": Corner({"time_format": "offset", "zone_hours": 8}, finding="create_time"),
    "unix-times": Corner({"time_format": "unix"}, finding="create_time"),
    "unix-ms-times": Corner({"time_format": "unix_ms"}, {"milliseconds": True}, "create_time"),
    "naive-utc": Corner({"time_format": "naive"}, finding="create_time"),
    "naive-china": Corner(
        {"time_format": "naive", "zone_hours": 8}, {}, "create_time", "differs", ('time_zone: "+08:00"',)
    ),
    "blank-india": Corner(
        {"time_format": "blank", "zone_hours": 5.5}, {}, "create_time", "differs", ('time_zone: "+05:30"',)
    ),
    "naive-america": Corner(
        {"time_format": "naive", "zone_hours": -5}, {}, "create_time", "differs", ('time_zone: "-05:00"',)
    ),
    "false-utc": Corner({"time_format": "false_utc", "zone_hours": 8}, {}, "create_time", "unusable"),
    "false-utc-west": Corner({"time_format": "false_utc", "zone_hours": -5}, {}, "create_time", "unusable"),
    # bounds
    "only-unix": Corner(
        {"filter_time_formats": [UNIX]}, {}, "time filters", "differs", ("time_format: unix",)
    ),
    "only-unix-ms": Corner(
        {"filter_time_formats": [UNIX_MS]}, {}, "time filters", "differs", ("time_format: unix_ms",)
    ),
    "only-rfc3339": Corner({"filter_time_formats": [RFC]}, {}, "time filters"),
    "only-unix-others-ignored": Corner(
        {"filter_time_formats": [UNIX], "other_filter_times": "ignored"},
        {}, "time filters", "differs", ("time_format: unix",),
    ),
    "no-format": Corner(
        {"filter_time_formats": []}, {}, "time filters", "differs", ("time_filters: false",)
    ),
    "no-time-filters": Corner(
        {"time_filters_work": False}, {}, "time filters", "differs", ("time_filters: false",)
    ),
    "bounds-in-local-time": Corner(
        {"filter_zone_ignored": True, "zone_hours": 8, "time_format": "offset"},
        {}, "time filters", "differs", ("time_format: unix",),
    ),
    "exclusive-begin": Corner({"since_inclusive": False}, {}, "bounds", "differs"),
    "exclusive-end": Corner({"until_inclusive": False}, {}, "bounds", "differs"),
    "exclusive-ends": Corner(
        {"since_inclusive": False, "until_inclusive": False}, {}, "bounds", "differs"
    ),
    # count
    "count-of-all": Corner(
        {"count_respects_filters": False}, {}, "count", "differs", ('trust_count: "false"',)
    ),
    "count-of-page": Corner({"count": "page"}, {}, "count", "differs", ('trust_count: "false"',)),
    "count-zero": Corner({"count": "zero"}, {}, "count", "differs", ('trust_count: "false"',)),
    "no-count": Corner({"count": "none"}, {}, "count", "differs"),
    # pages
    "clipped-pages": Corner({"limit_clip": 37}, {}, "limit", "differs"),
    "pages-of-two": Corner({"limit_clip": 2}, finding="limit", verdict="differs"),
    "pages-of-two-no-order": Corner({"limit_clip": 2, "order": "random"}, {}, "order", "unusable"),
    "pages-of-two-by-page": Corner({"limit_clip": 2, "offset_counts": "pages"}, {}, "offset", "unusable"),
    "pages-of-two-over-again": Corner({"limit_clip": 2, "offset_counts": "nothing"}, {}, "order", "unusable"),
    "pages-of-three-no-order": Corner({"limit_clip": 3, "order": "random"}, {}, "order", "unusable"),
    "refused-limit": Corner({"largest_limit": 50}, {}, "limit", "unusable"),
    "large-limit": Corner({"largest_limit": 1000}, {}, "limit"),
    "offset-by-page": Corner({"offset_counts": "pages"}, {}, "offset", "differs", (TRUST_COUNT,)),
    "offset-ignored": Corner({"offset_counts": "nothing"}, {}, "offset", "differs", (TRUST_COUNT,)),
    "deep-offsets-empty": Corner({"max_offset": 1200}, {}, "deep offset", "differs"),
    "deep-offsets-refused": Corner(
        {"max_offset": 1200, "deep_offsets": "refused"}, {}, "deep offset", "differs"
    ),
    "shallow-offsets-empty": Corner({"max_offset": 300}, {}, "deep offset", "differs", (TRUST_COUNT,)),
    "shallow-offsets-refused": Corner(
        {"max_offset": 300, "deep_offsets": "refused"}, {}, "deep offset", "differs", (TRUST_COUNT,)
    ),
    "shallow-offsets-end-count": Corner(
        {"max_offset": 300, "count_stops_at_max_offset": True}, {}, "deep offset", "unusable"
    ),
    "two-jobs-shown-and-no-count": Corner({"max_offset": 2, "count": "none"}, {}, "order", "unusable"),
    "deep-offsets-end-count": Corner(
        {"max_offset": 1200, "count_stops_at_max_offset": True}, {}, "deep offset", "differs"
    ),
    # filters
    "ignored-job-id": Corner({"ignored_filters": ["job_id"]}, {}, "job_id", "differs"),
    "ignored-job-type": Corner({"ignored_filters": ["job_type"]}, {}, "job_type", "differs"),
    "preload-filter": Corner({"preload_filter": True}, {}, "job_type"),
    # records
    "no-job-ids": Corner({}, {"no_job_id": 1.0}, "fields", "differs"),
    "some-job-ids-missing": Corner({}, {"no_job_id": 0.2}, "fields", "differs"),
    "no-create-times": Corner({}, {"no_create_time": 1.0}, "create_time", "not known"),
    "some-create-times-missing": Corner({}, {"no_create_time": 0.2}, "fields", "differs"),
    "no-job-ids-and-no-count": Corner({"count": "none"}, {"no_job_id": 1.0}, "fields", "unusable"),
    "no-job-ids-and-no-create-times": Corner(
        {}, {"no_job_id": 1.0, "no_create_time": 0.2}, "fields", "unusable"
    ),
    "no-text-lengths": Corner({}, {"no_text_length": 1.0}, "fields", "differs"),
    "unknown-values": Corner({}, {"unknown_type": 0.3, "unknown_service": 0.3}, "values", "differs"),
    # who asks
    "isolated": Corner({"isolated": True}, {}, "visibility", "unusable"),
    "isolated-own-jobs": Corner({"isolated": True, "own_share": 0.5}, {}, "isolation", "differs"),
    "isolated-not-said": Corner(
        {"isolated": True, "service_configs": "denied"}, {}, "visibility", "unusable"
    ),
    "configs-denied": Corner({"service_configs": "denied"}, {}, "isolation", "not known"),
    "configs-missing": Corner({"service_configs": "missing"}, {}, "isolation", "not known"),
}  # fmt: skip
