"""When is a window of the list read completely? (R6, docs/counting.md)

Pure: pages go in; whether more must be read, and from which offset, comes out. Nothing here knows what
the records mean.

The list API pages by record offset over a list that may shift between two requests, in an order nobody
documents, with a ``count`` that may or may not respect the filters. A window that fits on one page cannot
shift. A larger one is paged with an anchor: each page must begin with its predecessor's last record and
repeat nothing else. A window whose pages do not fit together so is a *doubt*: the caller reads smaller ones.
"""

from __future__ import annotations

from enum import Enum

from exporter.ledger import Page, Record

PAGE_LIMIT = 100
"""Largest ``limit`` the API accepts (docs/api.md)."""


MAX_WINDOW_RECORDS = 1000
"""Larger windows are cut: the chance of a shift grows with the pages, and lists may be capped."""


SAME_PAGES = 5
"""So many equal pages in a row, asked for at different offsets, mean that the API ignores the offset: no list
grows by exactly one page between all requests."""


SHORT_ENDS = 5
"""So many lists in a row that end before their ``count`` mean that it does not respect the filters after
all."""


class ReadState(Enum):
    """Where one pass over a window stands after a page."""

    MORE = "more"
    COMPLETE = "complete"
    DOUBT = "doubt"
    TOO_LARGE = "too large"


class PageMemory:
    """What was learned from earlier answers of the same target about its pages."""

    def __init__(self, trust_count: bool | None = None) -> None:
        self.longest = 0
        """The longest page ever received: a server may silently clip ``limit``."""
        self.fixed = trust_count is not None
        """``trust_count`` is configured: answers do not change it."""
        self.trust_count = trust_count
        """Does ``count`` respect the filters? ``None``: not known yet."""
        self.short_ends = 0
        """Lists in a row that ended before their ``count``."""

    def learn_count(self, respects_filters: bool) -> None:
        """Learn from an answer whether ``count`` respects the filters, unless that is configured."""
        if not self.fixed:
            self.trust_count = respects_filters

    def observe(self, page: Page) -> None:
        self.longest = max(self.longest, len(page.records))


class WindowRead:
    """One pass over one window. Feed it pages until it says anything but MORE."""

    def __init__(
        self,
        memory: PageMemory,
        *,
        max_records: int = MAX_WINDOW_RECORDS,
        shifting: bool = False,
        relaxed: bool = False,
    ) -> None:
        self._memory = memory
        self._max_records = max_records
        self._shifting = shifting
        """New records may appear in front while the list is paged (no time filter): the anchor moves back
        then."""
        self._relaxed = relaxed
        """Collect every page to the end, whether they fit together or not: the caller compares two such
        passes."""
        self.records: list[Record] = []
        """Every record once; those without an id as often as they were listed."""
        self.elements = 0
        """How many elements the pages had without the anchors, to be compared with ``count``."""
        self.count: int | None = None
        self.reason = ""
        self._keys: set[str] = set()
        self._last_page: tuple[Record, ...] = ()
        self._same_pages = 0
        """How often in a row the same page came."""
        self._known_before = 0
        """How many records were known when reading was last interrupted."""
        self._anchor_key = ""
        self._records_before_anchor = 0
        """The next page begins so many records before the anchor."""

    def go_on_later(self) -> None:
        """The next page is asked for in the next poll: until then, a list that shifts may have moved further.

        So that page begins further back; but by half of the records gained since the last time at most, so
        that reading makes progress.
        """
        gained = len(self.records) - self._known_before
        if self._shifting and gained:
            further = min(self._memory.longest // 2, gained // 2, self.elements - 1)
            self._known_before = len(self.records)
            self._records_before_anchor += further
            self.elements -= further

    @property
    def offset(self) -> int:
        """Where the next page begins: at the last record received."""
        return max(0, self.elements - 1)

    def add(self, page: Page) -> ReadState:
        """Add the page that was asked for at ``offset``; ``reason`` explains a DOUBT."""
        self._memory.observe(page)
        same_count = page.count is not None and page.count == self.count
        self.count = page.count
        before, self._last_page = self._last_page, page.records
        self._same_pages = self._same_pages + 1 if page.records == before else 0
        if self._same_pages == SAME_PAGES:
            return self._doubt("every page is the same: the API ignores the offset")
        if self._relaxed:
            return self._collect(page)
        if not self.elements:
            return self._first(page)
        position = self._anchor(page)
        if position is None and self._is_before_anchor(page):
            self.elements += len(page.records) - 1
            return ReadState.MORE
        if position is None:
            return self._doubt("the list shifted between two pages")
        if self._is_ambiguous(before, page.records[position:]) and not (
            same_count and self._memory.trust_count
        ):
            return self._doubt("records without job_id that are equal lie on two pages")
        if not self._take(page, position + 1):
            return ReadState.DOUBT
        if len(page.records) == 1:
            return self._ended()
        # A page whose last record is the anchor brings nothing new: the list grew by exactly one page.
        return self._go_on()

    def _collect(self, page: Page) -> ReadState:
        ended = len(page.records) <= min(1, self.elements)
        anchored = bool(page.records and self.elements) and page.records[0].key == self._anchor_key
        for record in page.records[1 if anchored else 0 :]:
            if record.job_id is None or record.key not in self._keys:
                self._keys.add(record.key)
                self.records.append(record)
        self._advance(page)
        if not ended and self.elements > self._max_records:
            return ReadState.TOO_LARGE
        return ReadState.COMPLETE if ended else ReadState.MORE

    def _first(self, page: Page) -> ReadState:
        if not page.records:
            if page.count and self._memory.trust_count:
                return self._doubt(f"count is {page.count} but the page is empty")
            return ReadState.COMPLETE
        self._take(page, 0)
        return self._go_on()

    def _anchor(self, page: Page) -> int | None:
        expected, self._records_before_anchor = self._records_before_anchor, 0
        places = range(len(page.records)) if self._shifting else range(min(1, len(page.records)))
        found = [place for place in places if page.records[place].key == self._anchor_key]
        return min(found, key=lambda place: abs(place - expected), default=None)

    def _is_before_anchor(self, page: Page) -> bool:
        """Did the list grow by more than a page? Then the page begins with a record received before."""
        return self._shifting and len(page.records) > 1 and page.records[0].key in self._keys

    @staticmethod
    def _is_ambiguous(before: tuple[Record, ...], after: tuple[Record, ...]) -> bool:
        """Do the pages hold an equal of the anchor? Then the list may have shifted among these, unnoticed."""
        anchor = after[0]
        return anchor.job_id is None and any(
            record.key == anchor.key for record in (*before[:-1], *after[1:])
        )

    def _take(self, page: Page, first: int) -> bool:
        """Add the page's elements from the ``first`` on. False when an earlier page had one of them.

        The same job twice on one page is no sign of a shift, for the list does not change within one answer.
        """
        here: set[str] = set()
        for record in page.records[first:]:
            if record.job_id is not None:
                if record.key in self._keys and record.key != self._anchor_key:
                    self._doubt("a job is listed on two pages of one window")
                    return False
                if record.key in here or record.key in self._keys:
                    continue
                here.add(record.key)
            self.records.append(record)
        self._keys.update(record.key for record in page.records[first:])
        self._advance(page)
        return True

    def _advance(self, page: Page) -> None:
        self.elements += len(page.records) - (1 if self.elements else 0)
        if page.records:
            self._anchor_key = page.records[-1].key

    def _go_on(self) -> ReadState:
        collected = self.elements
        counted = self.count if self._memory.trust_count is not False else None
        if counted == collected and len(self._last_page) < self._memory.longest:
            self._memory.short_ends = 0
            return ReadState.COMPLETE
        if collected > self._max_records or (counted is not None and counted > self._max_records):
            return ReadState.TOO_LARGE
        return ReadState.MORE

    def _ended(self) -> ReadState:
        """After a page with only its anchor: the end, unless a ``count`` that can be trusted is larger."""
        memory = self._memory
        if self.count is None or self.count <= self.elements:
            memory.short_ends = 0
            return ReadState.COMPLETE
        memory.short_ends += 1
        if memory.trust_count and (memory.fixed or memory.short_ends < SHORT_ENDS):
            return self._doubt(f"count is {self.count} but the list ends after {self.elements}")
        memory.learn_count(False)
        return ReadState.COMPLETE

    def _doubt(self, reason: str) -> ReadState:
        self.reason = reason
        return ReadState.DOUBT
