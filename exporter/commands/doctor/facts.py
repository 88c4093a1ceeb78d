"""What the interview learned of one target's API. ``None`` means: not known."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, timedelta, timezone, tzinfo
from typing import Final, Literal

import msgspec

from exporter.cloud import TimeFormat, parse_time
from exporter.commands.doctor.answers import RawJob, RawPage
from exporter.commands.doctor.asking import Unanswered
from exporter.config import Config, TargetConfig

FormatVerdict = Literal["honoured", "ignored", "refused", "misread", "unknown"]
OffsetUnit = Literal["records", "pages", "nothing"]

NO_CHANCE: Final = 100
"""Of so many ways to arrange records, the one in order of time is not there by chance."""
LONGEST_STRETCH: Final = 1100
"""Records that the exporter pages through before it cuts a stretch in two, and one page more."""
STRETCH: Final = 4
"""Seconds of the list that the exporter reads to have one of them, at most."""


class FormatFact(msgspec.Struct, frozen=True):
    """What became of ``create_since`` and ``create_until`` in one format."""

    verdict: FormatVerdict
    shift: int = 0
    """Milliseconds from a record's time, read as UTC, to the time at which these bounds find it."""


class CountFact(msgspec.Struct, frozen=True):
    """A short stretch of the list: how many records it has, and what ``count`` said of it."""

    records: int
    count: int | None
    count_of_one: int | None
    """``count`` in the same stretch when a single record was asked for."""


class Facts(msgspec.Struct, kw_only=True):
    """Times are milliseconds since 1970 on the API's clock; those of records as they are read in UTC."""

    target: TargetConfig
    config: Config
    """That of the target, or the default one."""
    asked_rate: float = 0.0
    """Requests a second, at most, while it was asked."""
    first_seen: int = 0
    """When the first page came."""
    source: str = ""
    """Where the credentials come from."""
    proxy: str = ""
    project_id: str = ""
    skew: float | None = None
    latency: float | None = None
    """Median, seconds."""
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    expiry: float | None = None
    stopped: str = ""
    """Why nothing more could be asked."""
    unreachable: str = ""
    """Why no answer came, by what is known of the connection."""
    iam: tuple[int, str] | None = None
    """How often the identity service was asked, and its last refusal."""
    accepted: bool = False
    """An answer came that only credentials get that are good."""
    denied: bool = False
    """The credentials are good, but not allowed to list jobs (403)."""
    refused: bool = False
    """The API refuses the credentials (401)."""
    unavailable: bool = False
    """There are no credentials."""

    first: RawPage = RawPage()
    """The first page of the whole list."""
    listed: tuple[RawJob, ...] = ()
    """The first records of the whole list: of further pages, too, where a page holds few."""
    limits: dict[int, int | Unanswered] = {}
    """By ``limit`` asked for: how many records came."""
    more: bool | None = None
    """Are there records behind the first page?"""
    others: bool | None = None
    """Where no offset leads behind the first page: do the time filters find other jobs?"""
    offset_refused: bool = False
    """The API refuses the first offset behind the first page, though there may be more."""
    isolated: bool | None = None
    isolation_unknown: str = ""
    """Why."""
    without_user: RawPage | Unanswered | None = None
    """The first page without ``X-App-UserId``, where one is configured."""
    formats: dict[TimeFormat, FormatFact] = {}
    style: TimeFormat | None = None
    """The format that is used for all further bounds."""
    shift: int | None = None
    """As in ``FormatFact``, where it is known."""
    begin_inclusive: bool | None = None
    end_inclusive: bool | None = None
    counted: CountFact | None = None
    offset_unit: OffsetUnit | None = None
    deepest: int | None = None
    """The largest ``offset`` that was seen to give a record."""
    capped_at: int | None = None
    """The smallest ``offset`` that gave none, though there are more records."""
    cap_refused: bool = False
    cap_counted: bool = False
    """``count`` ends with the list: it says that there are no more."""
    densest: int | None = None
    """Most jobs that a second was found to have, where they all must fit on one page."""
    newest: int | None = None
    oldest: int | None = None
    seen: dict[str, int | None] = {}
    """By stretch such as ``7d``: jobs of it, as the API counts them."""
    some: dict[str, bool] = {}
    """By stretch: is there any?"""
    lookup: Literal["found", "ignored", "not found"] | Unanswered | None = None
    strange_lookup: Literal["empty", "ignored"] | Unanswered | None = None
    """A ``job_id`` that does not exist."""
    types: dict[str, int | Unanswered | None] = {}
    """By ``job_type`` asked for: how many records came; ``None`` where others came."""
    filtered: dict[str, bool | Unanswered | None] = {}
    """By filter of the target: do only jobs that match come? ``None``: records do not show it."""
    sample: tuple[RawJob, ...] = ()
    """Records of the first pages."""

    @property
    def time_filters(self) -> bool | None:
        """Do they work, in any format?"""
        verdicts = [fact.verdict for fact in self.formats.values()]
        return "honoured" in verdicts or (None if "unknown" in verdicts or not verdicts else False)

    @property
    def count_is_right(self) -> bool:
        """Is ``count`` the number of records that match, as far as it was compared?"""
        counted = self.counted
        return counted is not None and counted.count == counted.count_of_one == counted.records

    @property
    def order(self) -> Literal["newest first", "oldest first", "none"] | None:
        times = [time for job in self.listed if (time := as_utc(job)) is not None]
        equals = Counter(times).values()
        if math.factorial(len(times)) < NO_CHANCE * math.prod(map(math.factorial, equals)):
            return None
        if times == sorted(times, reverse=True):
            return "newest first"
        return "oldest first" if times == sorted(times) else "none"

    @property
    def needs_one_page(self) -> bool:
        """No page follows from the one before: what is asked for must fit on one."""
        if self.order == "none" or (self.offset_unit in ("pages", "nothing") and self.more is not False):
            return True
        return self.capped_at is not None and self.capped_at < LONGEST_STRETCH

    @property
    def page_size(self) -> int | None:
        """How many records a page really holds; ``None`` where the list is shorter than a page."""
        size = len(self.first.jobs)
        more = self.others if self.more is None else self.more
        return size if more or (more is None and (self.first.count or 0) > size) else None


def as_utc(job: RawJob, zone: tzinfo = UTC) -> int | None:
    """When a record says that it was created."""
    return parse_time(job.create_time, zone)[0]


def lacks_zone(job: RawJob) -> bool:
    """Does the time name no zone?"""
    return as_utc(job) != as_utc(job, timezone(timedelta(hours=1)))
