"""A list request as text -> what it asks for: every documented rule, and the switches that change one.

Knows the parameters of the list; must not know jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from starlette.datastructures import QueryParams

from . import wire
from .auth import RequestRefusedError
from .simulation import Options

_BAD_PARAMETER: Final = "MSS.000000003"
_JOB_TYPES: Final = ("AUDITION", "ASYNC_JOB", "WEBSOCKET")
_SERVICES: Final = ("TTS_LLM", "TTS_LLM_VC", "TTS_LAB", "TTS_LAB_GPU", "GPU_CLONE", "TTS_LLM_VQ")


class Query(NamedTuple):
    """A list request that is valid."""

    limit: int
    offset: int
    since_ms: int | None
    until_ms: int | None
    job_id: str | None
    job_type: str | None
    service: str | None
    business_type: str | None
    owners: float = 1.0
    """The jobs of so large a share of all users are listed."""


def parse_query(params: QueryParams, options: Options) -> Query:
    """Check every documented rule. Raises RequestRefusedError with the illegal parameter's name."""
    types = (*_JOB_TYPES, "PRELOAD") if options.preload_filter else _JOB_TYPES
    query = Query(
        limit=_whole(params, "limit", 10, 1, options.largest_limit),
        offset=_whole(params, "offset", 0, 0, 2147483647),
        since_ms=_time(params, "create_since", options),
        until_ms=_time(params, "create_until", options),
        job_id=_effective(params.get("job_id"), "job_id", options),
        job_type=_effective(_one_of(params, "job_type", types), "job_type", options),
        service=_effective(_one_of(params, "tts_service_enum", _SERVICES), "tts_service_enum", options),
        business_type=_effective(params.get("business_type"), "business_type", options),
    )
    if not options.time_filters_work:
        return query._replace(since_ms=None, until_ms=None)
    since, until = query.since_ms, query.until_ms
    if since is not None and not options.since_inclusive:
        since += 1
    if until is not None and not options.until_inclusive:
        until -= 1
    return query._replace(since_ms=since, until_ms=until)


def _effective(value: str | None, name: str, options: Options) -> str | None:
    return None if name in options.ignored_filters else value


def _whole(params: QueryParams, name: str, default: int, least: int, most: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and least <= int(text[:12]) <= most):
        raise bad_parameter(name, f"must be a whole number from {least} to {most}")
    return int(text)


def _time(params: QueryParams, name: str, options: Options) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    try:
        return wire.read_time(
            text,
            options.zone_hours,
            options.filter_time_formats,
            zone_ignored=options.filter_zone_ignored,
        )
    except ValueError:
        if options.other_filter_times == "ignored":
            return None
        raise bad_parameter(name, "is not a time") from None


def _one_of(params: QueryParams, name: str, values: Sequence[str]) -> str | None:
    text = params.get(name)
    if text is not None and text not in values:
        raise bad_parameter(name, f"must be one of {', '.join(values)}")
    return text


def bad_parameter(name: str, rule: str) -> RequestRefusedError:
    return RequestRefusedError(400, _BAD_PARAMETER, f"Invalid parameter {name}: {rule}")
