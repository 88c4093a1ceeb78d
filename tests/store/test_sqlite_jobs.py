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
from exporter.store import reading, sqlite
from exporter.store.base import Commit
from tests.store.support import SCOPE

NUMBERS = st.integers(-1, 2**62)
LABELS = st.sampled_from(["WAITING", "SUCCEED", "unknown", "TTS_LLM", "语音", 'a "quoted"\\one'])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JOBS = st.dictionaries(
    NAMES, st.builds(Job, NUMBERS, LABELS, LABELS, LABELS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
)
PLAIN = Job(1, "WAITING", "ASYNC_JOB", "TTS_LLM")


def given_back(jobs: dict[str, Job]) -> dict[str, Job]:
    """Written by one process, read by the next."""
    changes = Changes(watermarks=None, jobs=jobs, evicted=(), totals={}, minutes={}, label_sets=())
    commit = Commit(
        version=0, changes=changes, project_id="", last_complete_poll=None, buckets={}, keep_minutes_since=0
    )
    with tempfile.TemporaryDirectory() as folder:
        for again in (False, True):
            store = sqlite.SqliteStore(Path(folder) / "books.db")
            if again:
                read = store.load("t", SCOPE, 0, 0).jobs
            else:
                store.commit("t", SCOPE, commit)
            store.close()
    return read


@pytest.mark.slow
@given(JOBS)
@example({"\x00anonymous:1": PLAIN, "\x00anonymous:2": PLAIN, "a\x00b": PLAIN, "a\x00c": PLAIN, "": PLAIN})
@example({f"job-{number}": PLAIN for number in range(9)})
def test_every_job_comes_back_as_it_was(jobs: dict[str, Job]) -> None:
    """Whatever is in its id, and wherever one step of reading ends and the next begins."""
    with patch.object(reading, "STEP", 3):
        assert given_back(jobs) == jobs


def test_equal_texts_are_one_object() -> None:
    """A million jobs have a dozen labels: texts of its own would make each job half as large again."""
    one, other = given_back({"one": PLAIN, "other": PLAIN}).values()
    assert one.state is other.state
    assert one.job_type is other.job_type
    assert one.tts_service_enum is other.tts_service_enum
