"""The jobs that a store gives back are those that it was given."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.ledger.changes import Changes
from exporter.ledger.job_index import Job
from exporter.store import reading
from exporter.store.base import Commit
from exporter.store.postgres import reading as postgres_reading
from testkit.postgres import PostgresServer
from tests.store.conftest import PostgresBooks, SqliteBooks
from tests.store.support import SCOPE

NUMBERS = st.integers(-1, 2**62)
LABELS = st.sampled_from(["WAITING", "SUCCEED", "unknown", "TTS_LLM", "语音", 'a "quoted"\\one'])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JOBS = st.dictionaries(
    NAMES, st.builds(Job, NUMBERS, LABELS, LABELS, LABELS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
)
PLAIN = Job(1, "WAITING", "ASYNC_JOB", "TTS_LLM")


def given_back(jobs: dict[str, Job], server: PostgresServer | None) -> dict[str, Job]:
    """Written by one process, read by the next; into a file, or into a database of ``server``."""
    changes = Changes(watermarks=None, jobs=jobs, evicted=(), totals={}, minutes={}, label_sets=())
    commit = Commit(
        version=0, changes=changes, project_id="", last_complete_poll=None, buckets={}, keep_minutes_since=0
    )
    with tempfile.TemporaryDirectory() as folder:
        books = SqliteBooks(Path(folder)) if server is None else PostgresBooks(server)
        for again in (False, True):
            store = books.open()
            if again:
                read = store.load("t", SCOPE, 0, 0).jobs
            else:
                store.commit("t", SCOPE, commit)
            store.close()
    return read


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def server(request: pytest.FixtureRequest) -> PostgresServer | None:
    """None: the store is a SQLite file."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.mark.slow
@given(jobs=JOBS)
@example(
    jobs={"\x00anonymous:1": PLAIN, "\x00anonymous:2": PLAIN, "a\x00b": PLAIN, "a\x00c": PLAIN, "": PLAIN}
)
@example(jobs={f"job-{number}": PLAIN for number in range(9)})
def test_every_job_comes_back_as_it_was(server: PostgresServer | None, jobs: dict[str, Job]) -> None:
    """Whatever is in its id, and wherever one step of reading ends and the next begins."""
    with patch.object(reading, "STEP", 3), patch.object(postgres_reading, "STEP", 3):
        assert given_back(jobs, server) == jobs


def test_equal_texts_are_one_object(server: PostgresServer | None) -> None:
    """A million jobs have a dozen labels: texts of its own would make each job half as large again."""
    one, other = given_back({"one": PLAIN, "other": PLAIN}, server).values()
    assert one.state is other.state
    assert one.job_type is other.job_type
    assert one.tts_service_enum is other.tts_service_enum
