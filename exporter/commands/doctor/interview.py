"""Which questions are asked, in which order, and what is learned from each answer.

Some thirty requests: each later one uses what the earlier ones showed. Must not judge: see ``findings``.
"""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from exporter.cloud import TimeFormat
from exporter.commands.doctor.answers import RawJob, RawPage
from exporter.commands.doctor.asking import StoppedError, Unanswered
from exporter.commands.doctor.depth import DepthQuestions
from exporter.commands.doctor.facts import STRETCH, CountFact, Facts, FormatFact, as_utc, lacks_zone
from exporter.commands.doctor.questions import NO_JOBS, STEPS
from exporter.config import zone
from exporter.errors import ExporterError
from exporter.ledger import JOB_TYPES
from exporter.units import MINUTE, SECOND

HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
STRETCHES: Final = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
FORMATS: Final[tuple[TimeFormat, ...]] = ("rfc3339", "unix", "unix_ms")
_LIMITS: Final = (100, 50, 20, 10)
_BEYOND: Final = 1000
"""A ``limit`` larger than is documented."""
_AHEAD: Final = 10 * MINUTE
"""A record that is newer than the API's clock by more has another zone."""
_QUARTER: Final = 15 * MINUTE
"""Zones differ by multiples of this."""
_SMALL: Final = 10
"""Records of a page when their number does not matter."""
_PAGES: Final = 3
"""Of the whole list, for the shares of fields, classes and voices."""


class Interview(DepthQuestions):
    """Asks about one target."""

    async def run(self) -> Facts:
        """Ask everything that can be asked."""
        try:
            await self._ask()
        except StoppedError as stop:
            self.facts.stopped, self.facts.unreachable = str(stop), stop.unreachable
            self.facts.refused, self.facts.unavailable = stop.refused, stop.unavailable
            self.facts.denied = stop.denied
        facts, events = self.facts, self._events
        facts.accepted = self._asker.answered or events.accepted
        facts.requests, facts.retries, facts.throttled = events.requests, events.retries, events.throttled
        facts.expiry = events.expiry
        answered = events.seconds or events.refusal_seconds
        facts.latency = statistics.median(answered) if answered else None
        facts.iam = events.iam
        facts.skew = statistics.median(self._asker.skews) if self._asker.skews else None
        return facts

    async def _ask(self) -> None:
        for name, ask in PARTS.items():
            self._step(name)
            await ask(self)

    # --- the list as a whole ----------------------------------------------------------------------------

    async def _first_page(self) -> None:
        facts = self.facts
        limits: dict[int, int | Unanswered] = {}
        for limit in _LIMITS:
            answer = await self._asker.list(limit=limit)
            limits[limit] = len(answer.jobs) if isinstance(answer, RawPage) else answer
            if isinstance(answer, RawPage):
                facts.first = answer
                break
            if not answer.by_rule or limit == min(_LIMITS):
                raise StoppedError(ExporterError(answer.text))
        facts.first_seen = self._asker.now_ms()
        if facts.first.jobs:
            behind = await self._asker.list(limit=1, offset=len(facts.first.jobs))
            facts.more = bool(behind.jobs) if isinstance(behind, RawPage) else None
            if facts.more is False and (facts.first.count or 0) > len(facts.first.jobs):
                facts.more = None  # the offset may be what does not work
            if isinstance(behind, Unanswered) and behind.by_rule:
                facts.offset_refused = facts.first.count != len(facts.first.jobs)
                facts.more = None if facts.offset_refused else False
            large = await self._asker.list(limit=_BEYOND)
            limits[_BEYOND] = large if isinstance(large, Unanswered) else len(large.jobs)
        facts.limits = limits
        facts.listed = await self._listed()
        timed = sorted((time, place) for place, job in enumerate(facts.first.jobs) if (time := as_utc(job)))
        if timed:
            self._known = facts.first.jobs[timed[len(timed) // 2][1]]

    async def _listed(self) -> tuple[RawJob, ...]:
        """Enough records to learn the order by, each once: a page may hold very few."""
        size = len(self.facts.first.jobs)
        jobs = dict(zip(_keys(self.facts.first), self.facts.first.jobs, strict=True))
        offsets = range(size, _SMALL, size) if self.facts.more and size > 1 else ()
        for offset in offsets:
            answer = await self._asker.list(limit=self._page(), offset=offset)
            if isinstance(answer, RawPage):
                jobs |= zip(_keys(answer), answer.jobs, strict=True)
        return tuple(jobs.values())

    async def _isolation(self) -> None:
        configs = await self._asker.service_configs()
        if isinstance(configs, Unanswered):
            why = "no permission" if configs.denied else configs.text
            self.facts.isolation_unknown = f"whether IAM users are isolated could not be asked ({why})"
            return
        control = configs.get("sub_account_control_config")
        on = control.get("separately_controlled") if isinstance(control, dict) else None
        self.facts.isolated = on if isinstance(on, bool) else None
        if not isinstance(on, bool):
            self.facts.isolation_unknown = "the answer does not say whether IAM users are isolated"

    async def _user(self) -> None:
        if self.facts.target.app_user_id:
            self.facts.without_user = await self._asker.list_without_user(limit=100)

    # --- time -----------------------------------------------------------------------------------------

    async def _time_filters(self) -> None:
        facts = self.facts
        if not facts.first.jobs:
            return
        facts.formats = {style: await self._format(style) for style in FORMATS}
        honoured = {style: fact for style, fact in facts.formats.items() if fact.verdict == "honoured"}
        if not honoured:
            return
        # A number means one moment; of a text, the zone may be ignored.
        trusted = next((honoured[style] for style in ("unix", "unix_ms") if style in honoured), None)
        facts.shift = (trusted or next(iter(honoured.values()))).shift
        for style, fact in honoured.items():
            if fact.shift != facts.shift:
                facts.formats[style] = FormatFact("misread", fact.shift)
        usable = [style for style in FORMATS if facts.formats[style].verdict == "honoured"]
        configured = facts.target.time_format
        facts.style = configured if configured in usable else usable[0]

    async def _format(self, style: TimeFormat) -> FormatFact:
        past = await self._between(NO_JOBS, NO_JOBS + SECOND, style, limit=1)
        if isinstance(past, Unanswered):
            return FormatFact("refused" if past.by_rule else "unknown")
        if past.jobs:
            return FormatFact("ignored")
        if self._known is None or (read := as_utc(self._known)) is None:
            return FormatFact("unknown")
        for shift in self._shifts(self._known):
            at = read + shift
            near = await self._between(at - SECOND, at + SECOND, style, limit=self._page())
            if isinstance(near, Unanswered):
                return FormatFact("refused" if near.by_rule else "unknown")
            times = [time for job in near.jobs if (time := as_utc(job)) is not None]
            if times and all(abs(time - read) <= 2 * SECOND for time in times):
                return FormatFact("honoured", shift)
        return FormatFact("misread")

    def _shifts(self, job: RawJob) -> list[int]:
        """Likely milliseconds from a record's time, read as UTC, to where bounds find it; likeliest first."""
        newest = max(time for other in self.facts.first.jobs if (time := as_utc(other)) is not None)
        now = self._asker.now_ms()
        seems = -round((newest - now) / _QUARTER) * _QUARTER
        if not lacks_zone(job):
            shifts = [0, seems, -8 * HOUR, 8 * HOUR]
            return list(dict.fromkeys(shifts))
        configured = zone(self.facts.target.time_zone).utcoffset(datetime.fromtimestamp(newest / SECOND, UTC))
        assert configured is not None  # noqa: S101 - every zone of ours has an offset
        shifts = [-round(configured.total_seconds()) * SECOND, 0, seems, -8 * HOUR]
        shifts += [hours * HOUR for hours in range(-14, 13)]
        return [shift for shift in dict.fromkeys(shifts) if newest + shift <= now + _AHEAD]

    async def _visibility(self) -> None:
        facts = self.facts
        if facts.first.jobs and facts.style is None:
            return
        now = self._asker.now_ms()
        for name, length in STRETCHES.items():  # of an empty list too: it may be one of the last days alone
            answer = await self._between(now - length, now, facts.style or facts.target.time_format, limit=1)
            if isinstance(answer, RawPage):
                facts.some[name], facts.seen[name] = bool(answer.jobs), answer.count

    async def _bounds(self) -> None:
        at, known = self._middle(), self._known
        if at is None or known is None:
            return
        for name, since, until in (
            ("begin_inclusive", at, at + SECOND),
            ("end_inclusive", at - SECOND, at),
        ):
            answer = await self._between(since, until, limit=self._page())
            if isinstance(answer, RawPage):
                same = any(job.create_time == known.create_time for job in answer.jobs)
                if same or len(answer.jobs) < len(self.facts.first.jobs):  # a full page may hide it
                    setattr(self.facts, name, same)

    # --- count, offset --------------------------------------------------------------------------------

    async def _count(self) -> None:
        """A stretch with more than one record and less than a page, so that all of them are seen."""
        facts = self.facts
        times = sorted(time for job in facts.first.jobs if (time := as_utc(job)) is not None)
        if self._middle() is None or len(times) < 3:
            return
        shift = facts.shift or 0
        since, until = times[len(times) // 3] + shift, times[2 * len(times) // 3] + shift
        for _ in range(STEPS):
            whole = await self._between(since, until, limit=self._page())
            if isinstance(whole, Unanswered) or len(whole.jobs) < len(facts.first.jobs) or until <= since:
                break
            until = (since + until) // 2
        one = await self._between(since, until, limit=1)
        if not isinstance(whole, RawPage) or not isinstance(one, RawPage):
            return
        seen_whole = len(whole.jobs) < len(facts.first.jobs) or facts.more is False
        if len(whole.jobs) > 1 and seen_whole:
            facts.counted = CountFact(len(whole.jobs), whole.count, one.count)

    async def _offset(self) -> None:
        """Behind a bound that new jobs are beyond: the third record, or the third page?

        Of pages of two the second: the third one begins with the third record.
        """
        facts, size = self.facts, len(self.facts.first.jobs)
        if facts.order in (None, "none") or size < 2 or (size < 3 * _SMALL and facts.more is False):
            return
        until, skipped = None if facts.order == "oldest first" else self._middle(), min(2, size - 1)
        pages = [await self._between(None, until, limit=_SMALL, offset=offset) for offset in (0, skipped)]
        if any(isinstance(page, Unanswered) for page in pages):
            return
        base, later = (_keys(page) for page in pages if isinstance(page, RawPage))
        if later and later == base:
            facts.offset_unit = "nothing"
        elif len(base) > skipped and later[: len(base) - skipped] == base[skipped:]:
            facts.offset_unit = "records"
        elif later and not set(later) & set(base):
            facts.offset_unit = "pages"

    async def _density(self) -> None:
        """Most jobs of a second, halving time where more are: they must fit on a page, if none follows."""
        facts = self.facts
        stretch = next((STRETCHES[name] for name, some in facts.some.items() if some), None)
        if stretch is None or not facts.needs_one_page or not facts.count_is_right:
            return
        length = STRETCH * SECOND
        while length < stretch:
            length *= 2
        since = self._asker.now_ms() // SECOND * SECOND - length
        number = await self._number(since, length)
        while length > STRETCH * SECOND and number:
            length //= 2
            first = await self._number(since, length)
            if first is not None and 2 * first < number:
                since, first = since + length, number - first
            number = first
        number = await self._number(since, length) if number else None
        if number is not None:
            facts.densest = -(-number // STRETCH)

    async def _number(self, since: int, length: int) -> int | None:
        """Jobs of a stretch of whole seconds, as ``count`` says."""
        first, last = since, since + length - SECOND
        first -= SECOND if self.facts.begin_inclusive is False else 0
        last += SECOND if self.facts.end_inclusive is False else 0
        answer = await self._between(first, last, limit=1)
        return answer.count if isinstance(answer, RawPage) else None

    # --- single jobs, filters, records -------------------------------------------------------------------

    async def _lookups(self) -> None:
        facts = self.facts
        job_id = next((job.job_id for job in facts.first.jobs if job.job_id is not None), None)
        if job_id is None:
            return
        answer = await self._asker.list(job_id=job_id, limit=_SMALL)
        if isinstance(answer, Unanswered):
            facts.lookup = answer
        elif answer.jobs:
            facts.lookup = "found" if set(answer.ids) == {job_id} else "ignored"
        else:
            facts.lookup = "not found"
        strange = await self._asker.list(job_id=str(uuid.uuid4()), limit=1)
        facts.strange_lookup = (
            strange if isinstance(strange, Unanswered) else "ignored" if strange.jobs else "empty"
        )

    async def _filters(self) -> None:
        facts = self.facts
        if not facts.first.jobs:
            return
        for job_type in JOB_TYPES:
            answer = await self._asker.list(job_type=job_type, limit=_SMALL)
            if isinstance(answer, Unanswered):
                facts.types[job_type] = answer
            else:
                same = all(job.job_type == job_type for job in answer.jobs)
                facts.types[job_type] = len(answer.jobs) if same else None
        for name, value in msgspec.structs.asdict(facts.target.filters).items():
            if value is None:
                continue
            answer = await self._asker.list(**{name: value}, limit=_SMALL)
            if isinstance(answer, Unanswered):
                facts.filtered[name] = answer
            elif name == "business_type":
                facts.filtered[name] = await self._is_read(name)
            else:
                facts.filtered[name] = all(getattr(job, name) == value for job in answer.jobs)

    async def _is_read(self, name: str) -> bool | None:
        """Is a filter respected whose field no record shows? Asked with a value that no job has."""
        answer = await self._asker.list(**{name: uuid.uuid4().hex}, limit=1)
        return not answer.jobs if isinstance(answer, RawPage) else None

    async def _sample(self) -> None:
        facts = self.facts
        jobs = {key: job for job, key in zip(facts.first.jobs, _keys(facts.first), strict=True)}
        size = len(facts.first.jobs)
        for page in range(1, _PAGES):
            if not facts.more or facts.offset_unit not in (None, "records"):
                break
            answer = await self._asker.list(limit=self._page(), offset=page * size)
            if isinstance(answer, RawPage):
                jobs |= {key: job for job, key in zip(answer.jobs, _keys(answer), strict=True)}
        facts.sample = tuple(jobs.values())


PARTS: Final[dict[str, Callable[[Interview], Awaitable[None]]]] = {
    "list": Interview._first_page,
    "isolation": Interview._isolation,
    "app_user_id": Interview._user,
    "time filters": Interview._time_filters,
    "visibility": Interview._visibility,
    "bounds": Interview._bounds,
    "count": Interview._count,
    "offset": Interview._offset,
    "deep offsets": Interview.ask_depth,
    "density": Interview._density,
    "lookups": Interview._lookups,
    "filters": Interview._filters,
    "records": Interview._sample,
}
"""By name, in the order asked."""


def _keys(answer: RawPage) -> list[object]:
    """By which the records of one page are known on another one."""
    return [job.job_id or job for job in answer.jobs]
