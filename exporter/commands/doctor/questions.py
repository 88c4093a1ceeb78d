"""What every question needs: the facts so far, bounds in the format that works, the size of a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from exporter.cloud import TimeFormat, format_time
from exporter.commands.doctor.answers import RawJob, RawPage
from exporter.commands.doctor.asking import Asker, AskEvents, Unanswered
from exporter.commands.doctor.facts import Facts, as_utc
from exporter.config import Config, TargetConfig

NO_JOBS: Final = 946_684_800_000
"""A second of the year 2000, in which no job was created."""
STEPS: Final = 9
"""Requests to find the deepest offset or the oldest record, at most."""


class Questions:
    """Asks about one target."""

    def __init__(
        self,
        config: Config,
        target: TargetConfig,
        asker: Asker,
        events: AskEvents,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``step`` is called with the name of what is asked next."""
        self.facts = Facts(target=target, config=config, asked_rate=asker.rate)
        self._asker = asker
        self._events = events
        self._step = step
        self._known: RawJob | None = None
        """A record with a time, from the middle of the first page."""

    async def _between(
        self, since: int | None, until: int | None, style: TimeFormat | None = None, **pairs: object
    ) -> RawPage | Unanswered:
        style = style or self.facts.style
        if style is not None:
            if since is not None:
                pairs["create_since"] = format_time(since, style, up=False)
            if until is not None:
                pairs["create_until"] = format_time(until, style, up=True)
        return await self._asker.list(**pairs)

    def _middle(self) -> int | None:
        """A time in the middle of the first page, by which bounds find records; ``None`` without any."""
        read = None if self._known is None else as_utc(self._known)
        return None if read is None or self.facts.style is None else read + (self.facts.shift or 0)

    def _page(self) -> int:
        """The ``limit`` that is accepted."""
        return next(limit for limit, got in self.facts.limits.items() if isinstance(got, int))
