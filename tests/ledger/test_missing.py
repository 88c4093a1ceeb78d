"""What a missing job is: both tables of ``missing.py``, line by line."""

from __future__ import annotations

import pytest

from exporter.ledger.job_index import MISSED_IN_LISTING, Job, JobIndex
from exporter.ledger.missing import MissedBy, MissingFor, MissingJobs, MissVerdict, Others, miss_verdict
from exporter.ledger.record import SUCCEED, WAITING
from exporter.units import MINUTE
from testkit.world import START
from tests.fake_api import ledger_settings

UNCERTAIN, EXEMPT, GONE = MissVerdict.UNCERTAIN, MissVerdict.EXEMPT, MissVerdict.GONE


@pytest.mark.parametrize(
    ("missing_for", "here", "elsewhere", "nowhere"),
    [
        pytest.param(MissingFor.TOO_SHORT, UNCERTAIN, UNCERTAIN, UNCERTAIN, id="too-short"),
        pytest.param(MissingFor.SOME_TIME, GONE, EXEMPT, UNCERTAIN, id="some-time"),
        pytest.param(MissingFor.LONG, GONE, EXEMPT, EXEMPT, id="long"),
        pytest.param(MissingFor.VERY_LONG, GONE, GONE, GONE, id="very-long"),
    ],
)
def test_the_verdict_follows_the_table(
    missing_for: MissingFor, here: MissVerdict, elsewhere: MissVerdict, nowhere: MissVerdict
) -> None:
    """A job vanishes where others are shown in its place, or after very many empty answers."""
    others = Others.HERE, Others.ELSEWHERE, Others.NOWHERE
    assert [miss_verdict(missing_for, where) for where in others] == [here, elsewhere, nowhere]


@pytest.mark.parametrize(
    ("misses", "minutes", "flags", "shown_at", "verdict"),
    [
        pytest.param(1, 90, MISSED_IN_LISTING, 89, UNCERTAIN, id="two-misses"),
        pytest.param(2, 4, MISSED_IN_LISTING, 3, UNCERTAIN, id="less-than-overlap"),
        pytest.param(11, 90, 0, 89, UNCERTAIN, id="lookups-only"),
        pytest.param(2, 59, MISSED_IN_LISTING, 58, EXEMPT, id="enough-elsewhere"),
        pytest.param(2, 59, MISSED_IN_LISTING, None, UNCERTAIN, id="enough-nowhere"),
        pytest.param(2, 60, MISSED_IN_LISTING, None, EXEMPT, id="long-nowhere"),
        pytest.param(10, 60, MISSED_IN_LISTING, None, EXEMPT, id="eleven-misses"),
        pytest.param(11, 60, MISSED_IN_LISTING, None, GONE, id="very-long"),
    ],
)
def test_a_job_is_missing_by_misses_and_time(
    misses: int, minutes: int, flags: int, shown_at: int | None, verdict: MissVerdict
) -> None:
    """One more miss, by a lookup, of a job missing since ``START``; others were shown in that minute."""
    job = Job(START, SUCCEED, "t", "s", misses=misses, missing_since=START, flags=flags)
    missing = MissingJobs(ledger_settings(overlap=5 * MINUTE), JobIndex({"a": job}))
    if shown_at is not None:
        missing.showed_something(START + shown_at * MINUTE)
        job.misses, job.missing_since = misses, START
    at = START + minutes * MINUTE
    assert missing.missed("a", job, at, at, MissedBy.LOOKUP) is verdict
    assert ("a" in missing.blocking) is (verdict is UNCERTAIN)


@pytest.mark.parametrize("state", [WAITING, SUCCEED])
@pytest.mark.parametrize("missed_by", MissedBy)
def test_an_exempt_job_never_blocks_again(state: str, missed_by: MissedBy) -> None:
    """What was settled without it stays settled; a final one is gone at once."""
    job = Job(START, state, "t", "s", misses=2, missing_since=START, flags=MISSED_IN_LISTING)
    missing = MissingJobs(ledger_settings(overlap=5 * MINUTE), JobIndex({"a": job}))
    at = START + 60 * MINUTE
    assert missing.missed("a", job, at, at, MissedBy.EMPTY_LISTING) is EXEMPT
    job.misses = 0  # as after a corroborated miss, from which on an open job's are counted
    assert missing.missed("a", job, at, at, missed_by) is (EXEMPT if state == WAITING else GONE)
    assert (missing.blocking, missing.take_exempt()) == ({}, ["a"])
