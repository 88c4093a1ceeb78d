"""When a window is completely read: the verdicts, page by page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ledger.record import Page, Record
from exporter.polling.paging import PageMemory, Verdict, WindowRead
from tests.ledger.support import record

MORE, COMPLETE, DOUBT, TOO_LARGE = Verdict.MORE, Verdict.COMPLETE, Verdict.DOUBT, Verdict.TOO_LARGE


def page(names: str, count: int | None = None) -> Page:
    return Page(tuple(record(name) for name in names), count)


@pytest.mark.parametrize(
    ("trust", "pages", "verdicts"),
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
def test_the_verdict_after_each_page(trust: bool | None, pages: list[Page], verdicts: list[Verdict]) -> None:
    """Only what cannot have shifted is complete."""
    read = WindowRead(PageMemory(trust))
    assert [read.add(one) for one in pages] == verdicts


@given(st.integers(0, 60), st.integers(1, 20), st.booleans(), st.sampled_from((None, True, False)))
def test_a_list_that_stands_still_is_read_whole(
    size: int, clip: int, counted: bool, trust: bool | None
) -> None:
    """However the pages are clipped: every record once, and an end."""
    names = [f"{number}" for number in range(size)]
    records: list[Record] = [record(name) for name in names]
    read = WindowRead(PageMemory(trust))
    verdict, pages = MORE, 0
    clip = max(clip, 2)
    while verdict is MORE:
        part = records[read.offset : read.offset + clip]
        verdict = read.add(Page(tuple(part), size if counted else None))
        pages += 1
        assert pages <= size + 2
    assert verdict is COMPLETE
    assert [one.job_id for one in read.records] == names
