"""Reads one window of the list completely, or says why it could not (R6 and R7, docs/counting.md).

Knows pages (``paging.py``) and the clock of the API's answers; must not know what is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator

import msgspec
from msgspec.structs import replace

from exporter.errors import ApiError, ErrorKind, ExporterError
from exporter.ledger import JOB_TYPES, WINDOW_MARGIN, JobsQuery, Page, Record, Sighting, floor_second
from exporter.polling.paging import MAX_WINDOW_RECORDS, PAGE_LIMIT, PageMemory, ReadState, WindowRead
from exporter.polling.planner import Window
from exporter.polling.source import JobSource
from exporter.units import SECOND

SECOND_LIMIT = 100_000
"""Records of one second that are still paged."""
CAPPED = range(9_001, 10_001)
"""Lists are said to end after 10,000, and their ``count`` with them: so many records may be a part."""
ANCHORED = 2
"""Records of the smallest page that has an anchor and one record more."""
PROBE = Window(946_684_800_000, 946_684_801_000)
"""A second of the year 2000, in which no job was created: shows whether time filters, and ``count``, work."""


class OutsideWindowError(ExporterError):
    """Most of a page lies outside the window asked for (R7, docs/counting.md)."""


class LookupIgnoredError(ExporterError):
    """The API ignores the filter by ``job_id``."""


class BudgetSpentError(ExporterError):
    """The poll has made all the list requests that it may make."""


class SeenPage(Page, frozen=True, kw_only=True):
    """One answer, and when it was seen."""

    sighting: Sighting


Steps = Generator[JobsQuery, SeenPage | None, None]
"""Reads a window: yields one request after the other and is sent its answer; then it ends.

Errors are thrown into it. After ``None``, where a poll's budget allowed no request, it asks for the same or
an earlier page.
"""


class WindowResult(msgspec.Struct):
    """What reading one window brought. Its records were seen, also when it is not complete."""

    window: Window
    pages: list[SeenPage] = msgspec.field(default_factory=list)
    """What is not recorded yet."""
    complete: bool = False
    listing: tuple[Record, ...] = ()
    """When complete: every record of the window, each once, and perhaps some just outside it."""
    count: int | None = None
    """How many records the window holds, as the API says; ``None`` where that does not respect the
    filters."""
    reason: str = ""
    """Why it is not complete."""
    error: ExporterError | None = None
    """What ended the reading too early."""
    sighting: Sighting = Sighting(0, 0, None, None)
    """When the window was read, from the first request to the last answer, and the bounds asked for."""
    requests: int = 0
    repeats: int = 0
    """How often the same window was read before and was empty."""
    rest: Steps | None = None
    """What is left to read where the poll's budget ended the reading; see ``Reader.go_on``."""

    @property
    def begun(self) -> int:
        return self.sighting.begun

    @property
    def inside(self) -> list[Record]:
        """The records of ``listing`` that are in the window: only these are listed completely.

        One without a time is taken to be inside.
        """
        since, until = self.window
        return [r for r in self.listing if r.create_time is None or since <= r.create_time < until]

    def show(self, page: SeenPage) -> None:
        """Add one more answer."""
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

    async def probe(self, deadline: float, *, time_filters: bool) -> tuple[Record, ...]:
        """Learn the API's time, whether ``count`` respects the filters, and whether the time filters work.

        Returns the records it showed: without time filters these are jobs like any other.
        """
        if not time_filters:
            return (await self._fetch(JobsQuery(limit=1), deadline)).records
        page = await self._fetch(JobsQuery(PROBE.since, PROBE.until, limit=1), deadline)
        if page.records:
            raise OutsideWindowError(
                "the API listed jobs for a second of the year 2000: it ignores the time filters:"
                " set time_filters: false for this target"
            )
        self.memory.learn_count(not page.count)
        return ()

    async def any_job(self, ahead: int, deadline: float) -> SeenPage:
        """One job of the whole list, whichever comes first, if there is any; ``ahead`` as below."""
        seen = await self._fetch(JobsQuery(limit=1), deadline)
        return replace(seen, sighting=replace(seen.sighting, until=ahead))

    async def newest(self, since: int, until: int, deadline: float, most: int) -> int:
        """When the newest job of [since, until] was created (whole seconds); 0 where there is none.

        Found by halving, as nobody knows the order of the list. If ``most`` requests do not suffice, it is a
        time at or before the newest job.
        """
        newest, end = 0, until
        for _ in range(most):
            middle = floor_second((since + until) // 2)
            if middle <= since:
                break
            page = await self._fetch(JobsQuery(middle, end, limit=1), deadline)
            made = [time for record in page.records if middle <= (time := record.create_time or 0) <= end]
            if made:
                since = newest = floor_second(made[0])
            else:
                until = middle
        return newest

    async def lookup(self, job_id: str, deadline: float) -> SeenPage:
        """Ask for one job by its id; a record of another job in the answer is left out."""
        seen = await self._fetch(JobsQuery(job_id=job_id, limit=1), deadline)
        matching = tuple(record for record in seen.records if record.job_id == job_id)
        if not matching and any(not record.malformed for record in seen.records):
            raise LookupIgnoredError("the API answered a lookup by job_id with another job")
        return replace(seen, records=matching)

    async def read(
        self, window: Window, deadline: float, *, most: int = MAX_WINDOW_RECORDS, repeats: int = 0
    ) -> WindowResult:
        """Read a window, page by page; a single second that is not complete so is read in two further ways.

        Stops where the window turns out to hold more than ``most`` records. Raises no error: it is kept in
        the result, together with what was read before it.
        """
        result = WindowResult(window, repeats=repeats)
        result.rest = self._window(result, most)
        return await self.go_on(result, deadline)

    async def read_everything(self, ahead: int, deadline: float) -> WindowResult:
        """The whole list, for an API without time filters; ``ahead`` is the latest time that is plausible."""
        result = WindowResult(Window(0, ahead))
        result.rest = self._everything(result)
        return await self.go_on(result, deadline)

    async def go_on(self, result: WindowResult, deadline: float) -> WindowResult:
        """Read what is left of a window after a poll's budget ended its reading: from the same page on.

        The anchor shows whether the list shifted meanwhile, as it does between any two pages.
        """
        result.error, steps = None, result.rest
        assert steps is not None  # noqa: S101 - otherwise there is nothing left
        try:
            query = steps.send(None)
            while True:
                try:
                    seen = await self._fetch(query, deadline)
                except ApiError as error:
                    query = steps.throw(error)
                else:
                    query = steps.send(seen)
        except StopIteration:
            result.rest = None
        except BudgetSpentError as error:
            result.complete, result.error, result.reason = False, error, str(error)
        except ExporterError as error:
            result.complete, result.listing, result.rest = False, (), None
            result.error, result.reason = error, str(error)
        return result

    def _window(self, result: WindowResult, most: int) -> Steps:
        one_second = result.window.until - result.window.since <= SECOND
        read = WindowRead(self.memory, max_records=SECOND_LIMIT if one_second else most)
        yield from self._pass(result, read)
        if one_second and not _whole(result, read):
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
    ) -> Generator[JobsQuery, SeenPage | None, ReadState]:
        """Read page by page, each of 100 records, or of fewer where one of them makes the page too large."""
        since, until = (
            (None, None) if unfiltered else (result.window.since - WINDOW_MARGIN, result.window.until)
        )
        query = JobsQuery(since, until, job_type=job_type)
        state, limit = ReadState.MORE, PAGE_LIMIT
        while state is ReadState.MORE:
            try:
                if limit >= ANCHORED:
                    page = yield from self._page(result, replace(query, limit=limit, offset=read.offset))
                else:
                    page = yield from self._page_of_two(result, query, read)
            except ApiError as error:
                if error.kind is not ErrorKind.TOO_LARGE or limit < ANCHORED:
                    raise
                limit = max(limit // 2, ANCHORED) if limit > ANCHORED else 1
                continue
            if page is None:
                read.go_on_later()
                continue
            limit = min(2 * limit, PAGE_LIMIT)
            state = read.add(page)
        result.complete = state is ReadState.COMPLETE
        result.listing = tuple(read.records)
        result.count = read.count if self.memory.trust_count is not False else None
        result.reason = read.reason or state.value
        return state

    def _page(
        self, result: WindowResult, query: JobsQuery
    ) -> Generator[JobsQuery, SeenPage | None, Page | None]:
        """Ask for one page and add it to the result."""
        seen = yield query
        if seen is None:
            return None
        sighting = replace(seen.sighting, until=result.window.until)
        seen = replace(seen, records=_dated(seen.records, sighting), sighting=sighting)
        result.show(seen)
        if query.since is not None:
            _refuse_outside(seen, result)
        return seen

    def _page_of_two(
        self, result: WindowResult, query: JobsQuery, read: WindowRead
    ) -> Generator[JobsQuery, SeenPage | None, Page]:
        """Ask for the anchor and for the next record alone, one request each, and make a page of the two.

        Raises ApiError where one of them is too large even so. The anchor is asked for last: if the list
        shifted in between, another record is in its place.
        """
        pages: list[Page] = []
        for offset in dict.fromkeys((read.elements, read.offset)):
            page = None
            while page is None:
                page = yield from self._page(result, replace(query, limit=1, offset=offset))
            pages.insert(0, page)
        counts = [page.count for page in pages if page.count is not None]
        return Page(
            tuple(record for page in pages for record in page.records), counts[-1] if counts else None
        )

    def _second(self, result: WindowResult) -> Steps:
        """Read a second that holds too many jobs, or shifts: twice, and complete when both passes are equal.

        Otherwise each job_type by itself (R6, docs/counting.md).
        """
        passes = []
        for _ in range(2):
            read = WindowRead(self.memory, max_records=SECOND_LIMIT, relaxed=True)
            yield from self._pass(result, read)
            passes.append(Counter(record.key for record in read.records))
        counted = read.count if self.memory.trust_count else read.elements
        result.complete = _whole(result, read) and passes[0] == passes[1] and counted == read.elements
        if not result.complete and self._split_by_type:
            yield from self._types(result, counted)

    def _types(self, result: WindowResult, counted: int | None) -> Steps:
        listing: list[Record] = []
        elements = 0
        for job_type in JOB_TYPES:
            read = WindowRead(self.memory, max_records=SECOND_LIMIT)
            yield from self._pass(result, read, job_type=job_type)
            if not _whole(result, read):
                return
            listing += read.records
            elements += read.elements
        # Types that are not documented would be missing: only the count of all types shows it.
        result.complete = bool(self.memory.trust_count) and counted == elements
        result.listing = tuple(listing)
        result.reason = f"the job types add up to {elements} of {counted}"

    async def _fetch(self, query: JobsQuery, deadline: float) -> SeenPage:
        """One answer, with the bounds asked for. Raises BudgetSpentError instead of asking for too many."""
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
        sighting = Sighting(begun, ended, query.since, query.until)
        return SeenPage(page.records, page.count, sighting=sighting)


def _dated(records: tuple[Record, ...], sighting: Sighting) -> tuple[Record, ...]:
    """Of two times that a text may mean, keep the one that is possible in this answer, or both if both are.

    Without a window both are kept: the ledger must know which of its times could look new later.
    """
    if sighting.since is None or all(record.other_time is None for record in records):
        return records
    return tuple([_decided(record, sighting) for record in records])


def _decided(record: Record, sighting: Sighting) -> Record:
    times = [t for t in (record.create_time, record.other_time) if t is not None and sighting.believes(t)]
    return replace(record, create_time=times[0], other_time=None) if len(times) == 1 else record


def _whole(result: WindowResult, read: WindowRead) -> bool:
    """Was the last pass complete, and not by the end of a capped list?"""
    if result.complete and read.elements in CAPPED:
        result.complete, result.reason = False, ReadState.TOO_LARGE.value
    return result.complete


def _refuse_outside(seen: SeenPage, result: WindowResult) -> None:
    """Raise OutsideWindowError if most of a page is outside the window: only that part was seen then."""
    outside = tuple(
        record
        for record in seen.records
        if record.create_time is not None and not seen.sighting.covers(record.create_time)
    )
    if 2 * len(outside) <= len(seen.records):
        return
    result.pages[-1] = replace(seen, records=outside)
    raise OutsideWindowError(
        f"{len(outside)} of {len(seen.records)} jobs on a page were created outside the window asked for:"
        " time filter or zone differs: correct time_zone, or set time_filters: false, for this target"
    )
