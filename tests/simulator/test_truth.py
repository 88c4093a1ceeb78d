"""The truth against what the API itself says."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator.truth import rows

from .support import NOON, ask, list_all, open_simulation, small_world


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.integers(), st.floats(0.0, 600.0), st.sampled_from(["newest", "oldest"]))
def test_truth_equals_a_full_listing(seed: int, age: float, order: str) -> None:
    """Whatever the seed and the baseline, sums over a complete listing are the truth."""
    world, wall = small_world(seed, minutes=11, rate=80, lost=0.01, late=0.1, no_text_length=0.05)
    simulation = open_simulation(world, wall)
    simulation.options.order = order  # type: ignore[assignment]  # one of the two
    since = int(NOON - age)
    records = list_all(simulation, create_since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)))
    truth = simulation.truth.expected(since)
    pairs = [(record["job_type"], record["tts_service_enum"]) for record in records]
    states = [(*labels, record["job_state"]) for labels, record in zip(pairs, records, strict=True)]
    assert truth.created == Counter(pairs)
    assert truth.finished + truth.open == Counter(states)
    lengths: Counter[tuple[str, str]] = Counter()
    for labels, record in zip(pairs, records, strict=True):
        lengths[labels] += record.get("text_length", 0)
    assert +truth.text_length == +lengths
    messages = {record["job_id"]: record["fail_msg"] for record in records if "fail_msg" in record}
    assert sum(truth.failures.values()) == len(messages)
    assert messages == {
        job.job_id: job.fail_msg
        for job in simulation.truth.jobs(since, at=NOON)
        if job.state_at(NOON) == "FAILED"
    }


def test_truth_over_http() -> None:
    """The control path tells the same sums, and every job when asked."""
    world, wall = small_world(2)
    simulation = open_simulation(world, wall)
    since = NOON - 120
    described = ask(simulation, "/simulator/truth", params={"since": str(since), "jobs": "true"}).json()
    assert described["expected"] == rows(simulation.truth.expected(since))
    assert {job["job_id"] for job in described["jobs"]} == {
        job.job_id for job in simulation.truth.jobs(since, at=NOON)
    }
    assert {"created_ms", "final_state", "finished", "fail_msg", "listed", "deleted"} <= described["jobs"][
        0
    ].keys()


ORIGIN = {"origin": "http://metastudio.test"}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"path": "/simulator/truth", "params": {"since": "yesterday"}}, 400),
        ({"path": "/simulator/truth", "params": {"project_id": "none"}}, 400),
        ({"path": "/simulator/faults", "method": "POST", "json": {"kind": "nonsense"}}, 400),
        ({"path": "/simulator/incidents", "method": "POST", "json": {"incident": "nonsense"}}, 400),
        ({"path": "/simulator/options", "method": "POST", "json": {"order": "sideways"}}, 400),
        ({"path": "/simulator/clock", "method": "POST", "content": '{"jump": 1}'}, 415),
        ({"path": "/simulator/clock", "method": "POST", "json": {"jump": 1}, "headers": ORIGIN}, 403),
        ({"path": "/simulator/faults", "method": "DELETE", "headers": ORIGIN}, 403),
    ],
    ids=["time", "project", "fault", "incident", "option", "no-json", "page", "page-delete"],
)
def test_bad_control_requests(request_: dict[str, Any], status: int) -> None:
    """A control request that makes no sense is refused with a reason and changes nothing."""
    simulation = open_simulation(*small_world(2, minutes=1))
    answer = ask(simulation, **request_)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert simulation.faults.items() == []


def test_options_change_while_running() -> None:
    """Options given over HTTP are merged into those in force."""
    simulation = open_simulation(*small_world(2, minutes=1))
    shown = ask(simulation, "/simulator/options", "POST", json={"limit_clip": 3}).json()
    assert (shown["limit_clip"], shown["order"]) == (3, "newest")
    assert len(ask(simulation).json()["data"]) == 3
