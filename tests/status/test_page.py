"""What the status says: facts from published values, and no secret, whoever asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from starlette.applications import Starlette

from exporter.config import (
    AgencyAuth,
    AkskAuth,
    Auth,
    Config,
    DefaultChain,
    FailMsgClass,
    PasswordAuth,
    PollConfig,
    Secret,
    StorageConfig,
    TargetConfig,
    TokenAuth,
    show_config,
)
from exporter.errors import ApiError, ErrorKind
from exporter.failures import UnclassifiedTemplate
from exporter.ledger import totals
from exporter.ledger.gauges import JobGauges
from exporter.ledger.last_hour import Minute
from exporter.ledger.snapshot import Activity, LastPoll, TargetView
from exporter.status.model import State, Status
from exporter.status.page import StatusPage, bars, clock, span, with_thousands
from exporter.store.sqlite import SqliteStore
from exporter.web.status_routes import StatusRoutes
from tests.exposition.views import LLM, STARTED, api_error, bare_view, full_api, full_status, full_view
from tests.fake_api import PollerHarness
from tests.paths import ROOT

NOW_MS = int(STARTED * 1000) + 1000
"""When ``full_status`` is asked."""
SECRET = "S3CRET"


def of_target(auth: Auth) -> TargetConfig:
    return TargetConfig(
        name="t", region="cn-north-4", endpoint="https://e", iam_endpoint="https://i", auth=auth
    )


AUTHS: dict[str, Auth] = {
    "aksk": AkskAuth(Secret(f"AK{SECRET}"), Secret(f"SK{SECRET}"), Secret(f"ST{SECRET}")),
    "files": AkskAuth(Path("/run/ak"), Path("/run/sk")),
    "token": TokenAuth(Secret(SECRET)),
    "password": PasswordAuth("domain", "user", Secret(SECRET)),
    "agency": AgencyAuth(),
    "chain": DefaultChain(),
}


@pytest.mark.parametrize("auth", AUTHS.values(), ids=AUTHS)
def test_the_configuration_is_shown_without_its_secrets(auth: Auth) -> None:
    """In YAML, in JSON and on the page; where a secret comes from is shown."""
    config = Config(storage=StorageConfig(url="sqlite:////b.db"), targets=(of_target(auth),))
    facts = full_status(config=config)
    page = StatusPage({}).render(facts, refresh=True)
    for text in (facts.configuration, msgspec.json.encode(facts).decode(), page):
        assert SECRET not in text
        assert "sqlite:////b.db" in text
    if isinstance(auth, AkskAuth) and isinstance(auth.access_key, Path):
        assert "access_key_file: /run/ak" in facts.configuration
        assert "security_token" not in facts.configuration


def test_the_configuration_is_shown_as_one_writes_it() -> None:
    """Durations with units, rules as they are, defaults included."""
    rules = (FailMsgClass("brand_voice", "(?i)brand 'voice'"),)
    text = show_config(Config(storage=StorageConfig(url="sqlite:////b.db"), fail_msg_classes=rules))
    assert "interval: 15s" in text
    assert "retention: 30d" in text
    assert "{class: brand_voice, match: '(?i)brand ''voice'''}" in text


def of_view(view: TargetView, *, rejected: bool = False, denied: bool = False) -> Status:
    api = full_api("production")
    api.target("production").credentials_rejected(rejected)
    api.target("production").access_denied(denied)
    poll = PollConfig(interval=15.0, timeout=60.0, overlap=300.0)
    return full_status(view, api=api, config=Config(storage=StorageConfig(url="x"), poll=poll))


def well(**changes: Any) -> TargetView:
    gauges = JobGauges(jobs={}, open_jobs={}, oldest_open={}, counted_until=NOW_MS - 400_000)
    polls = {totals.POLLS: {("", "", "complete"): 3}}
    values = {"totals": polls, "last_complete_poll": NOW_MS - 10_000, "gauges": gauges}
    return replace(bare_view(), **{**values, "last_poll": LastPoll(up=True), **changes})


STATES: dict[State, tuple[TargetView, bool]] = {
    "ok": (well(), False),
    "starting": (bare_view(), False),
    "failing": (well(last_poll=LastPoll()), False),
    "refused": (well(last_poll=LastPoll()), True),
    "denied": (well(last_poll=LastPoll()), False),
    "behind": (well(last_complete_poll=NOW_MS - 61_000), False),
    "clock": (well(last_poll=LastPoll(up=True, clocks_disagree=True)), False),
}


@pytest.mark.parametrize("state", STATES)
def test_the_worst_that_is_true_is_the_state(state: State) -> None:
    """From what a scrape shows, too; and the page has a word for each."""
    view, rejected = STATES[state]
    facts = of_view(view, rejected=rejected, denied=state == "denied")
    assert facts.targets[0].state == state
    page = StatusPage({}).render(facts, refresh=True)
    assert f'class="badge {state}"' in page
    assert ("1 of 1 target in trouble" in page) is (state not in ("ok", "starting"))


def test_a_long_lag_is_trouble_though_every_poll_is_complete() -> None:
    """Catching up shows."""
    gauges = JobGauges(jobs={}, open_jobs={}, oldest_open={}, counted_until=NOW_MS - 700_000)
    facts = of_view(well(gauges=gauges))
    assert facts.targets[0].lag_seconds == pytest.approx(700)
    assert facts.targets[0].usual_lag_seconds == 600
    assert facts.targets[0].state == "behind"


def test_the_lag_is_shown_on_the_clock_of_the_api() -> None:
    """Our own clock being wrong is no lag."""
    assert of_view(well(last_poll=LastPoll(up=True, clock_skew_ms=-30_000))).targets[
        0
    ].lag_seconds == pytest.approx(370)


@pytest.mark.parametrize("believed", [-2 * 3_600_000, -401_500], ids=["by-hours", "by-a-second"])
def test_counts_ahead_of_the_clock_are_never_ok(believed: int) -> None:
    """A lag below zero means that jobs are taken for counted that are not made yet."""
    facts = of_view(well(last_poll=LastPoll(up=True, clock_skew_ms=0, believed_skew_ms=believed)))
    assert facts.targets[0].state == "clock"
    assert facts.targets[0].lag_seconds == pytest.approx(400 + believed / 1000)
    assert "ahead of the API&#39;s clock" in StatusPage({}).render(facts, refresh=True).replace("'", "&#39;")


def test_the_lag_goes_by_the_time_that_is_believed() -> None:
    """A Date two hours ahead, alone, is no lag of two hours."""
    poll = LastPoll(up=True, clock_skew_ms=7_200_000, believed_skew_ms=0, clocks_disagree=True)
    facts = of_view(well(last_poll=poll))
    assert facts.targets[0].lag_seconds == pytest.approx(400)


def test_what_an_operator_asks_first_is_there() -> None:
    """Requests and budget, open jobs and the oldest, failures by class, API errors with their request ids."""
    api = full_api("production")
    api.target("production").error(
        api_error("list_jobs", "server", "APIG.0201", status=503, request_id="id-1")
    )
    view = replace(
        full_view(),
        activity=Activity(failures={"unclassified": 7}),
        last_poll=LastPoll(up=True, requests=3, budget=75),
    )
    facts = full_status(view, api=api)
    one = facts.targets[0]
    assert (one.last_poll_requests, one.poll_budget) == (3, 75)
    assert one.open_jobs == sum(view.gauges.open_jobs.values()) if view.gauges else False
    assert one.oldest_open_job is not None
    assert (one.failures[0].fail_msg_class, one.failures[0].last_hour) == ("unclassified", 7)
    newest = facts.api_errors[0]
    assert (newest.http_status, newest.error_code, newest.request_id) == (503, "APIG.0201", "id-1")
    assert one.credentials.expires == STARTED + 3600


def test_the_json_is_what_is_documented() -> None:
    """Every field of the first level and of a target is in the page about it."""
    page = (ROOT / "docs" / "status-api.md").read_text(encoding="utf-8")
    facts = msgspec.json.decode(msgspec.json.encode(full_status()))
    for name in (*facts, *facts["targets"][0], *facts["api_errors"][0], *facts["reload"]):
        assert f"`{name}`" in page, name


def test_a_failed_reload_is_on_the_page() -> None:
    """With every problem."""
    facts = full_status()
    problems = ("exporter.yaml:3: poll.interval: <b>bad</b>", "exporter.yaml:9: targets[0].name: is missing")
    facts = replace(facts, reload=replace(facts.reload, problems=problems))
    page = StatusPage({}).render(facts, refresh=True)
    assert "The last reload failed" in page
    assert "exporter.yaml:3: poll.interval: &lt;b&gt;bad&lt;/b&gt;" in page
    assert problems[1] in page


def test_without_targets_or_readiness_there_is_a_page() -> None:
    """While the ledger is being loaded."""
    page = StatusPage({}).render(replace(full_status(), targets=(), ready=False), refresh=True)
    assert "Not ready." in page
    assert "No target is loaded yet." in page


def test_the_page_refreshes_itself_until_it_is_told_not_to() -> None:
    """Without a script; paused, everything is unfolded and can be copied at leisure."""
    page = StatusPage({})
    assert '<meta http-equiv="refresh" content="10">' in page.render(full_status(), refresh=True)
    still = page.render(full_status(), refresh=False)
    assert "http-equiv" not in still
    assert "<details open>" in still


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 m"),
        (252, "4 m 12 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (90061, "1 d 1 h"),
    ],
)
def test_spans_have_at_most_two_units(seconds: float, text: str) -> None:
    """As people say them."""
    assert span(seconds) == text


def test_numbers_and_times_are_for_reading() -> None:
    """And no time is so odd that it breaks the page."""
    assert with_thousands(1234567) == "1\u202f234\u202f567"
    assert clock(0) == "1970-01-01 00:00:00"
    assert clock(1e300) == "out of range"


def test_times_of_the_last_hour_are_seconds() -> None:
    """As all of the status: published values have milliseconds."""
    seen = UnclassifiedTemplate("odd", 1, NOW_MS, "rule")
    activity = Activity(minutes=(Minute(NOW_MS, 1, 0, 0, 0, 1),), unclassified=(seen,))
    (target,) = full_status(replace(bare_view(), activity=activity)).targets
    assert [minute.start for minute in target.last_hour] == [NOW_MS / 1000]
    assert [messages.last_seen for messages in target.unclassified] == [NOW_MS / 1000]


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_bars_stay_inside_their_chart(values: list[int]) -> None:
    """The highest fills it; zeros are not drawn."""
    minutes = [Minute(index * 60_000, value, value, 0, 0, 0) for index, value in enumerate(values)]
    facts = full_status(replace(bare_view(), label_sets=(LLM,), activity=Activity(minutes=tuple(minutes))))
    drawn = bars(facts.targets[0].last_hour, "created")
    path = str(drawn["path"])
    assert path.count("z") == sum(value > 0 for value in values)
    assert drawn["peak"] == max(values, default=0)
    heights = [float(part.split("h")[0]) for part in path.split("v-")[1:]]
    assert all(1.5 <= height <= 44 for height in heights)
    assert max(heights, default=44.0) == 44.0


def test_why_a_poll_was_not_complete_is_said_until_one_is(tmp_path: Path) -> None:
    """By the poller, with the words of the log."""
    store = SqliteStore(tmp_path / "books.db")
    harness = PollerHarness(store)
    asyncio.run(harness.poll(2))
    harness.api.fail = lambda query: ApiError(ErrorKind.SERVER, "<b>down</b>", operation="list_jobs")
    asyncio.run(harness.poll())
    facts = full_status(replace(harness.views[-1], target="production"))
    assert facts.targets[0].last_poll_problem == "list_jobs: <b>down</b> (server)"
    assert "&lt;b&gt;down&lt;/b&gt;" in StatusPage({}).render(facts, refresh=True)
    harness.api.fail = lambda query: None
    asyncio.run(harness.poll())
    assert harness.views[-1].last_poll.problem == ""
    store.close()


def test_the_status_is_made_at_most_once_a_second() -> None:
    """A page costs milliseconds: a crowd that reloads it must not keep a scrape waiting."""
    made: list[float] = []
    now = 100.0

    def status() -> Status:
        made.append(now)
        return full_status()

    app = Starlette(routes=StatusRoutes(status, {}, monotonic=lambda: now).routes(page=True))

    async def ask(*paths: str) -> list[bytes]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://e") as client:
            return [(await client.get(path)).content for path in paths]

    first = asyncio.run(ask("/", "/", "/", "/api/v1/status", "/api/v1/status"))
    assert len(made) == 2
    assert first[0] == first[1] == first[2] != first[3] == first[4]
    now = 101.0
    asyncio.run(ask("/"))
    assert made == [100.0, 100.0, 101.0]
