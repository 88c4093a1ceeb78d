"""The indexes of remembered jobs say what a walk over all of them would."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.ledger.job_index import Job, JobIndex
from exporter.ledger.record import OPEN_STATES
from exporter.units import MINUTE
from testkit.world import START

STEP = st.tuples(
    st.sampled_from(("add", "relabel", "close", "evict")),
    st.integers(0, 9),
    st.integers(0, 4 * MINUTE),
    st.sampled_from(("AUDITION", "WEBSOCKET")),
    st.sampled_from(OPEN_STATES),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_open_jobs_are_counted_by_minute_and_labels(
    steps: list[tuple[str, int, int, str, str]],
) -> None:
    """The gauges are made from these counts: a count left behind would be a job that never ends."""
    index = JobIndex()
    for action, number, age, job_type, state in steps:
        name = f"j{number}"
        job = index.get(name)
        if job is None:
            if action == "add":
                index.add(name, Job(START - age, state, job_type, "TTS_LLM"))
        elif action == "relabel" and job.open:
            index.relabel(job, (job_type, "TTS_LAB"), state)
        elif action == "close" and job.open:
            index.close(name, job, "SUCCEED")
        elif action == "evict" and not job.open:
            index.evict(name)
    open_jobs = [job for _, job in index.items() if job.open]
    counted = Counter(
        {
            (minute, labels): jobs
            for minute, counts in index.open_by_minute.items()
            for labels, jobs in counts.items()
        }
    )
    assert counted == Counter((job.created // MINUTE, job.labels) for job in open_jobs)
    assert index.open_count == len(open_jobs)
    oldest: dict[tuple[str, str, str], int] = {}
    for job in open_jobs:
        oldest[job.labels] = min(oldest.get(job.labels, job.created), job.created)
    assert index.oldest_open() == oldest


def test_a_job_that_is_added_again_is_not_evicted() -> None:
    """One commit holds what became of it last."""
    index = JobIndex()
    for _ in range(2):
        index.add("a", Job(START, "SUCCEED", "AUDITION", "TTS_LLM"))
        assert (index.dirty, index.evicted) == ({"a"}, set())
        index.evict("a")
        assert (index.dirty, index.evicted) == (set(), {("a", START)})
    assert not index.slots, "an index of nothing is memory for nothing"
