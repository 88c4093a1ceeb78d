"""Bad days by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from exporter.simulator.arrivals import WorldOptions
from exporter.simulator.incidents import DEMO_SCRIPT, INCIDENTS, Entry, Incidents, Script
from exporter.simulator.job import FAILED, SimulatedJob
from exporter.simulator.simulation import PROJECT_ID, Simulation
from exporter.simulator.world import World

from .support import NOON, Wall, ask


def day_with(name: str, *, duration: float = 120.0) -> tuple[Simulation, Wall, list[SimulatedJob]]:
    """A simulation in which the incident began five minutes after the start, two minutes before now."""
    wall = Wall(NOON - 420.0)
    world = World(
        3, start=wall.now, rate=300.0, project_id=PROJECT_ID, options=WorldOptions(rhythm=0.0, stuck=0.0)
    )
    script = Script((Entry(300.0, duration, name),))
    simulation = Simulation(world, clock=wall, script=script)
    simulation.auth.required = False
    wall.now = NOON
    simulation.now()
    return simulation, wall, [job for job in world.jobs if NOON - 120.0 <= job.created_ms / 1000 < NOON]


def failed(jobs: list[SimulatedJob], kind: str) -> float:
    """Share of jobs that fail that way."""
    return sum(job.final_state == FAILED and job.fail_kind == kind for job in jobs) / len(jobs)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("failure_burst", lambda jobs: 0.5 < failed(jobs, "internal") < 0.7),
        ("sensitive_burst", lambda jobs: 0.25 < failed(jobs, "sensitive_content") < 0.45),
        ("arrears", lambda jobs: failed(jobs, "billing_quota") > 0.8),
        (
            "voice_removed",
            lambda jobs: (
                failed([j for j in jobs if j.tts_service_enum == "GPU_CLONE"], "voice_asset") > 0.8
                and failed([j for j in jobs if j.tts_service_enum != "GPU_CLONE"], "voice_asset") < 0.05
            ),
        ),
        ("stuck_queue", lambda jobs: not [j for j in jobs if NOON - 120.0 <= j.finished < NOON]),
        ("slow_service", lambda jobs: sorted(j.finished - j.listed for j in jobs)[len(jobs) // 2] > 20.0),
        ("traffic_spike", lambda jobs: len(jobs) > 2000),
        ("silence", lambda jobs: len(jobs) < 10),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_incidents_change_the_mix(name: str, changed: Callable[[list[SimulatedJob]], bool]) -> None:
    """While an incident lasts the jobs look as its name says; on an ordinary day they do not."""
    assert changed(day_with(name)[2])
    assert not changed(day_with("outage")[2])


@pytest.mark.parametrize(
    ("name", "status"),
    [("throttling", 429), ("outage", 503), ("flaky_gateway", 504), ("expired_credentials", 401)],
)
def test_incidents_on_the_wire(name: str, status: int) -> None:
    """While an incident of the API lasts requests fail as its name says, and afterwards none do."""
    simulation, wall, _ = day_with(name, duration=200.0)
    assert status in {ask(simulation).status_code for _ in range(20)}
    wall.now += 81.0
    assert {ask(simulation).status_code for _ in range(20)} == {200}


def test_an_incident_by_hand() -> None:
    """An incident is begun and ended over the control path."""
    simulation, _, _ = day_with("silence", duration=1.0)
    begun = ask(simulation, "/simulator/incidents", "POST", json={"incident": "outage", "duration": 60})
    assert [name for name, _ in begun.json()["running"]] == ["outage"]
    assert begun.json()["known"].keys() == INCIDENTS.keys()
    assert ask(simulation).status_code == 503
    assert ask(simulation, "/simulator/incidents", "DELETE").json()["running"] == []
    assert ask(simulation).status_code == 200


def test_a_script_does_not_depend_on_the_steps() -> None:
    """Jobs under a script are the same whether time passes in one step or in many."""
    worlds = []
    for steps in (1, 97, 1300):
        wall = Wall()
        world = World(5, start=NOON, rate=120.0, project_id=PROJECT_ID)
        simulation = Simulation(world, clock=wall, script=DEMO_SCRIPT)
        for _ in range(steps):
            wall.now += 1300.0 / steps
            simulation.now()
        wall.now = NOON + 1300.0
        simulation.now()
        worlds.append([(job.job_id, job.started, job.finished, job.fail_msg) for job in world.jobs])
    assert worlds[0] == worlds[1] == worlds[2]


def test_the_demo_repeats() -> None:
    """The demo's script shows something within a minute, never two things at once, and starts over."""
    entries = list(DEMO_SCRIPT.occurrences(0.0, 3000.0))
    assert entries[0].start < 60.0
    assert all(one.start + one.duration < two.start for one, two in itertools.pairwise(entries))
    assert DEMO_SCRIPT.period is not None
    assert entries[len(DEMO_SCRIPT.entries)].start == DEMO_SCRIPT.period + entries[0].start
    assert {entry.incident for entry in entries} <= INCIDENTS.keys()


def test_a_script_in_pieces() -> None:
    """Asked piece by piece, a repeating script yields every entry exactly once."""
    whole = list(DEMO_SCRIPT.occurrences(0.0, 5000.0))
    pieces = [
        entry for start in range(0, 5000, 7) for entry in DEMO_SCRIPT.occurrences(start, min(start + 7, 5000))
    ]
    assert pieces == whole


def test_unknown_incidents() -> None:
    """An incident that does not exist is a KeyError, not a quiet day."""
    simulation, _, _ = day_with("silence")
    incidents: Incidents = simulation.incidents
    with pytest.raises(KeyError):
        incidents.begin("picnic", NOON, 1.0)
