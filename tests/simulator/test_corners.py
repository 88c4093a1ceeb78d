"""Each switch for what the documentation leaves open does what it says, and nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from exporter.simulator.simulation import PROJECT_ID, Options
from tests.simulator.support import JOBS, ask, list_all, open_simulation, small_world

CONFIGS = f"/v1/{PROJECT_ID}/tenants/service-configs"
PAST = {"create_since": "2000-01-01T00:00:00Z", "create_until": "2000-01-01T00:00:01Z"}


def answer(path: str = JOBS, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
    """The answer to one request, of an API with these options; its query is in ``params``."""
    params = options.pop("params", {})
    world, wall = small_world(1)
    made = open_simulation(world, wall, msgspec.convert(options, Options))
    return ask(made, path, params=params, headers=headers or {})


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [record["job_id"] for record in response.json()["data"]]


@pytest.mark.parametrize(
    ("count", "shown"), [("page", 7), ("none", None), ("zero", 0)], ids=["page", "none", "zero"]
)
def test_count_is_what_the_switch_says(count: str, shown: int | None) -> None:
    """``count`` may be of the page, left out, or always 0."""
    assert answer(count=count, params={"limit": 7}).json().get("count") == shown


@pytest.mark.parametrize(
    ("text", "kind"),
    [("2000-01-01T00:00:01Z", "rfc3339"), ("946684801", "unix"), ("946684801000", "unix_ms")],
)
def test_a_bound_in_another_format_is_refused_or_ignored(text: str, kind: str) -> None:
    """Only the formats of the switch filter."""
    others = [name for name in ("rfc3339", "unix", "unix_ms") if name != kind]
    params = {"create_until": text}
    assert ids(answer(filter_time_formats=[kind], params=params)) == []
    assert answer(filter_time_formats=others, params=params).status_code == 400
    assert ids(answer(filter_time_formats=others, other_filter_times="ignored", params=params))


def test_the_zone_that_a_bound_names_may_be_ignored() -> None:
    """Eight hours off: the last minutes are not found at their own time."""
    params = {"create_since": "2025-10-09T08:43:20Z"}  # ten seconds before NOON
    assert ids(answer(zone_hours=-8, filter_zone_ignored=True, params=params)) == []
    assert ids(answer(zone_hours=8, filter_zone_ignored=True, params=params))


def test_a_time_may_be_written_with_a_false_z() -> None:
    """The local time of the zone, and ``Z`` behind it."""
    shown = answer(time_format="false_utc", zone_hours=8).json()["data"][0]["create_time"]
    assert shown.startswith("2025-10-09T16:")
    assert shown.endswith("Z")


@pytest.mark.parametrize("name", ["job_id", "job_type", "tts_service_enum", "business_type"])
def test_an_ignored_filter_has_no_effect(name: str) -> None:
    """The list is the same as without it."""
    value = {"job_type": "AUDITION", "tts_service_enum": "GPU_CLONE"}.get(name, "nothing-has-it")
    assert ids(answer(ignored_filters=[name], params={name: value})) == ids(answer())
    assert ids(answer(params={name: value})) != ids(answer())


def test_a_limit_may_be_refused_or_be_larger_than_documented() -> None:
    """The largest that is accepted is accepted, the next one is not."""
    for largest in (50, 100, 500):
        assert len(ids(answer(largest_limit=largest, params={"limit": largest}))) == largest
        assert answer(largest_limit=largest, params={"limit": largest + 1}).status_code == 400


def test_an_offset_may_count_pages_or_nothing() -> None:
    """The second page of five begins with the sixth record, by records or by pages."""
    everything = ids(answer(params={"limit": 50}))
    by_page = ids(answer(offset_counts="pages", params={"limit": 5, "offset": 1}))
    assert by_page == everything[5:10]
    assert ids(answer(offset_counts="nothing", params={"limit": 5, "offset": 9})) == everything[:5]
    assert ids(answer(params={"limit": 5, "offset": 1})) == everything[1:6]


def test_a_deep_offset_may_be_refused() -> None:
    """With the name of the parameter."""
    asked: dict[str, Any] = {"params": {"offset": 40, "limit": 5}, "max_offset": 40}
    refused = answer(**asked, deep_offsets="refused")
    assert refused.status_code == 400
    assert "offset" in refused.text
    assert ids(answer(**asked)) == []


def test_an_isolated_user_sees_his_own_jobs_with_every_filter() -> None:
    """None, or his share; the count is of these; the settings of the tenant say so."""
    assert answer(isolated=True).json() == {"count": 0, "data": []}
    world, wall = small_world(1)
    everything = list_all(open_simulation(world, wall))
    made = open_simulation(world, wall, Options(isolated=True, own_share=0.3))
    own = list_all(made)
    assert 0.2 < len(own) / len(everything) < 0.4
    assert ask(made, params={"limit": 1, "create_since": "2025-01-01T00:00:00Z"}).json()["count"] == len(own)
    control = answer(CONFIGS, isolated=True).json()["sub_account_control_config"]
    assert control == {"separately_controlled": True, "sub_account_type": "IAM_USER"}


def test_an_isolated_user_cannot_look_up_the_job_of_another() -> None:
    """A lookup is a list with one more filter."""
    world, wall = small_world(1)
    job = world.jobs[0]
    made = open_simulation(world, wall, Options(isolated=True))
    assert ids(ask(made, params={"job_id": job.job_id})) == []
    assert ids(ask(open_simulation(world, wall), params={"job_id": job.job_id})) == [job.job_id]


def test_an_app_user_id_may_filter_the_list() -> None:
    """With the switch half of the jobs are of that user; without it the header changes nothing."""
    header = {"X-App-UserId": "reader"}
    everything = answer().json()["count"]
    assert answer(headers=header).json()["count"] == everything
    assert answer(headers=header, app_user_id_filters=True).json()["count"] < everything
    assert answer(app_user_id_filters=True).json()["count"] == everything


@pytest.mark.parametrize(("switch", "status"), [("shown", 200), ("denied", 403), ("missing", 404)])
def test_the_settings_of_the_tenant_may_be_kept_back(switch: str, status: int) -> None:
    """They need a permission of their own, or the API does not exist there."""
    assert answer(CONFIGS, service_configs=switch).status_code == status
