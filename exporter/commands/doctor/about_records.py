"""Findings about records: missing fields, unknown values, failures, voices, what counting costs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Final

from msgspec.structs import replace

from exporter.commands.check import estimates
from exporter.commands.doctor.answers import FIELDS
from exporter.commands.doctor.facts import Facts
from exporter.commands.doctor.findings import Examine, Finding, differs, not_known, ok, unusable
from exporter.commands.series import SCRAPE_SECONDS, SCRAPES_A_DAY, estimate_series
from exporter.config import spelled
from exporter.failures import UNCLASSIFIED, Classifier
from exporter.ledger import FAILED, FINAL_STATES, JOB_TYPES, PROCESSING, TTS_SERVICES, WAITING

_STATES: Final = (WAITING, PROCESSING, *FINAL_STATES)
_SHOWN: Final = 3
_SHARE_NOTABLE: Final = 0.05


def fields(facts: Facts) -> Finding:
    """Which fields records lack."""
    jobs = facts.sample
    if not jobs:
        return not_known("fields", "no job to learn it from")
    missing = {name: sum(getattr(job, name) is None for job in jobs) for name in FIELDS}
    lacking = {name: number for name, number in missing.items() if number}
    if not lacking:
        return ok("fields", f"{len(jobs)} records have them all")
    text = ", ".join(f"{name} in {number} of {len(jobs)}" for name, number in lacking.items())
    why = _cannot_do_without(facts, lacking.keys())
    if why:
        return unusable("fields", f"missing: {text}; {why}")
    return differs("fields", f"missing: {text}; nothing to configure")


def _cannot_do_without(facts: Facts, lacking: Collection[str]) -> str:
    """Why jobs cannot be told apart without these; empty where they can."""
    if facts.time_filters is False and {"job_id", "create_time"} & set(lacking):
        return "and without time filters such a job cannot be told from those before it"
    if any(job.job_id is None and job.create_time is None for job in facts.sample):
        return "and nothing tells apart jobs that have neither an id nor a time"
    if "job_id" in lacking and facts.counted is not None and not facts.count_is_right:
        return "and only a right count shows that none of them slipped from one page to another"
    return ""


def values(facts: Facts) -> Finding:
    """Values that the documentation does not know."""
    known = {"job_state": _STATES, "job_type": JOB_TYPES, "tts_service_enum": TTS_SERVICES}
    if not facts.sample:
        return not_known("values", "no job to learn it from")
    parts = []
    for name, names in known.items():
        found = {value for job in facts.sample if (value := getattr(job, name)) is not None} - set(names)
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            shown = ", ".join(repr(value) for value in sorted(found)[:_SHOWN])
            parts.append(f"{name} {shown}{more}, {_what_becomes_of(name, facts)}")
    if not parts:
        return ok("values", "all are documented ones")
    return differs("values", f"not documented: {'; '.join(parts)}")


def _what_becomes_of(name: str, facts: Facts) -> str:
    """Of a value that is not documented."""
    if name != "job_state":
        return "a label of its own, or other where it is no plain name"
    age = spelled(facts.config.poll.max_job_age)
    return (
        "shown as unknown and counted as open: where that state is final, the job is given up as expired"
        f" after max_job_age ({age})"
    )


def failures(facts: Facts) -> Finding:
    """Share of failures that no rule classifies."""
    messages = [job.fail_msg or "" for job in facts.sample if job.job_state == FAILED]
    if not messages:
        return not_known("failures", f"none in {len(facts.sample)} records")
    classes = Counter(map(Classifier(facts.config.failure_rules).classify, messages))
    number = classes[UNCLASSIFIED]
    text = f"{number} of {len(messages)} unclassified"
    if number > _SHARE_NOTABLE * len(messages):
        return differs("failures", f"{text}: `classify` proposes rules for them")
    return ok("failures", text)


def most_used_voices(facts: Facts) -> Finding:
    """The voices most used."""
    used = Counter(job.asset_id for job in facts.sample if job.asset_id is not None)
    if not used:
        return not_known("voices", "no record names one")
    top = ", ".join(f"{name} ({number})" for name, number in used.most_common(_SHOWN))
    return ok("voices", f"{len(used)} in {len(facts.sample)} records; most used: {top}")


def cost(facts: Facts) -> Finding:
    """What this configuration will cost: requests, series, samples."""
    estimate = next(one for one in estimates(facts.config) if one.target == facts.target.name)
    requests = estimate.total
    if not facts.target.time_filters or facts.time_filters is False:
        page, polls = max(len(facts.first.jobs), 1), 60 / facts.config.poll.interval
        requests = polls * max(-(-(facts.first.count or facts.deepest or 0) // page), 1)
    _, (series,) = estimate_series(replace(facts.config, targets=(facts.target,)))
    text = (
        f"about {requests:.0f} requests a minute and one per {facts.page_size or 100} new jobs,"
        f" {series.first} to {series.full} series,"
        f" {series.full * SCRAPES_A_DAY / 1e6:.1f} million samples a day at a scrape every {SCRAPE_SECONDS} s"
    )
    if requests > estimate.limit:
        return differs(
            "cost", f"{text}; rate_limit allows {estimate.limit:g}: a list is read over several polls"
        )
    return ok("cost", text)


FINDINGS: Final[tuple[Examine, ...]] = (fields, values, failures, most_used_voices, cost)
