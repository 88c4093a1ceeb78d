"""Findings about the list: order, times, bounds, count, offset, limit, filters. Pure.

What is unusable here was tried: the exporter does not count exactly on a list like that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from exporter.commands.doctor.asking import Unanswered
from exporter.commands.doctor.facts import LONGEST_STRETCH, STRETCH, Facts, as_utc, lacks_zone
from exporter.commands.doctor.findings import Examine, Finding, differs, not_known, ok, unusable
from exporter.config import zone
from exporter.units import MINUTE, SECOND

_NO_JOB: Final = "no job to learn it from"
_AHEAD: Final = 10 * MINUTE
_PAGE: Final = 100
"""What the exporter asks for."""
_FEW: Final = 10
"""Records by which nobody can tell an order, where their times do not."""
TRUST_COUNT: Final = 'trust_count: "true"'


def newest_and_oldest(facts: Facts) -> Finding:
    """How far back ``verify`` and ``backfill`` can go."""
    if facts.newest is None and facts.oldest is None:
        return not_known("records", _NO_JOB)
    return ok("records", f"newest {_at(facts, facts.newest)}, oldest {_at(facts, facts.oldest)}")


def _at(facts: Facts, time: int | None) -> str:
    if time is None:
        return "not known"
    return f"{datetime.fromtimestamp((time + (facts.shift or 0)) / SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"


def order(facts: Facts) -> Finding:
    """Newest or oldest first: the exporter reads either."""
    if facts.order is None and facts.page_size is not None and len(facts.listed) < _FEW:
        return unusable(
            "order", f"not known: a page holds {facts.page_size}, and there is no other to learn it from"
        )
    if facts.order is None:
        return not_known("order", "too few jobs with different times")
    if facts.order != "none":
        return ok("order", facts.order)
    if facts.time_filters is False:
        return unusable(
            "order", "none, and the time filters do not work: no page follows from the one before"
        )
    return _one_page(facts, "order", "none")


def _one_page(facts: Facts, name: str, text: str, most: int | None = None) -> Finding:
    """No page follows from the one before, so stretches are cut until each fits on one, and count says so."""
    most = min(most or _PAGE, facts.page_size or _PAGE)
    rate, densest = most // STRETCH, facts.densest
    if not facts.count_is_right:
        count_shows = "count does not show" if facts.counted else "it is not known that count shows"
        return unusable(name, f"{text}, and {count_shows} whether a page is all there is")
    if rate < 1:
        return unusable(name, f"{text}, and a page holds {most}: not all jobs of a second fit on it")
    jobs = "job" if rate == 1 else "jobs"
    text = f"{text}: stretches are cut to one page, which count shows; at most {rate} {jobs} a second"
    if densest is not None:
        text += f" (the busiest one found has {densest}); at more, polls stay partial and jobs are lost"
        if densest > rate:
            return unusable(name, text)
    if facts.target.trust_count == "true":
        return ok(name, f"{text}; as configured")
    return differs(name, text, TRUST_COUNT)


def create_time(facts: Facts) -> Finding:
    """Format and zone of ``create_time``."""
    timed = [job for job in facts.first.jobs if as_utc(job) is not None]
    if not timed:
        return not_known(
            "create_time", "no record has a time that can be read" if facts.first.jobs else _NO_JOB
        )
    example = f"such as {timed[0].create_time!r}"
    newest = max(time for job in timed if (time := as_utc(job)) is not None)
    if not lacks_zone(timed[0]):
        ahead = newest - facts.first_seen
        if ahead > _AHEAD or (facts.shift or 0):
            hours = -(facts.shift or -ahead) / (60 * MINUTE)
            return unusable(
                "create_time",
                f"{example}, which is {hours:+.2g} h off: a local time with a wrong zone. Report it to the"
                " service's support",
            )
        return ok("create_time", example)
    return _zoneless(facts, example, newest)


def _zoneless(facts: Facts, example: str, newest: int) -> Finding:
    """A time without a zone: bounds that find a record show the zone, or else the newest record does."""
    offset = zone(facts.target.time_zone).utcoffset(datetime.fromtimestamp(newest / SECOND, UTC))
    configured = 0 if offset is None else round(offset.total_seconds()) * SECOND
    shift = facts.shift
    if shift is None:
        ahead = round((newest - facts.first_seen) / (15 * MINUTE)) * 15 * MINUTE
        if ahead == configured:
            return ok(
                "create_time", f"{example}, without a zone; by the newest job it is {facts.target.time_zone}"
            )
        text = f"{example}, without a zone; by the newest job, if that is new, it is {_zone(ahead)}"
        return differs("create_time", text, f'time_zone: "{_zone(ahead)}"')
    if -shift == configured:
        return ok("create_time", f"{example}, without a zone: {facts.target.time_zone}, as configured")
    return differs(
        "create_time",
        f"{example}, without a zone: it is {_zone(-shift)}; if that changes with the season, name the zone"
        " instead, such as Europe/Berlin",
        f'time_zone: "{_zone(-shift)}"',
    )


def _zone(offset: int) -> str:
    if not offset:
        return "UTC"
    hours, minutes = divmod(abs(offset) // MINUTE, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"


def time_filters(facts: Facts) -> Finding:
    """Which formats ``create_since`` and ``create_until`` honour."""
    if not facts.first.jobs:
        return not_known("time filters", _NO_JOB)
    each = ", ".join(f"{name} {fact.verdict}" for name, fact in facts.formats.items())
    target = facts.target
    if facts.style is not None:
        if not target.time_filters:
            lines = ["time_filters: true"]
            lines += [] if facts.style == target.time_format else [f"time_format: {facts.style}"]
            return differs("time filters", f"{each}: they work, and save requests", *lines)
        if facts.style != target.time_format:
            return differs("time filters", each, f"time_format: {facts.style}")
        return ok("time filters", each)
    if facts.time_filters is None:
        return not_known("time filters", each)
    return _without_time_filters(facts, each)


def _without_time_filters(facts: Facts, each: str) -> Finding:
    """Then the whole list is read in each poll."""
    text = f"{each}: none works, so the whole list is read in every poll"
    if facts.capped_at is not None:
        return unusable("time filters", f"{text}; but it ends at offset {facts.capped_at}")
    if facts.offset_unit in ("pages", "nothing") and facts.more is not False:
        return unusable("time filters", f"{text}; but offset does not count records")
    if facts.target.time_filters:
        return differs("time filters", text, "time_filters: false")
    return ok("time filters", f"{text}, as configured")


def bounds(facts: Facts) -> Finding:
    """Whether a job of a bound's own second is listed: the exporter's windows overlap by more than that."""
    if facts.begin_inclusive is None or facts.end_inclusive is None:
        why = "time filters do not work" if facts.time_filters is False else "too few jobs to learn it from"
        return not_known("bounds", why)
    begin, end = ("inclusive" if it else "exclusive" for it in (facts.begin_inclusive, facts.end_inclusive))
    text = f"create_since {begin}, create_until {end}"
    if facts.begin_inclusive and facts.end_inclusive:
        return ok("bounds", text)
    return differs("bounds", f"{text}; windows overlap, nothing to configure")


def count(facts: Facts) -> Finding:
    """Whether ``count`` is the number of the records that match."""
    counted = facts.counted
    if counted is None:
        why = "time filters do not work" if facts.time_filters is False else "too few jobs to compare with"
        return not_known("count", why)
    if counted.count is None:
        return differs("count", "not sent: the ends of lists cost a request more; nothing to configure")
    configured = facts.target.trust_count
    if counted.count == counted.count_of_one == counted.records:
        if configured == "false":
            lines = () if facts.needs_one_page else ("trust_count: auto",)
            return differs("count", "it is right: trusting it saves requests", *lines)
        return ok("count", "the number of records that match")
    if min(counted.count, counted.count_of_one or 0) > counted.records:
        text = f"{counted.count} for {counted.records} records: it does not respect the time filters"
    elif counted.count_of_one == 1:
        text = "the number of records on the page"
    else:
        text = f"{counted.count} for {counted.records} records"
    if configured == "false":
        return ok("count", f"{text}; not trusted, as configured")
    return differs("count", text, 'trust_count: "false"')


def offset(facts: Facts) -> Finding:
    """Whether ``offset`` counts records."""
    if facts.offset_unit == "records" or facts.more is False:
        return ok("offset", "by record" if facts.offset_unit else "the list fits on one page")
    if facts.offset_unit is None:
        return not_known("offset", "the list has no order, or too few jobs")
    return _one_page(facts, "offset", "it counts pages" if facts.offset_unit == "pages" else "it is ignored")


def limit(facts: Facts) -> Finding:
    """The largest ``limit`` that is accepted, and the page that really comes."""
    sizes = {asked: got for asked, got in facts.limits.items() if isinstance(got, int)}
    refused = [asked for asked in facts.limits if asked not in sizes and asked <= _PAGE]
    if refused:
        return unusable(
            "limit",
            f"{min(refused)} and more is refused, {max(sizes, default=0)} accepted: the exporter sends 100",
        )
    largest = f"at most {max(sizes, default=_PAGE)} was accepted"
    page = facts.page_size
    if page is None or page >= _PAGE:
        return ok("limit", f"{largest}; a page of 100 holds {'100' if page else 'the whole list'}")
    if page == 1:
        return unusable("limit", f"{largest}; a page holds one record: none can show which one it follows")
    return differs("limit", f"{largest}; a page of 100 holds {page}: more requests, nothing to configure")


def deep_offset(facts: Facts) -> Finding:
    """The deepest ``offset``: the exporter cuts stretches at 1,000 records, so it needs no deeper one."""
    if facts.deepest is None:
        return not_known("deep offset", _NO_JOB)
    size, said = len(facts.first.jobs), facts.first.count or 0
    if facts.capped_at is None and facts.more is None and facts.page_size:
        others = f"count says that there are {said}" if said > size else "the time filters find others"
        return not_known("deep offset", f"{size} gives no record, though {others}")
    if facts.capped_at is None:
        return ok("deep offset", f"{facts.deepest} gives a record, and none was refused")
    how = "refused" if facts.cap_refused else "empty"
    text = f"{facts.deepest} gives a record, {facts.capped_at} is {how} though there are more"
    if facts.capped_at >= LONGEST_STRETCH:
        return differs("deep offset", f"{text}: stretches are cut before, nothing to configure")
    if facts.cap_counted:
        return unusable("deep offset", f"{text}, and count ends there, too: jobs would be missed")
    return _one_page(facts, "deep offset", text, facts.capped_at)


def lookup(facts: Facts) -> Finding:
    """Whether ``job_id`` finds one job: asked for open jobs that a list no longer shows."""
    found, strange = facts.lookup, facts.strange_lookup
    if found is None:
        return not_known("job_id", "no record has an id" if facts.first.jobs else _NO_JOB)
    if isinstance(found, Unanswered):
        return (unusable if found.by_rule else not_known)("job_id", f"a lookup is refused: {found.text}")
    if found == "not found":
        return unusable("job_id", "a lookup does not find a job that the list shows")
    if "ignored" in (found, strange):
        return differs("job_id", "the filter is ignored: open jobs are listed instead, nothing to configure")
    if isinstance(strange, Unanswered):
        return differs(
            "job_id", f"a lookup finds its job; of one that does not exist it is refused: {strange.text}"
        )
    return ok("job_id", "a lookup finds its job, and nothing for one that does not exist")


def job_types(facts: Facts) -> Finding:
    """Whether a list of one ``job_type`` can be had; PRELOAD is documented in answers only."""
    if not facts.types:
        return not_known("job_type", _NO_JOB)
    parts = []
    for name, got in facts.types.items():
        what = (
            "refused"
            if isinstance(got, Unanswered)
            else "ignored"
            if got is None
            else "works"
            if got
            else "empty"
        )
        parts.append(f"{name} {what}")
    text = ", ".join(parts)
    wrong = [name for name, got in facts.types.items() if got is None or isinstance(got, Unanswered)]
    if [name for name in wrong if name != "PRELOAD"]:
        return differs("job_type", f"{text}; it only helps to read seconds with very many jobs")
    return ok("job_type", text)


def filters(facts: Facts) -> Finding | None:
    """Whether the configured filters do what they say."""
    if not facts.filtered:
        return None
    for name, works in facts.filtered.items():
        if works is False:
            return unusable("filters", f"{name} is ignored: other jobs would be counted, too; remove it")
        if isinstance(works, Unanswered) and works.by_rule:
            return unusable("filters", f"{name} is refused: {works.text}: correct or remove it")
    for name, works in facts.filtered.items():
        if isinstance(works, Unanswered) or works is None:
            why = "records do not show it" if works is None else works.text
            return not_known("filters", f"{name}: {why}")
    return ok("filters", f"{', '.join(facts.filtered)}: only jobs that match are listed")


FINDINGS: Final[tuple[Examine, ...]] = (
    newest_and_oldest,
    order,
    create_time,
    time_filters,
    bounds,
    count,
    offset,
    limit,
    deep_offset,
    lookup,
    job_types,
    filters,
)
