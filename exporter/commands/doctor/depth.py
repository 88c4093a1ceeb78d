"""How deep the list can be read: the deepest offset, where it ends, the oldest and the newest record."""

from __future__ import annotations

from typing import Final

from exporter.commands.doctor.answers import RawJob, RawPage
from exporter.commands.doctor.asking import Unanswered
from exporter.commands.doctor.facts import as_utc
from exporter.commands.doctor.questions import NO_JOBS, STEPS, Questions
from exporter.units import MINUTE, SECOND

_DAY: Final = 1440 * MINUTE


class DepthQuestions(Questions):
    """Asks for what lies behind the first page."""

    async def ask_depth(self) -> None:
        """The deepest offset that is accepted; at the end of the list is its oldest or newest record."""
        facts = self.facts
        if not facts.first.jobs:
            return
        ends = [time for job in facts.first.jobs if (time := as_utc(job)) is not None]
        facts.deepest = len(facts.first.jobs) - 1
        total = facts.first.count or 0
        if self._ends_with_the_first_page(total):
            self._end_with_the_first_page()
        elif facts.offset_unit in (None, "records") and facts.more and total > len(facts.first.jobs) + 1:
            last = await self._at(total - 2)
            if last:
                facts.deepest = total - 2
                ends += [time for job in last if (time := as_utc(job)) is not None]
            else:
                await self._cap(total - 2)
        elif facts.more is not True and facts.order in (None, "none") and ends:
            facts.others = await self._has_others(ends)
            facts.more = None if facts.others else facts.more
        beyond = await self._is_beyond(ends) if ends and facts.capped_at is None else None
        if beyond and facts.more:
            facts.capped_at, facts.cap_counted = total, True
        elif beyond:
            facts.cap_counted = total == len(facts.first.jobs)
            self._end_with_the_first_page()
        elif beyond is False:
            facts.more = False if facts.more is None else facts.more  # count is what is wrong
        whole = facts.deepest >= total - 2 and bool(total) and facts.capped_at is None
        if ends and facts.order == "oldest first":
            facts.oldest, facts.newest = min(ends), max(ends) if whole else None
        elif ends:
            facts.newest = max(ends)
            facts.oldest = min(ends) if whole or facts.more is False else await self._oldest()

    def _ends_with_the_first_page(self, total: int) -> bool:
        """Though there are more: count says so, which is right, or else there is nothing else to read by."""
        facts = self.facts
        if facts.offset_refused:
            return True
        if facts.more is not None or facts.offset_unit not in (None, "records"):
            return False
        return total > len(facts.first.jobs) and (facts.count_is_right or facts.time_filters is False)

    def _end_with_the_first_page(self) -> None:
        facts = self.facts
        facts.more, facts.capped_at = True, len(facts.first.jobs)
        facts.cap_refused = facts.offset_refused

    async def _is_beyond(self, ends: list[int]) -> bool | None:
        """Is there a job behind the last one that offsets lead to? ``None``: it cannot be asked."""
        facts = self.facts
        last = not facts.more or (facts.first.count and facts.deepest == facts.first.count - 2)
        if facts.style is None or not last:
            return None
        shift = facts.shift or 0
        if facts.order == "newest first":
            beyond = await self._between(NO_JOBS, min(ends) + shift - 2 * SECOND, limit=1)
        elif facts.order == "oldest first":
            beyond = await self._between(max(ends) + shift + MINUTE, self._asker.now_ms(), limit=1)
        else:
            return None
        return bool(beyond.jobs) if isinstance(beyond, RawPage) else None

    async def _has_others(self, ends: list[int]) -> bool | None:
        """Is there a job that is older or newer than all of the first page? ``None``: it cannot be asked.

        Newer, but not created after that page was asked for.
        """
        if self.facts.style is None:
            return None
        shift = self.facts.shift or 0
        stretches = (
            (NO_JOBS, min(ends) + shift - 2 * SECOND),
            (max(ends) + shift + 2 * SECOND, self.facts.first_seen - 2 * SECOND),
        )
        answers = [await self._between(*stretch, limit=1) for stretch in stretches if stretch[0] < stretch[1]]
        return any(isinstance(answer, RawPage) and answer.jobs for answer in answers)

    async def _at(self, offset: int) -> tuple[RawJob, ...]:
        # New jobs must not move it: those of the newest page and before stay. A whole page, as a few
        # more may be listed of its newest second.
        times = [time for job in self.facts.first.jobs if (time := as_utc(job)) is not None]
        newest = max(times, default=None)
        bounded = self.facts.style is not None and self.facts.order == "newest first" and newest is not None
        until = (newest or 0) + (self.facts.shift or 0) if bounded else None
        answer = await self._between(None, until, limit=self._page(), offset=offset)
        if isinstance(answer, Unanswered):
            self.facts.cap_refused |= answer.by_rule
            return ()
        return answer.jobs

    async def _cap(self, empty: int) -> None:
        """Between which offsets records end, though ``count`` says that there are more."""
        low = self.facts.deepest or 0
        for step in range(STEPS):
            usual = [cap - 1 for cap in (1000, 10_000) if low < cap - 1 < empty and step < 2]
            middle = usual[0] if usual else (low + empty) // 2
            if not low < middle < empty:
                break
            low, empty = (middle, empty) if await self._at(middle) else (low, middle)
        self.facts.deepest, self.facts.capped_at = low, empty

    async def _oldest(self) -> int | None:
        """Halving time, where no offset leads there: to within a day or so."""
        facts = self.facts
        if facts.style is None or facts.newest is None:
            return None
        shift, begin = facts.shift or 0, NO_JOBS
        some = facts.newest + shift
        for power in range(STEPS):
            at = some - (1 << power) * _DAY
            answer = await self._between(begin, at, limit=1)
            if isinstance(answer, Unanswered):
                return None
            if not answer.jobs:
                return at - shift
        return None
