"""Doctor on every API that the documents allow for: what it says, and what it proposes."""

from __future__ import annotations

import pytest

from exporter.commands.doctor.asking import Unanswered
from exporter.commands.doctor.examine import examine_facts
from exporter.commands.doctor.findings import Verdict
from exporter.simulator.faults import Fault
from exporter.simulator.world import BUSINESS_TYPE
from tests.commands.doctor.corners import CORNERS, Corner
from tests.commands.doctor.support import NOON, SimulatedCloud

pytestmark = pytest.mark.program

AGENCY = "try the account's own key, or an agency"


@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
def test_a_corner_is_found_and_answered(corner: Corner) -> None:
    """The finding that speaks of it has the verdict, and the lines that answer it; no other proposes any."""
    findings = SimulatedCloud(corner.options, corner.world).findings()
    found = findings[corner.finding]
    assert (found.verdict, found.config) == (corner.verdict, corner.config), found.text
    assert {name for name, it in findings.items() if it.config} <= {corner.finding}
    unusable = {name for name, it in findings.items() if it.verdict is Verdict.UNUSABLE}
    assert unusable == ({corner.finding} if corner.verdict == "unusable" else set())


@pytest.mark.parametrize(
    "corner", [CORNERS["documented"], CORNERS["deep-offsets-empty"]], ids=["usual", "most"]
)
def test_few_requests_are_sent(corner: Corner) -> None:
    """Some thirty; ten more where the deepest offset has to be searched for."""
    cloud = SimulatedCloud(corner.options, corner.world)
    cloud.findings()
    assert 25 <= len(cloud.requests) <= 42


def test_half_of_the_configured_rate_is_used_at_most() -> None:
    """The other half is for an exporter that runs with the same credentials."""
    cloud = SimulatedCloud()
    began = cloud.time.now
    facts = cloud.facts(rate_limit=2.0)
    assert facts.requests / (cloud.time.now - began) <= 1.0 + 1 / facts.requests


@pytest.mark.parametrize(
    ("switch", "why"),
    [("shown", "the account isolates IAM users"), ("denied", "the account may isolate IAM users")],
)
def test_an_empty_list_is_no_healthy_answer(switch: str, why: str) -> None:
    """It says who may be hiding the jobs, and what to try."""
    found = SimulatedCloud({"isolated": True, "service_configs": switch}).findings()["visibility"]
    assert found.verdict is Verdict.UNUSABLE
    assert found.text == f"this identity sees 0 jobs in 7 days: {why}; {AGENCY}"


def test_an_account_that_has_no_jobs_yet_is_not_judged() -> None:
    """There is nothing to learn from yet."""
    found = SimulatedCloud(rate=0.0).findings()["visibility"]
    assert (found.verdict, "submit a job" in found.text) == (Verdict.NOT_KNOWN, True)


def test_jobs_of_last_week_only_are_told_from_none() -> None:
    """By stretch: 1 h, 24 h, 7 d, 30 d."""
    cloud = SimulatedCloud(rate=0.0, hours=0.0)
    for day in (10, 20, 40):
        cloud.world.add(created=NOON - day * 86400, finished=NOON - day * 86400)
    found = cloud.findings()["visibility"]
    assert found.verdict is Verdict.DIFFERS
    assert "0 jobs in 7 days" in found.text


def test_an_app_user_id_that_filters_is_named() -> None:
    """With the numbers of both lists; one without effect is fine."""
    filtered = SimulatedCloud({"app_user_id_filters": True}).findings(app_user_id="reader")["app_user_id"]
    assert filtered.verdict is Verdict.DIFFERS
    assert filtered.text.startswith("it filters: ")
    assert SimulatedCloud().findings(app_user_id="reader")["app_user_id"].verdict is Verdict.OK
    assert "app_user_id" not in SimulatedCloud().findings()


@pytest.mark.parametrize("name", ["job_type", "tts_service_enum"])
def test_a_configured_filter_that_is_ignored_is_unusable(name: str) -> None:
    """The jobs of others would be counted."""
    value = {"job_type": "ASYNC_JOB", "tts_service_enum": "TTS_LLM"}[name]
    assert SimulatedCloud().findings(filters={name: value})["filters"].verdict is Verdict.OK
    found = SimulatedCloud({"ignored_filters": [name]}).findings(filters={name: value})["filters"]
    assert found.verdict is Verdict.UNUSABLE
    assert found.text.startswith(f"{name} is ignored")


@pytest.mark.parametrize("settings", [{"time_zone": "+08:00"}, {"time_zone": "Asia/Shanghai"}], ids=str)
def test_what_is_configured_already_is_not_proposed(settings: dict[str, str]) -> None:
    """The finding is ok then."""
    found = SimulatedCloud({"time_format": "naive", "zone_hours": 8}).findings(**settings)["create_time"]
    assert (found.verdict, found.config) == (Verdict.OK, ())


def test_settings_that_are_not_needed_are_named() -> None:
    """They cost requests."""
    findings = SimulatedCloud().findings(time_zone="+08:00", trust_count="false", time_filters=False)
    assert findings["count"].config == ("trust_count: auto",)
    assert findings["time filters"].config == ("time_filters: true",)


def test_a_wrong_clock_is_not_taken_for_a_zone() -> None:
    """Our machine's is wrong by an hour: the API's own time is what records are compared with."""
    cloud = SimulatedCloud()
    cloud.simulation.auth.required = False
    cloud.ours_is_ahead = 3600.0
    findings = cloud.findings()
    assert findings["clock"].verdict is Verdict.DIFFERS
    assert "3600 s behind" in findings["clock"].text
    assert findings["create_time"].verdict is Verdict.OK


def test_wrong_keys_are_tried_once() -> None:
    """Five bad signatures lock the key, and production may use it."""
    cloud = SimulatedCloud()
    cloud.simulation.auth.accounts.keys = {"ANOTHERKEY0000000000": "x"}
    findings = cloud.findings()
    assert len(cloud.requests) == 1
    assert findings["access"].verdict is Verdict.UNUSABLE
    assert "401" in findings["access"].text
    assert findings["credentials"].verdict is Verdict.UNUSABLE
    assert findings["visibility"].verdict is Verdict.NOT_KNOWN


def test_a_project_that_is_not_allowed_is_no_empty_account() -> None:
    """The keys are good: 403 says so, and nothing is said of what they would see."""
    findings = SimulatedCloud().findings(project_id="another")
    assert "403" in findings["access"].text
    assert findings["credentials"].verdict is Verdict.NOT_KNOWN
    assert findings["visibility"].verdict is Verdict.NOT_KNOWN


def test_a_failing_answer_costs_its_own_finding_only() -> None:
    """The others are there."""
    cloud = SimulatedCloud()
    cloud.simulation.faults.add(Fault(kind="error", operation="get_job", status=503), cloud.time.now)
    findings = cloud.findings()
    assert findings["job_id"].verdict is Verdict.NOT_KNOWN
    assert findings["count"].verdict is Verdict.OK


def test_throttling_is_noticed() -> None:
    """With a lower rate_limit to configure."""
    cloud = SimulatedCloud()
    cloud.simulation.faults.add(Fault(kind="throttle", times=2), cloud.time.now)
    assert cloud.findings(rate_limit=4.0)["throttling"].config == ("rate_limit: 2",)


def test_a_second_fuller_than_a_page_says_nothing_of_count() -> None:
    """Its records cannot all be seen, so none are missing."""
    cloud = SimulatedCloud(rate=0.0, hours=0.0)
    for _ in range(400):
        cloud.world.add(created=NOON - 1000, finished=NOON - 900)
    assert cloud.findings()["count"].verdict is Verdict.NOT_KNOWN


@pytest.mark.parametrize("field", ["job_id", "create_time"])
def test_a_job_without_an_id_or_a_time_needs_time_filters(field: str) -> None:
    """In the whole list it cannot be told from those that were counted."""
    findings = SimulatedCloud({"time_filters_work": False}, {f"no_{field}": 0.2}).findings()
    assert findings["fields"].verdict is Verdict.UNUSABLE


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_busy_list_that_is_asked_slowly_looks_the_same(order: str) -> None:
    """Ten new jobs a second, two seconds between questions: no page is where it was."""
    findings = SimulatedCloud({"order": order}, rate=600.0, hours=0.2).findings(rate_limit=1.0)
    judged = {name: it.verdict for name, it in findings.items() if name != "failures"}
    assert set(judged.values()) == {Verdict.OK}, judged


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_a_handful_of_jobs_is_enough_not_to_be_wrong(jobs: int) -> None:
    """What they do not show is not known."""
    cloud = SimulatedCloud(rate=0.0, hours=0.0)
    for number in range(jobs):
        cloud.world.add(created=NOON - 1000 - 7 * number, finished=NOON - 900)
    assert {it.verdict for it in cloud.findings().values()} <= {Verdict.OK, Verdict.NOT_KNOWN}


@pytest.mark.parametrize("end", [1, 50, 99, 100])
@pytest.mark.parametrize(
    ("how", "count"), [("refused", "records"), ("refused", "none"), ("empty", "records")]
)
def test_a_list_without_a_second_page_cannot_be_read_as_a_whole(end: int, how: str, count: str) -> None:
    """The time filters do not work either: jobs behind the first page are lost."""
    options = {"time_filters_work": False, "max_offset": end, "deep_offsets": how, "count": count}
    found = SimulatedCloud(options).findings()["time filters"]
    assert (found.verdict, found.config) == (Verdict.UNUSABLE, ())
    assert f"it ends at offset {end}" in found.text


@pytest.mark.parametrize("end", [50, 100])
@pytest.mark.parametrize(
    ("count", "verdict"),
    [
        ({}, Verdict.DIFFERS),
        ({"count": "none"}, Verdict.UNUSABLE),
        ({"count": "page"}, Verdict.UNUSABLE),
        ({"count_respects_filters": False}, Verdict.UNUSABLE),
        ({"count_stops_at_max_offset": True}, Verdict.UNUSABLE),
    ],
    ids=["right", "none", "page", "all", "stops"],
)
def test_a_first_page_is_not_taken_for_the_whole_list(
    end: int, count: dict[str, object], verdict: Verdict
) -> None:
    """Where the list ends with it though there are older jobs, which the time filters find."""
    found = SimulatedCloud({"max_offset": end, **count}).findings()
    assert found["deep offset"].verdict is verdict
    assert "whole list" not in found["limit"].text


@pytest.mark.parametrize(("clip", "verdict"), [(1, Verdict.UNUSABLE), (2, Verdict.DIFFERS)])
def test_pages_of_one_record_cannot_be_put_together(clip: int, verdict: Verdict) -> None:
    """The exporter tells by the record that two pages share that none slipped by."""
    found = SimulatedCloud({"limit_clip": clip}).findings()
    assert found["limit"].verdict is verdict
    assert f"one per {clip} new jobs" in found["cost"].text
    assert "exclusive" not in found["bounds"].text


@pytest.mark.parametrize("options", [{}, {"count_respects_filters": False}, {"count": "none"}])
def test_a_short_list_is_the_whole_list(options: dict[str, object]) -> None:
    """No job is behind its only page."""
    found = SimulatedCloud(options, rate=1.0, hours=1.0).findings()
    assert found["deep offset"].verdict is Verdict.OK
    assert "a page of 100 holds the whole list" in found["limit"].text


def test_an_offset_that_gives_nothing_is_not_called_ok() -> None:
    """Here a list that ends with its first record, though count knows better."""
    found = SimulatedCloud({"max_offset": 1}).findings()["deep offset"]
    assert found.verdict is Verdict.NOT_KNOWN
    assert "1 gives no record, though count says that there are " in found.text


@pytest.mark.parametrize("options", [{}, {"count": "none"}, {"count_stops_at_max_offset": True}], ids=str)
def test_one_job_that_is_shown_is_not_the_whole_list(options: dict[str, object]) -> None:
    """The time filters find the others: nobody can put such pages together."""
    found = SimulatedCloud({"max_offset": 1, **options}).findings()
    assert found["limit"].verdict is Verdict.UNUSABLE
    assert found["deep offset"].verdict is Verdict.NOT_KNOWN


@pytest.mark.parametrize("options", [{}, {"count": "none"}, {"order": "random"}], ids=str)
@pytest.mark.parametrize("shown", [2, 3, 4])
def test_a_list_that_shows_a_few_jobs_only_is_unusable(shown: int, options: dict[str, object]) -> None:
    """Not all jobs of a second fit on such a page, and nothing else can be learned from it."""
    found = SimulatedCloud({"max_offset": shown, **options}).findings()
    assert Verdict.UNUSABLE in {it.verdict for it in found.values()}
    assert "holds the whole list" not in found["limit"].text


@pytest.mark.parametrize(
    "options", [{"offset_counts": "pages"}, {"offset_counts": "nothing"}, {"max_offset": 20}]
)
@pytest.mark.parametrize(("rate", "verdict"), [(60.0, Verdict.DIFFERS), (360.0, Verdict.UNUSABLE)])
@pytest.mark.parametrize("ends", [{}, {"since_inclusive": False, "until_inclusive": False}], ids=["in", "ex"])
def test_what_fits_a_page_is_compared_with_the_busiest_second(
    options: dict[str, object], rate: float, verdict: Verdict, ends: dict[str, object]
) -> None:
    """Five jobs a second fit on pages of 20: enough for one a second, and not for six."""
    cloud = SimulatedCloud({"limit_clip": 20, **options, **ends}, rate=rate, hours=0.5, seed=2)
    found = cloud.findings()["deep offset" if "max_offset" in options else "offset"]
    assert found.verdict is verdict, found.text
    assert "at most 5 jobs a second (the busiest one found has " in found.text


def test_a_burst_of_the_last_hour_is_found() -> None:
    """The first page shows a quiet time."""
    cloud = SimulatedCloud({"order": "random", "limit_clip": 40}, rate=6.0, hours=2.0)
    for _ in range(60):
        cloud.world.add(created=NOON - 1500, finished=NOON - 900)
    found = cloud.findings()["order"]
    assert (found.verdict, "the busiest one found has 1" in found.text) == (Verdict.UNUSABLE, True)


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("clip", [2, 3, 4, 5, 20, 37])
def test_small_pages_show_what_offset_counts(clip: int, order: str) -> None:
    """From whichever end the list begins."""
    for counts in ("records", "pages"):
        options = {"limit_clip": clip, "order": order, "offset_counts": counts}
        facts = SimulatedCloud(options, hours=1.0).facts()
        assert facts.offset_unit == counts


@pytest.mark.parametrize("seed", range(8))
def test_records_in_order_by_chance_have_none(seed: int) -> None:
    """Of three records in no order every third page looks sorted: the next pages show that it is not."""
    found = SimulatedCloud({"limit_clip": 3, "order": "random"}, seed=seed).findings()
    assert found["order"].verdict is Verdict.UNUSABLE


@pytest.mark.parametrize("options", [{}, {"count": "none"}, {"count_respects_filters": False}], ids=str)
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_the_first_jobs_of_an_account_are_not_too_few(jobs: int, options: dict[str, object]) -> None:
    """A page is not small because there are no more, also where one is created as the questions are asked."""
    cloud = SimulatedCloud(options, rate=0.0, hours=0.0)
    for number in range(jobs):
        cloud.world.add(created=NOON - 1000 - 7 * number, finished=NOON - 900)

    def create_one(_: str) -> None:
        if len(cloud.requests) == 5:
            cloud.world.add(created=cloud.time.now)

    cloud.on_answer = create_one
    assert Verdict.UNUSABLE not in {it.verdict for it in cloud.findings().values()}


@pytest.mark.parametrize(
    ("switch", "why"),
    [("denied", "could not be asked (no permission): "), ("missing", "could not be asked (")],
)
def test_isolation_that_cannot_be_asked_says_what_may_follow(switch: str, why: str) -> None:
    """Jobs are visible, and may be this user's own only."""
    options = {"isolated": True, "own_share": 0.3, "service_configs": switch}
    findings = SimulatedCloud(options).findings()
    assert findings["visibility"].verdict is Verdict.OK
    found = findings["isolation"]
    assert found.verdict is Verdict.NOT_KNOWN
    assert found.text.startswith(f"whether IAM users are isolated {why}")
    assert f"sees its own jobs only, and the jobs here may be a part of all; {AGENCY}" in found.text


def test_a_state_that_is_not_documented_counts_as_open() -> None:
    """It becomes no label; other values do."""
    world = {"unknown_state": 0.5, "unknown_type": 0.5}
    found = SimulatedCloud({}, world, rate=600.0, hours=0.1).findings()["values"]
    state, kind = found.text.removeprefix("not documented: ").split("; ")
    assert (found.verdict, kind.startswith("job_type ")) == (Verdict.DIFFERS, True)
    assert state.startswith("job_state ")
    assert state.endswith(
        "shown as unknown and counted as open: where that state is final, the job is given up as expired"
        " after max_job_age (1d)"
    )
    assert kind.endswith(", a label of its own, or other where it is no plain name")


@pytest.mark.parametrize(
    ("options", "verdict", "says"),
    [
        ({}, Verdict.OK, "only jobs that match are listed"),
        ({"ignored_filters": ["business_type"]}, Verdict.UNUSABLE, "business_type is ignored"),
    ],
    ids=["respected", "ignored"],
)
def test_a_filter_that_records_do_not_show_is_tried(
    options: dict[str, object], verdict: Verdict, says: str
) -> None:
    """With a value that no job has: nothing may come."""
    found = SimulatedCloud(options).findings(filters={"business_type": BUSINESS_TYPE})["filters"]
    assert found.verdict is verdict
    assert says in found.text


def test_a_filter_that_an_error_hides_is_not_known() -> None:
    """Nor is one that no record shows, where the value that no job has is refused."""
    facts = SimulatedCloud().facts()
    for works in (Unanswered("503", 503, by_rule=False), None):
        facts.filtered = {"business_type": works}
        found = next(it for it in examine_facts(facts) if it.name == "filters")
        assert found.verdict is Verdict.NOT_KNOWN
    assert found.text == "business_type: records do not show it"
