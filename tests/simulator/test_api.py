"""The list of jobs as the ShowTtsJob page has it, and the ways that page leaves open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exporter.simulator.arrivals import WorldOptions
from exporter.simulator.job import SimulatedJob
from exporter.simulator.simulation import PROJECT_ID, Options
from exporter.simulator.world import World

from .support import JOBS, NOON, Wall, ask, list_all, open_simulation, small_world


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "１０"}, "limit"),
        ({"offset": "-1"}, "offset"),
        ({"offset": "2147483648"}, "offset"),
        ({"create_since": "yesterday"}, "create_since"),
        ({"create_until": "2025-13-01T00:00:00Z"}, "create_until"),
        ({"job_type": "PRELOAD"}, "job_type"),
        ({"job_type": ""}, "job_type"),
        ({"tts_service_enum": "TTS"}, "tts_service_enum"),
    ],
    ids=str,
)
def test_illegal_parameters(params: dict[str, str], names: str) -> None:
    """A parameter outside its documented range gets 400, the documented code, and is named."""
    answer = ask(open_simulation(*small_world(minutes=1)), params=params)
    assert answer.status_code == 400
    body = answer.json()
    assert body["error_code"] == "MSS.000000003"
    assert names in body["error_msg"]
    assert body["request_id"] == answer.headers["x-request-id"]


def test_defaults_and_documented_fields() -> None:
    """Without parameters: ten records, ``count`` of all, the simulator's date, the documented fields."""
    world, wall = small_world()
    answer = ask(open_simulation(world, wall))
    page = answer.json()
    assert (len(page["data"]), page["count"]) == (10, len(world.listing))
    assert answer.headers["date"] == "Thu, 09 Oct 2025 08:53:20 GMT"
    assert page["data"][0].keys() >= {
        "job_id", "asset_id", "tts_service_enum", "text_length", "create_time", "audio_format",
        "need_timestamp", "gen_srt", "job_type", "job_state",
    }  # fmt: skip


def test_bounds_are_inclusive() -> None:
    """Records created in the very second of a bound are in the answer."""
    world = World(0, start=NOON - 10, rate=0.0, project_id=PROJECT_ID)
    world.advance(NOON)
    for second in range(-5, 0):
        world.add(created=NOON + second)
    simulation = open_simulation(world, Wall())
    page = ask(
        simulation, params={"create_since": str(int(NOON) - 4), "create_until": "2025-10-09T08:53:18Z"}
    ).json()
    assert [record["create_time"][-3:-1] for record in page["data"]] == ["18", "17", "16"]
    assert page["count"] == 3


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (Options(since_inclusive=False), ["20", "19"]),
        (Options(until_inclusive=False), ["19", "18"]),
        (Options(create_time_rounding="nearest"), ["20", "19", "18"]),
        (Options(create_time_rounding="up"), ["20", "20", "18"]),
    ],
    ids=["since-exclusive", "until-exclusive", "rounded", "rounded-up"],
)
def test_bounds_compare_what_is_stored_not_what_is_shown(options: Options, shown: list[str]) -> None:
    """Whether they are inclusive, and how fractions of a second are shown, is documented nowhere."""
    exact = WorldOptions(milliseconds=True)
    world = World(0, start=NOON - 10, rate=0.0, project_id=PROJECT_ID, options=exact)
    world.advance(NOON)
    for created in (-2.0, -0.75, 0.0):
        world.add(created=NOON + created)
    bounds = {"create_since": str(int(NOON) - 2), "create_until": str(int(NOON))}
    page = ask(open_simulation(world, Wall(), options), params=bounds).json()
    assert [record["create_time"][-3:-1] for record in page["data"]] == shown


@pytest.mark.parametrize(
    "text",
    [
        "2025-10-09T08:53:20Z",
        "2025-10-09T16:53:20+08:00",
        "2025-10-09 08:53:20",
        "1760000000",
        "1760000000000",
    ],
)
def test_time_formats_of_filters(text: str) -> None:
    """A filter's time may be RFC 3339 with any zone, or a number of seconds or milliseconds."""
    world = World(0, start=NOON - 10, rate=0.0, project_id=PROJECT_ID)
    world.add(created=NOON - 1)
    world.add(created=NOON)
    assert ask(open_simulation(world, Wall()), params={"create_since": text}).json()["count"] == 1


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (Options(), "2025-10-09T08:53:20Z"),
        (Options(time_format="rfc3339_ms"), "2025-10-09T08:53:20.000Z"),
        (Options(time_format="offset", zone_hours=8.0), "2025-10-09T16:53:20+08:00"),
        (Options(time_format="blank", zone_hours=8.0), "2025-10-09 16:53:20"),
        (Options(time_format="naive"), "2025-10-09T08:53:20"),
        (Options(time_format="naive", zone="Europe/Berlin"), "2025-10-09T10:53:20"),
        (Options(time_format="unix"), 1760000000),
        (Options(time_format="unix_ms"), 1760000000000),
    ],
    ids=lambda value: value.time_format if isinstance(value, Options) else "",
)
def test_time_formats_of_records(options: Options, shown: str | int) -> None:
    """Creation times are written in the format asked for."""
    world = World(0, start=NOON, rate=0.0, project_id=PROJECT_ID)
    world.add(created=NOON)
    page = ask(open_simulation(world, Wall(), options)).json()
    assert page["data"][0]["create_time"] == shown


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_order_and_paging(order: str) -> None:
    """Pages in either order hold every record exactly once, in order of creation."""
    world, wall = small_world(minutes=4)
    records = list_all(open_simulation(world, wall, Options(order=order)))  # type: ignore[arg-type]  # one of them
    ids = [record["job_id"] for record in records]
    straight = [job.job_id for job in world.listing]
    assert ids == (straight if order == "oldest" else straight[::-1])


def test_random_order() -> None:
    """In random order two answers to the same question differ; one answer repeats nothing."""
    simulation = open_simulation(*small_world(), Options(order="random"))
    pages = [[r["job_id"] for r in ask(simulation, params={"limit": 50}).json()["data"]] for _ in range(2)]
    assert pages[0] != pages[1]
    assert len(set(pages[0])) == 50


@pytest.mark.parametrize(
    ("options", "params", "length", "counts"),
    [
        (Options(limit_clip=50), {"limit": 100}, 50, None),
        (Options(max_offset=70), {"limit": 50, "offset": 50}, 20, None),
        (Options(max_offset=70), {"limit": 50, "offset": 70}, 0, None),
        (Options(max_offset=70, count_stops_at_max_offset=True), {"limit": 50}, 50, 70),
        (Options(count_respects_filters=False), {"create_since": str(int(NOON) + 60)}, 0, None),
        (Options(time_filters_work=False), {"limit": 30, "create_since": str(int(NOON) + 60)}, 30, None),
    ],
    ids=["clip", "cap", "behind-cap", "capped-count", "global-count", "no-time-filter"],
)
def test_ways_that_are_not_documented(
    options: Options, params: dict[str, Any], length: int, counts: int | None
) -> None:
    """Each option changes the length of the page or the count as its name says."""
    world, wall = small_world()
    page = ask(open_simulation(world, wall, options), params=params).json()
    assert (len(page["data"]), page["count"]) == (length, len(world.listing) if counts is None else counts)


@pytest.mark.parametrize(
    ("params", "fits"),
    [
        ({"job_type": "WEBSOCKET"}, lambda job: job.job_type == "WEBSOCKET"),
        ({"tts_service_enum": "GPU_CLONE"}, lambda job: job.tts_service_enum == "GPU_CLONE"),
        (
            {"job_type": "AUDITION", "tts_service_enum": "TTS_LLM"},
            lambda job: (job.job_type, job.tts_service_enum) == ("AUDITION", "TTS_LLM"),
        ),
        ({"business_type": "SYNTHETICS_SOUND"}, lambda job: True),
        ({"business_type": "VOICE_CLONE"}, lambda job: False),
    ],
    ids=["type", "service", "both", "business", "other-business"],
)
def test_filters(params: dict[str, str], fits: Callable[[SimulatedJob], bool]) -> None:
    """Filters leave exactly the records that match, and ``count`` agrees."""
    world, wall = small_world()
    simulation = open_simulation(world, wall)
    records = list_all(simulation, **params)
    assert sorted(r["job_id"] for r in records) == sorted(job.job_id for job in world.listing if fits(job))
    assert ask(simulation, params=params).json()["count"] == len(records)


def test_one_job_by_id() -> None:
    """A list by ``job_id`` holds that job; an unknown id gives an empty list; other filters still apply."""
    world, wall = small_world()
    simulation = open_simulation(world, wall)
    wanted = next(job for job in world.listing if job.job_type == "WEBSOCKET").job_id
    assert [r["job_id"] for r in ask(simulation, params={"job_id": wanted}).json()["data"]] == [wanted]
    assert ask(simulation, params={"job_id": "nobody"}).json() == {"count": 0, "data": []}
    assert ask(simulation, params={"job_id": wanted, "job_type": "AUDITION"}).json()["count"] == 0
    assert simulation.requests["get_job", "200"] == 3


def test_fields_that_are_missing() -> None:
    """Records lack what they are made to lack, and twins are equal in all that they show."""
    world, wall = small_world(no_text_length=1.0, no_create_time=1.0, twin=1.0)
    records = list_all(open_simulation(world, wall, Options(order="oldest")))
    assert not {"job_id", "text_length", "create_time"} & set().union(*records)
    shown = [str(record) for record in records]
    assert all(shown.count(text) >= 2 for text in shown)


@pytest.mark.parametrize("path", [f"{JOBS}/x", "/v2/anything", "/"])
def test_paths_that_do_not_exist(path: str) -> None:
    """Another path gets the gateway's 404."""
    answer = ask(open_simulation(*small_world(minutes=1)), path)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "APIG.0101")
