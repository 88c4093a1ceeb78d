"""The life of jobs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator import life
from exporter.simulator.arrivals import Effect, WorldOptions
from exporter.simulator.job import FAILED, SUCCEED, Quirk, SimulatedJob, id_of, number_of
from exporter.simulator.truth import Truth, job_facts
from exporter.simulator.world import World

from .support import NOON, small_world

ODD = {
    "late": 0.1, "vanish": 0.1, "regression": 0.1, "label_change": 0.1, "no_job_id": 0.1,
    "no_text_length": 0.1, "no_create_time": 0.1, "unknown_state": 0.1, "unknown_type": 0.1,
    "unknown_service": 0.1, "twin": 0.1,
}  # fmt: skip


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(), st.lists(st.floats(0.1, 200.0), min_size=1, max_size=8))
def test_steps_do_not_matter(seed: int, steps: list[float]) -> None:
    """The same seed gives the same jobs, list and truth, in whatever steps time passes."""
    worlds = [
        World(seed, start=NOON, rate=90.0, options=WorldOptions(**ODD)),  # type: ignore[arg-type]  # floats
        World(seed, start=NOON, rate=90.0, options=WorldOptions(**ODD)),  # type: ignore[arg-type]  # floats
    ]
    end = NOON + sum(steps)
    worlds[0].advance(end)
    now = NOON
    for step in steps:
        now += step
        worlds[1].advance(now)
    worlds[1].advance(end)
    assert [job_facts(job, NOON) for job in worlds[0].jobs] == [
        job_facts(job, NOON) for job in worlds[1].jobs
    ]
    assert [job.number for job in worlds[0].listing] == [job.number for job in worlds[1].listing]


def test_seeds_matter() -> None:
    """Another seed gives other jobs."""
    first, _ = small_world(1)
    second, _ = small_world(2)
    assert {job.job_id for job in first.jobs}.isdisjoint(job.job_id for job in second.jobs)


def test_oddities_leave_the_rest_as_it_was() -> None:
    """Switching an oddity on changes nothing else about any job."""
    plain, _ = small_world(7)
    odd, _ = small_world(7, late=0.5, vanish=0.5)
    assert [(j.job_id, j.finished, j.fail_msg) for j in plain.jobs] == [
        (j.job_id, j.finished, j.fail_msg) for j in odd.jobs
    ]


@pytest.mark.parametrize(
    ("option", "shows"),
    [
        ("late", lambda job: job.created_ms / 1000 + 1 < job.listed < job.created_ms / 1000 + 62),
        ("vanish", lambda job: job.finished < job.deleted < math.inf),
        ("regression", lambda job: job.shown_state_at(job.finished + 120.0) == "PROCESSING"),
        ("label_change", lambda job: job.shown_service_at(job.listed + 60.0) != job.tts_service_enum),
        ("no_job_id", lambda job: job.lacks("job_id")),
        ("no_create_time", lambda job: job.lacks("create_time")),
        ("no_text_length", lambda job: job.lacks("text_length")),
        ("unknown_state", lambda job: job.shown_state_at(job.started) not in ("PROCESSING", SUCCEED, FAILED)),
        ("unknown_type", lambda job: job.job_type not in life.KIND_TABLES),
        ("unknown_service", lambda job: job.tts_service_enum not in life.SERVICES),
        ("lost", lambda job: job.finished == math.inf),
        ("stuck", lambda job: job.finished - job.listed > 3600.0),
        ("twin", lambda job: job.lacks("job_id")),
    ],
)
def test_every_oddity_happens(option: str, shows: Callable[[SimulatedJob], bool]) -> None:
    """An oddity with probability 1 befalls every job, and with its default none, or next to none."""
    odd, _ = small_world(3, minutes=2, **{option: 1.0})
    plain, _ = small_world(3, minutes=2)
    assert odd.jobs
    assert all(shows(job) for job in odd.jobs)
    assert not any(shows(job) for job in plain.jobs)


@given(st.integers(0, 2**64 - 1))
def test_ids_lead_back_to_their_numbers(number: int) -> None:
    """An id gives its number back, and nothing else does."""
    job_id = id_of(number)
    assert len(job_id) == 36
    assert number_of(job_id) == number
    assert number_of(job_id[:-1] + "g") is None


@pytest.mark.slow
def test_a_day_has_its_rhythm() -> None:
    """The rate is kept over a day, the afternoon is busy, the night is quiet."""
    world = World(3, start=NOON, rate=10.0)
    world.advance(NOON + 86400.0)
    by_hour = Counter(int((job.created_ms / 3_600_000 + 8) % 24) for job in world.jobs)
    assert len(world.jobs) == pytest.approx(14_400, rel=0.06)
    assert by_hour[15] > 2.5 * by_hour[3]


def test_jobs_look_like_jobs() -> None:
    """Types, services, lengths, durations and failures have plausible shares and spans."""
    world, _ = small_world(4, minutes=60, rate=300)
    jobs = world.jobs
    assert {job.job_type for job in jobs} == {profile.job_type for profile in life.PROFILES}
    assert {job.tts_service_enum for job in jobs} == set(life.SERVICES)
    assert all(1 <= job.text_length <= 10_000 for job in jobs)
    assert all(job.listed <= job.started <= job.finished < math.inf for job in jobs)
    took = sorted(job.finished - job.listed for job in jobs)
    assert 1.0 < took[len(took) // 2] < 30.0
    assert took[-1] > 120.0
    failed = [job for job in jobs if job.final_state == FAILED]
    assert 0.01 < len(failed) / len(jobs) < 0.06
    assert len({job.fail_msg for job in failed}) > len(failed) / 2
    assert all(not job.fail_msg for job in jobs if job.final_state == SUCCEED)


@pytest.mark.parametrize(
    ("milliseconds", "whole"), [(False, True), (True, False)], ids=["seconds", "milliseconds"]
)
def test_creation_times_have_their_resolution(milliseconds: bool, whole: bool) -> None:
    """Creation times are whole seconds unless milliseconds are asked for."""
    world, _ = small_world(5, milliseconds=milliseconds)
    assert all(job.created_ms % 1000 == 0 for job in world.jobs) is whole


def test_nothing_moves_in_a_stuck_queue() -> None:
    """While the queue is stuck no job starts or ends; afterwards all of them do, in order."""
    world, _ = small_world(6)
    start, end = NOON + 10.0, NOON + 130.0
    world.advance(start)
    world.schedule(Effect(stuck=True), start, end)
    world.advance(end + 400.0)
    moments = [at for job in world.jobs for at in (job.started, job.finished)]
    assert not [at for at in moments if start <= at < end]
    assert len([at for at in moments if end <= at < end + 35.0]) > 150
    assert all(job.listed <= job.started <= job.finished for job in world.jobs)


def test_the_past_is_not_rewritten() -> None:
    """An incident announced too late begins now, and what was seen as finished stays finished."""
    world, _ = small_world(8)
    ended = [(job, job.finished) for job in world.jobs if job.finished <= NOON]
    begun = [(job, job.started) for job in world.jobs if job.started <= NOON < job.finished]
    assert ended
    assert begun
    world.schedule(Effect(stuck=True), NOON - 300.0, NOON + 60.0)
    assert ended == [(job, job.finished) for job, _ in ended]
    assert begun == [(job, job.started) for job, _ in begun]
    assert all(job.finished >= NOON + 60.0 for job, _ in begun)


def test_late_and_vanished_records() -> None:
    """A late record joins the list in its place when its time has come; a deleted one leaves it."""
    world = World(0, start=NOON, rate=0.0)
    first = world.add(created=NOON)
    late = world.add(created=NOON - 20.0, listed=NOON + 30.0)
    gone = world.add(created=NOON - 10.0, deleted=NOON + 60.0)
    never = world.add(created=NOON, listed=NOON + 50.0, deleted=NOON + 40.0)
    assert world.listing == [gone, first]
    world.advance(NOON + 30.0)
    assert world.listing[0] is late
    assert world.find(gone.job_id) is gone
    world.advance(NOON + 60.0)
    assert gone not in world.listing
    assert never not in world.listing
    assert world.find(gone.job_id) is None
    assert Truth(world).expected().created == {("ASYNC_JOB", "TTS_LLM"): 3}


def test_quirks_show_and_truth_does_not_change() -> None:
    """A regression, an odd state and a new label are shown from their time on, and are not true."""
    world = World(0, start=NOON, rate=0.0)
    quirk = Quirk(
        job_id="x", odd_state="QUEUED", regress_at=NOON + 9, relabel_at=NOON + 5, relabel_to="GPU_CLONE"
    )
    job = world.add(started=NOON + 1, finished=NOON + 3, quirk=quirk)
    shown = [(job.shown_state_at(NOON + at), job.shown_service_at(NOON + at)) for at in (0, 2, 4, 6, 10)]
    assert shown == [
        ("WAITING", "TTS_LLM"),
        ("QUEUED", "TTS_LLM"),
        ("SUCCEED", "TTS_LLM"),
        ("SUCCEED", "GPU_CLONE"),
        ("QUEUED", "GPU_CLONE"),
    ]
    assert job.state_at(NOON + 10) == SUCCEED
    assert world.find("x") is job


def test_memory_stays_flat_and_sums_exact() -> None:
    """With retention few jobs are remembered, and the sums equal those of a world that forgets nothing."""
    keeping, forgetting = (World(9, start=NOON, rate=120.0) for _ in range(2))
    forgetting.options.retention = 600.0
    truths = Truth(keeping), Truth(forgetting)
    baseline = math.floor(NOON) + 60
    truths[1].count_from(baseline)
    for world in (keeping, forgetting):
        for minute in range(1, 91):
            world.advance(NOON + minute * 60.0)
    assert len(forgetting.jobs) < len(keeping.jobs) / 5
    assert truths[0].expected(baseline) == truths[1].expected(baseline)
    with pytest.raises(ValueError, match="forgotten"):
        truths[1].expected(baseline + 1)
