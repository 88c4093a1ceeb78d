"""When a window is completely read: the states, page by page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ledger.record import Page, Record
from exporter.polling.paging import SAME_PAGES, PageMemory, ReadState, WindowRead
from tests.ledger.support import record

MORE, COMPLETE, DOUBT, TOO_LARGE = ReadState.MORE, ReadState.COMPLETE, ReadState.DOUBT, ReadState.TOO_LARGE


def page(names: str, count: int | None = None) -> Page:
    return Page(tuple(record(name) for name in names), count)


@pytest.mark.parametrize(
    ("trust", "pages", "states"),
    [
        pytest.param(None, [page("")], [COMPLETE], id="empty"),
        pytest.param(True, [page("", 3)], [DOUBT], id="empty-but-counted"),
        pytest.param(None, [page("abc"), page("c")], [MORE, COMPLETE], id="only-the-anchor"),
        pytest.param(None, [page("abc"), page("cd"), page("d")], [MORE, MORE, COMPLETE], id="three-pages"),
        pytest.param(None, [page("abc"), page("de")], [MORE, DOUBT], id="shifted-away"),
        pytest.param(None, [page("abc"), page("bcd")], [MORE, DOUBT], id="shifted-in"),
        pytest.param(None, [page("abc"), page("cda")], [MORE, DOUBT], id="repeated"),
        pytest.param(None, [page("abc"), page("")], [MORE, DOUBT], id="the-anchor-is-gone"),
        pytest.param(True, [page("abcd", 6), page("def", 6)], [MORE, COMPLETE], id="short-and-counted"),
        pytest.param(False, [page("abcd", 6), page("def", 6)], [MORE, MORE], id="count-is-not-trusted"),
        pytest.param(None, [page("abc", 3)], [MORE], id="a-full-page-and-counted"),
        pytest.param(True, [page("abc", 3)], [MORE], id="a-full-page-and-trusted-count"),
        pytest.param(None, [page("abc", 5000)], [TOO_LARGE], id="count-too-large"),
    ],
)
def test_the_state_after_each_page(trust: bool | None, pages: list[Page], states: list[ReadState]) -> None:
    """Only what cannot have shifted is complete."""
    read = WindowRead(PageMemory(trust))
    assert [read.add(one) for one in pages] == states


@given(st.integers(0, 60), st.integers(1, 20), st.booleans(), st.sampled_from((None, True, False)))
def test_a_list_that_stands_still_is_read_whole(
    size: int, clip: int, counted: bool, trust: bool | None
) -> None:
    """However the pages are clipped: every record once, and an end."""
    names = [f"{number}" for number in range(size)]
    records: list[Record] = [record(name) for name in names]
    read = WindowRead(PageMemory(trust))
    state, pages = MORE, 0
    clip = max(clip, 2)
    while state is MORE:
        part = records[read.offset : read.offset + clip]
        state = read.add(Page(tuple(part), size if counted else None))
        pages += 1
        assert pages <= size + 2
    assert state is COMPLETE
    assert [one.job_id for one in read.records] == names


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest-first", "oldest-first"])
@pytest.mark.parametrize("budget", [1, 2, 4, 10])
@pytest.mark.parametrize("clip", [2, 3, 4, 5, 10, 20, 49, 50, 51, 100])
def test_a_list_read_over_many_polls_ends_at_its_end(clip: int, budget: int, newest_first: bool) -> None:
    """By whatever it grows between two polls, if that is no more than half of what a poll reads."""
    reach = budget * (clip - 1)
    for growth in {0, 1, clip // 2 - 1, clip // 2, clip - 2, clip - 1, reach // 2}:
        if 0 <= growth <= reach // 2:
            assert_read_whole(clip, budget, growth, newest_first=newest_first)


def assert_read_whole(clip: int, budget: int, growth: int, *, newest_first: bool) -> None:
    old = [record(f"old-{number}") for number in range(3 * clip + 7)]
    new: list[Record] = []
    read = WindowRead(PageMemory(None), shifting=True, max_records=1 << 62)
    state, requests = MORE, 0
    while state is MORE:
        if requests and requests % budget == 0:
            new += [record(f"new-{len(new) + number}") for number in range(growth)]
            read.go_on_later()
        records = [*reversed(new), *old] if newest_first else [*old, *new]
        state = read.add(Page(tuple(records[read.offset : read.offset + clip]), len(records)))
        requests += 1
        assert requests < 2_000, growth
    assert state is COMPLETE, (growth, read.reason)
    assert {one.job_id for one in old} <= {one.job_id for one in read.records}, growth


@pytest.mark.parametrize("growth", [48, 49, 98, 99, 100, 198])
def test_growth_within_one_poll_ends_nothing(growth: int) -> None:
    """Between two requests of one poll, too, the anchor may move to the end of its page."""
    records = [record(f"old-{number}") for number in range(700)]
    read = WindowRead(PageMemory(None), shifting=True, max_records=1 << 62)
    state = read.add(Page(tuple(records[:100]), None))
    state = read.add(Page(tuple(records[read.offset : read.offset + 100]), None))
    listed = [record(f"new-{number}") for number in range(growth)] + records
    while state is MORE:
        state = read.add(Page(tuple(listed[read.offset : read.offset + 100]), None))
    assert state is COMPLETE
    assert len(read.records) == 700


def test_an_api_that_ignores_the_offset_is_found_out() -> None:
    """The same page for ever is neither a list that grows nor its end."""
    read = WindowRead(PageMemory(None), shifting=True, max_records=1 << 62)
    states = [read.add(page("abcd")) for _ in range(SAME_PAGES + 1)]
    assert states == [MORE] * SAME_PAGES + [DOUBT]
    assert "ignores the offset" in read.reason


def test_an_anchor_at_a_page_end_does_not_end_a_shifting_list() -> None:
    """Only an anchor alone is."""
    read = WindowRead(PageMemory(None), shifting=True)
    pages = [page("abc"), page("xyc"), page("cde"), page("vwe"), page("e")]
    assert [read.add(one) for one in pages] == [MORE, MORE, MORE, MORE, COMPLETE]
    assert [one.job_id for one in read.records] == list("abcde")


def equals(seconds: str) -> tuple[Record, ...]:
    """Records without an id, one for each letter; those of one letter are equal."""
    return tuple(record(None, created=ord(second) * 1000) for second in seconds)


@pytest.mark.parametrize("trust", [None, True, False])
@pytest.mark.parametrize(
    ("before", "after"),
    [("ccbbbbba", "cccbbbbba"), ("cbcbcba", "cbcbcbcba"), ("ccbbbbba", "cbbbbba")],
    ids=["one-more", "mixed", "one-less"],
)
def test_a_shift_among_equals_is_noticed(trust: bool | None, before: str, after: str) -> None:
    """Records without an id do not tell which of them a page begins with; their number does."""
    read = WindowRead(PageMemory(trust))
    old, new = equals(before), equals(after)
    assert read.add(Page(old[:5], len(old))) is MORE
    assert read.add(Page(new[read.offset : read.offset + 5], len(new))) is DOUBT


def test_equals_on_two_pages_are_read_where_the_number_stays() -> None:
    """A ``count`` that is known to respect the filters, and does not change, proves that nothing shifted."""
    read, listed = WindowRead(PageMemory(True)), equals("ccbbbbba")
    states = [read.add(Page(listed[:5], 8)), read.add(Page(listed[4:9], 8))]
    assert states == [MORE, COMPLETE]
    assert read.records == list(listed)
