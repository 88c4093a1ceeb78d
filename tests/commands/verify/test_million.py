"""A million jobs in a real store, of which one is not counted as it is listed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from exporter.commands.past import Past, PastJobs
from exporter.commands.verify.command import Verifier
from exporter.commands.verify.compare import Cause
from exporter.config import Config, FailMsgClass
from exporter.ledger import IDS_MASK, JobsQuery, MinuteKey, Page, Record, Watermarks, id_number
from exporter.ledger.changes import Changes
from exporter.store import SqlitePast
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, TARGET, FakeClock
from tests.store.support import SCOPE

JOBS = 1_000_000
A_SECOND = 20
BEGIN = 1_800_000_000_000 // MINUTE * MINUTE
END = BEGIN + -(-JOBS // (60 * A_SECOND)) * MINUTE
CHARACTERS = 10
CONFIG = Config(fail_msg_classes=(FailMsgClass("boom", "boom"),), builtin_fail_msg_classes=False)


def record(number: int) -> Record:
    created = BEGIN + number // A_SECOND * SECOND
    failed = number % 10 == 0
    return Record(
        f"job-{number}",
        created,
        "FAILED" if failed else "SUCCEED",
        "ASYNC_JOB",
        "TTS_LLM",
        CHARACTERS,
        "boom" if failed else "",
    )


class MillionJobs:
    """A list API that has them, and makes each record when it is asked for."""

    project_id: str | None = "p1"

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clock.ms = END + 60 * MINUTE

    async def list_jobs(self, query: JobsQuery, *, deadline: float) -> Page:
        since, until = query.since or 0, query.until or END
        first = max(0, -(-(since - BEGIN) // SECOND) * A_SECOND)
        last = max(first, min(JOBS, ((until - BEGIN) // SECOND + 1) * A_SECOND))
        begin = min(last, first + query.offset)
        return Page(tuple(map(record, range(begin, min(last, begin + query.limit)))), last - first)


def stored_without(path: Path, wrong: int) -> None:
    """The books, as if all were counted but that one."""
    counts: dict[MinuteKey, tuple[int, int]] = defaultdict(lambda: (0, 0))
    ids: dict[MinuteKey, int] = defaultdict(int)
    for number in range(JOBS):
        job = record(number)
        key = (
            (job.create_time or 0) // MINUTE,
            job.job_type,
            job.tts_service_enum,
            job.job_state,
            job.fail_msg,
        )
        if number != wrong:
            jobs, characters = counts[key]
            counts[key] = jobs + 1, characters + CHARACTERS
            ids[key] = (ids[key] + id_number(job.job_id or "")) & IDS_MASK
    changes = Changes(
        watermarks=Watermarks(BEGIN, END, END, BEGIN, 0),
        jobs={},
        evicted=(),
        totals={},
        minutes=dict(counts),
        minute_ids=dict(ids),
        label_sets=(),
    )
    store = SqliteStore(path)
    commit = Commit(
        version=store.load("t", SCOPE, 0, 0).version,
        changes=changes,
        project_id="p1",
        last_complete_poll=None,
        buckets={},
        keep_minutes_since=0,
    )
    store.commit("t", SCOPE, commit)
    store.close()


@pytest.mark.slow
def test_one_job_in_a_million_is_found_in_a_store(tmp_path: Path) -> None:
    """By its id, and nothing else is; the whole list is read as any list is."""
    wrong = 654_321
    stored_without(tmp_path / "books.db", wrong)
    stored = SqlitePast(tmp_path / "books.db", "t", SCOPE, None)
    verifier = Verifier(CONFIG, TARGET, stored, Past(BEGIN, END))
    asyncio.run(verifier.run(PastJobs(MillionJobs(), TARGET), lambda _: None))
    assert (verifier.listed, verifier.counted) == (JOBS, JOBS - 1)
    (found,) = verifier.differences
    assert (found.cause, found.job_ids) == (Cause.UNEXPLAINED, (f"job-{wrong}",))
