"""Reads one window of the list completely, or says why it could not (rules R6, R7).

Knows the list API's paging through ``ledger.reading`` and the clock of its answers, nothing of counting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Protocol

import msgspec
from msgspec.structs import replace

from exporter.errors import ApiError, ErrorKind, ExporterError
from exporter.ledger import JOB_TYPES, WINDOW_MARGIN, JobsQuery, Page, Record, Sighting, floor_second
from exporter.polling.paging import MAX_WINDOW_RECORDS, PAGE_LIMIT, PageMemory, ReadState, WindowRead
from exporter.polling.planner import Window
from exporter.units import SECOND

SECOND_LIMIT = 9_000
"""Records of one single second that are still paged; lists are said to be capped at 10,000."""
ANCHORED = 2
"""Records of the smallest page that shows where it begins."""
PROBE = Window(946_684_800_000, 946_684_801_000)
"""A second of the year 2000, in which nobody made a job: shows what ``count`` and the time filters do."""


class OutsideWindowError(ExporterError):
    """Most of a page lies outside the window asked for (R7)."""


class LookupIgnoredError(ExporterError):
    """The API ignores the filter by ``job_id`` (R9)."""


class BudgetSpentError(ExporterError):
    """The poll has made all the list requests that it may make."""


class SourceClock(Protocol):
    """The API's time, in milliseconds since 1970, as its answers tell it."""

    def now_ms(self) -> int | None:
        """A time that is surely not after now; ``None`` until two answers have told it."""

    def latest_ms(self) -> int | None:
        """A time that is surely not before now."""

    def furthest_ms(self) -> int | None:
        """The latest time that any of the last answers told, believed or not."""

    def reached(self, ms: int) -> None:
        """The API's clock was found to have passed this time by a former run."""

    def undecided(self, tolerance: float) -> bool:
        """Could further answers change much? ``tolerance`` between its clock and ours in seconds."""

    def skew(self, wall: float) -> float | None:
        """API clock minus ``wall``, in seconds."""


class JobSource(Protocol):
    """Where pages come from. Raises ApiError or CredentialsError after its own retries."""

    @property
    def clock(self) -> SourceClock: ...

    @property
    def project_id(self) -> str | None: ...

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page: ...


class SeenPage(msgspec.Struct, frozen=True):
    """What one answer showed, and when."""

    records: tuple[Record, ...]
    sighting: Sighting


class _Fetched(msgspec.Struct, frozen=True):
    page: Page
    begun: int
    ended: int


_PageReply = _Fetched | ApiError | None

Steps = Generator[JobsQuery, _PageReply, None]
"""Reads a window: yields one request after the other and is sent its answer, or ``None`` to be asked anew.

The answer is an error where the page is too large to be read.
"""


class WindowResult(msgspec.Struct):
    """What reading one window brought. Its records are facts also when it is not complete."""

    window: Window
    pages: list[SeenPage] = msgspec.field(default_factory=list)
    """What is not booked yet."""
    complete: bool = False
    listing: tuple[Record, ...] = ()
    """When complete: every record of the window, each once, and some beside it."""
    count: int | None = None
    """How many records the API said the window holds, where that is known to be meant."""
    reason: str = ""
    """Why it is not complete."""
    error: ExporterError | None = None
    """What ended the reading before its time."""
    sighting: Sighting = Sighting(0, 0, None, None)
    """From before the first request to after the last answer, with the bounds that were asked for."""
    requests: int = 0
    repeats: int = 0
    """How often the same window was read before, and was empty."""
    rest: Steps | None = None
    """What is left to read, where the poll's budget ended it: see ``Reader.go_on``."""

    @property
    def begun(self) -> int:
        return self.sighting.begun

    @property
    def inside(self) -> list[Record]:
        """The records of ``listing`` that are in the window: of the others some may be missing.

        One without a time may be either, and is taken to be.
        """
        since, until = self.window
        return [r for r in self.listing if r.create_time is None or since <= r.create_time < until]

    def show(self, page: SeenPage) -> None:
        """One more answer."""
        begun = self.sighting.begun if self.requests else page.sighting.begun
        self.sighting = replace(page.sighting, begun=begun)
        self.requests += 1
        self.pages.append(page)


class Reader:
    """Reads windows of one target and counts the requests they took."""

    def __init__(self, source: JobSource, memory: PageMemory, *, split_by_type: bool) -> None:
        self._source = source
        self.memory = memory
        self._split_by_type = split_by_type
        """False when the target's own filter names a job_type already."""
        self.requests = 0
        """List requests made. One that the client tries again counts once; its rate limit counts each try."""
        self.last_request: int | None = None
        """How many may have been made by the end of this poll; ``None``: any number."""
        self.answers = 0
        """Valid list answers."""

    async def probe(self, deadline: float, *, time_filters: bool = True) -> tuple[Record, ...]:
        """Learn the API's time, whether ``count`` respects the filters, and whether the time filters work.

        Returns the records it showed: without time filters these are jobs like any other.
        """
        if not time_filters:
            return (await self._fetch(JobsQuery(limit=1), deadline)).page.records
        page = (await self._fetch(JobsQuery(PROBE.since, PROBE.until, limit=1), deadline)).page
        if page.records:
            raise OutsideWindowError(
                "the API listed jobs for a second of the year 2000: it ignores the time filters:"
                " set time_filters: false for this target"
            )
        self.memory.learn_count(not page.count)
        return ()

    async def any_job(self, ahead: int, deadline: float) -> SeenPage:
        """One job of the whole list, whichever comes first, if there is one; ``ahead`` as below."""
        fetched = await self._fetch(JobsQuery(limit=1), deadline)
        return SeenPage(fetched.page.records, Sighting(fetched.begun, fetched.ended, None, ahead))

    async def newest(self, since: int, until: int, deadline: float, most: int) -> int:
        """When the newest job of [since, until] was made (whole seconds); 0 where there is none.

        By halving, and so in whatever order the API lists; not after it, if ``most`` requests do not suffice.
        """
        newest, end = 0, until
        for _ in range(most):
            middle = floor_second((since + until) // 2)
            if middle <= since:
                break
            page = (await self._fetch(JobsQuery(middle, end, limit=1), deadline)).page
            made = [time for record in page.records if middle <= (time := record.create_time or 0) <= end]
            if made:
                since = newest = floor_second(made[0])
            else:
                until = middle
        return newest

    async def lookup(self, job_id: str, deadline: float) -> SeenPage:
        """Ask for one job; anything else in the answer is left out (R9: counts only if its id matches)."""
        fetched = await self._fetch(JobsQuery(job_id=job_id, limit=1), deadline)
        matching = tuple(record for record in fetched.page.records if record.job_id == job_id)
        if not matching and any(not record.malformed for record in fetched.page.records):
            raise LookupIgnoredError("the API answered a lookup by job_id with another job")
        return SeenPage(matching, Sighting(fetched.begun, fetched.ended, None, None))

    async def read(
        self, window: Window, deadline: float, *, most: int = MAX_WINDOW_RECORDS, repeats: int = 0
    ) -> WindowResult:
        """One pass over a window; a single second that resists is read in the ways left for it.

        Gives up on a window that turns out to hold more than ``most`` records.
        An error ends the reading, not the result: what came before it is still true.
        """
        result = WindowResult(window, repeats=repeats)
        result.rest = self._window(result, most)
        return await self.go_on(result, deadline)

    async def read_everything(self, ahead: int, deadline: float) -> WindowResult:
        """The whole list, for an API without time filters; ``ahead`` is the latest believable time."""
        result = WindowResult(Window(0, ahead))
        result.rest = self._everything(result)
        return await self.go_on(result, deadline)

    async def go_on(self, result: WindowResult, deadline: float) -> WindowResult:
        """Read what is left of a window that a poll's budget ended: in the next poll, from the same page on.

        The anchor tells what changed meanwhile, as it does between any two pages.
        """
        result.error, steps = None, result.rest
        assert steps is not None  # noqa: S101 - otherwise there is nothing left
        try:
            query = steps.send(None)
            while True:
                query = steps.send(await self._answer(query, deadline))
        except StopIteration:
            result.rest = None
        except BudgetSpentError as error:
            result.complete, result.error, result.reason = False, error, str(error)
        except ExporterError as error:
            result.complete, result.listing, result.rest = False, (), None
            result.error, result.reason = error, str(error)
        return result

    def _window(self, result: WindowResult, most: int) -> Steps:
        state = yield from self._pass(result, WindowRead(self.memory, max_records=most))
        if state is not ReadState.COMPLETE and result.window.until - result.window.since <= SECOND:
            yield from self._second(result)

    def _everything(self, result: WindowResult) -> Steps:
        read = WindowRead(self.memory, max_records=1 << 62, shifting=True)
        yield from self._pass(result, read, unfiltered=True)

    def _pass(
        self,
        result: WindowResult,
        read: WindowRead,
        *,
        unfiltered: bool = False,
        job_type: str | None = None,
    ) -> Generator[JobsQuery, _PageReply, ReadState]:
        """Page by page, each of 100 records, or of fewer where one of them makes the page too large."""
        since, until = (
            (None, None) if unfiltered else (result.window.since - WINDOW_MARGIN, result.window.until)
        )
        query = JobsQuery(since, until, job_type=job_type)
        state, limit = ReadState.MORE, PAGE_LIMIT
        while state is ReadState.MORE:
            page = yield from self._page(result, replace(query, limit=limit, offset=read.offset))
            if page is None:
                read.go_on_later()
                continue
            if isinstance(page, Page):
                limit = min(2 * limit, PAGE_LIMIT)
            elif limit > ANCHORED:
                limit = max(limit // 2, ANCHORED)
                continue
            else:
                page = yield from self._page_of_two(result, query, read)
            state = read.add(page)
        result.complete = state is ReadState.COMPLETE
        result.listing = tuple(read.records)
        result.count = read.count if self.memory.trust_count is not False else None
        result.reason = read.reason or state.value
        return state

    def _page(
        self, result: WindowResult, query: JobsQuery
    ) -> Generator[JobsQuery, _PageReply, Page | ApiError | None]:
        """What one request brings, shown to the result."""
        fetched = yield query
        if not isinstance(fetched, _Fetched):
            return fetched
        sighting = Sighting(fetched.begun, fetched.ended, query.since, result.window.until)
        page = Page(_dated(fetched.page.records, sighting), fetched.page.count)
        seen = SeenPage(page.records, sighting)
        result.show(seen)
        if query.since is not None:
            _refuse_outside(seen, result)
        return page

    def _page_of_two(
        self, result: WindowResult, query: JobsQuery, read: WindowRead
    ) -> Generator[JobsQuery, _PageReply, Page]:
        """The anchor and the next record, each asked for alone: what is too large even so has no page.

        The anchor comes last: had the list shifted in between, another record would be in its place (R6).
        """
        pages: list[Page] = []
        for offset in dict.fromkeys((read.elements, read.offset)):
            page = None
            while page is None:
                page = yield from self._page(result, replace(query, limit=1, offset=offset))
            if isinstance(page, ApiError):
                raise page
            pages.insert(0, page)
        counts = [page.count for page in pages if page.count is not None]
        return Page(
            tuple(record for page in pages for record in page.records), counts[-1] if counts else None
        )

    def _second(self, result: WindowResult) -> Steps:
        """A second that holds too many jobs, or shifts: two equal passes, or one pass per job_type (R6)."""
        passes = []
        for _ in range(2):
            read = WindowRead(self.memory, max_records=SECOND_LIMIT, relaxed=True)
            yield from self._pass(result, read)
            passes.append(Counter(record.key for record in read.records))
        counted = read.count if self.memory.trust_count else read.elements
        result.complete = result.complete and passes[0] == passes[1] and counted == read.elements
        if not result.complete and self._split_by_type:
            yield from self._types(result, counted)

    def _types(self, result: WindowResult, counted: int | None) -> Steps:
        listing: list[Record] = []
        elements = 0
        for job_type in JOB_TYPES:
            read = WindowRead(self.memory, max_records=SECOND_LIMIT)
            if (yield from self._pass(result, read, job_type=job_type)) is not ReadState.COMPLETE:
                return
            listing += read.records
            elements += read.elements
        # Types that the documentation does not know would be missing: only the whole count tells.
        result.complete = bool(self.memory.trust_count) and counted == elements
        result.listing = tuple(listing)
        result.reason = f"the job types add up to {elements} of {counted}"

    async def _answer(self, query: JobsQuery, deadline: float) -> _Fetched | ApiError:
        try:
            return await self._fetch(query, deadline)
        except ApiError as error:
            if error.kind is not ErrorKind.TOO_LARGE:
                raise
            return error

    async def _fetch(self, query: JobsQuery, deadline: float) -> _Fetched:
        if self.last_request is not None and self.requests >= self.last_request:
            raise BudgetSpentError(
                "the poll has made all its list requests: the next polls go on from there;"
                " raise rate_limit or poll.interval if this does not end"
            )
        begun = self._source.clock.now_ms() or 0
        self.requests += 1
        page = await self._source.list_jobs(query, deadline=deadline)
        self.answers += 1
        ended = self._source.clock.latest_ms() or 0
        return _Fetched(page, begun, ended)


def _dated(records: tuple[Record, ...], sighting: Sighting) -> tuple[Record, ...]:
    """Of two times that a text may mean, the one that the answer can show; both where it can show both.

    An answer to no window leaves both: the ledger must know what will look new later.
    """
    if sighting.since is None or all(record.other_time is None for record in records):
        return records
    return tuple([_decided(record, sighting) for record in records])


def _decided(record: Record, sighting: Sighting) -> Record:
    times = [t for t in (record.create_time, record.other_time) if t is not None and sighting.believes(t)]
    return replace(record, create_time=times[0], other_time=None) if len(times) == 1 else record


def _refuse_outside(seen: SeenPage, result: WindowResult) -> None:
    """Nothing of a page is believed that lies outside the window for the most part, but the proof of that."""
    outside = tuple(
        record
        for record in seen.records
        if record.create_time is not None and not seen.sighting.covers(record.create_time)
    )
    if 2 * len(outside) <= len(seen.records):
        return
    result.pages[-1] = SeenPage(outside, seen.sighting)
    raise OutsideWindowError(
        f"{len(outside)} of {len(seen.records)} jobs on a page were created outside the window asked for:"
        " time filter or zone differs: correct time_zone, or set time_filters: false, for this target"
    )
