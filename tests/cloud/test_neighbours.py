"""Targets with the same credentials: what an answer says of one of them silences no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import httpx
import pytest

from exporter.cloud.client import Client
from exporter.config import Auth, PasswordAuth, Secret, TokenAuth
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery
from tests.cloud.harness import ENDPOINT, ClientHarness, Events, FakeTime, gateway, jobs, reply, run, target

SICK_HOST = "metastudio.sick.example.com"
SICK_PROJECT = "5ick0924078d1b471c884a5383d4dec9"
ELSEWHERE = {"endpoint": f"https://{SICK_HOST}", "iam_endpoint": "https://iam.sick.example.com"}
PASSWORD = PasswordAuth("account", "user", Secret("p4ssw0rd-example"))
INTERVAL = 15.0


def is_sick(request: httpx.Request) -> bool:
    return "sick" in request.url.host or SICK_PROJECT in request.url.path


class Neighbours:
    """A healthy target and a sick one that polls just before it, each with events of its own."""

    def __init__(
        self,
        answer: Callable[[httpx.Request], httpx.Response],
        auth: Auth | None = None,
        sick: Mapping[str, object] = ELSEWHERE,
    ) -> None:
        self.answer = answer
        self.harness = ClientHarness(self.respond)
        self.well_events, self.sick_events = Events(), Events()
        both = {} if auth is None else {"auth": auth}
        self.well = self.connect(self.well_events, name="well", **both)
        self.sick = self.connect(self.sick_events, name="sick", **both, **sick)

    def connect(self, events: Events, **options: object) -> Client:
        return self.harness.connect(target(**options), events=events)

    def respond(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v3/auth/tokens" and not is_sick(request):
            return reply(201, {"token": {}}, {"X-Subject-Token": "t0ken"})
        return self.answer(request) if is_sick(request) else jobs("a")

    @property
    def time(self) -> FakeTime:
        return self.harness.time

    def sent_by_the_sick(self) -> int:
        return sum(is_sick(request) for request in self.harness.requests)

    def poll(self, seconds: float, *, timeout: float = 10.0) -> tuple[int, int]:
        """Polls of the healthy target in that time: all, and those that were answered."""

        async def scenario() -> list[bool]:
            end, answered = self.time.now + seconds, []
            while self.time.now < end:
                due = self.time.now + INTERVAL
                await self.ask(self.sick, timeout)
                answered.append(await self.ask(self.well, timeout))
                self.time.now = max(self.time.now, due)
            return answered

        answered = run(scenario())
        return len(answered), sum(answered)

    async def ask(self, client: Client, seconds: float) -> bool:
        try:
            await client.list_jobs(JobsQuery(), deadline=self.time.now + seconds)
        except ApiError:
            return False
        return True


def keep_saying(
    status: int, code: str, text: str, **headers: str
) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: gateway(status, code, text, **headers)


FORBIDDEN = [
    pytest.param(403, code, text, id=name)
    for name, code, text in [
        ("region", "APIG.0802", "The IAM user is forbidden in the currently selected region"),
        ("user", "APIG.0302", "The IAM user is not allowed"),
        ("address", "APIG.0401", "client IP not allowed"),
        ("project", "APIG.0310", "project unavailable"),
        ("iam", "IAM.0002", "You have no right to do this"),
        ("service", "MSS.00000004", "not authenticated"),
        ("unknown", "XYZ.1", "go away"),
    ]
]
REFUSED = [
    pytest.param(401, code, text, id=name)
    for name, code, text in [
        ("signature", "APIG.0301", "Incorrect IAM authentication information: verify aksk signature fail"),
        ("no_such_key", "APIG.0301", "Get secretKey failed, ak: AKEXAMPLE err: ak not exist"),
        ("locked", "APIG.0301", "AK access failed to reach the limit,forbidden"),
        ("unknown", "XYZ.1", "no"),
    ]
]
PLACES = [pytest.param(ELSEWHERE, id="endpoint"), pytest.param({"project_id": SICK_PROJECT}, id="project")]


@pytest.mark.parametrize("sick", PLACES)
@pytest.mark.parametrize(("status", "code", "text"), FORBIDDEN)
def test_a_403_concerns_one_target(status: int, code: str, text: str, sick: dict[str, object]) -> None:
    """The other misses no poll; the forbidden one asks once a minute, and its credentials are not refused."""
    pair = Neighbours(keep_saying(status, code, text), sick=sick)
    assert pair.poll(960) == (64, 64)
    assert 16 <= pair.sent_by_the_sick() <= 17
    assert (pair.sick_events.rejected, pair.sick_events.denied) == (False, True)
    assert (pair.well_events.rejected, pair.well_events.denied) == (False, False)


@pytest.mark.parametrize("sick", PLACES)
@pytest.mark.parametrize(("status", "code", "text"), REFUSED)
def test_a_401_concerns_one_target_first(status: int, code: str, text: str, sick: dict[str, object]) -> None:
    """The other misses no poll; the refused one signs once in five minutes, and says that it is refused."""
    pair = Neighbours(keep_saying(status, code, text), sick=sick)
    assert pair.poll(960) == (64, 64)
    assert pair.sent_by_the_sick() == 4
    assert (pair.sick_events.rejected, pair.sick_events.denied) == (True, False)
    assert (pair.well_events.rejected, pair.well_events.denied) == (False, False)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "auth", [pytest.param(TokenAuth(Secret("t0ken")), id="token"), pytest.param(PASSWORD, id="password")]
)
def test_a_token_is_refused_for_one_scope(auth: Auth, status: int) -> None:
    """A token that is refused for one project, or by one endpoint, lists the jobs of another."""
    for sick in ({"project_id": SICK_PROJECT}, {"endpoint": f"https://{SICK_HOST}"}):
        pair = Neighbours(keep_saying(status, "APIG.0301", "no"), auth, sick)
        assert pair.poll(960) == (64, 64)


def test_many_refused_tokens_keep_no_other_waiting() -> None:
    """Nothing locks a token: after ten targets with a wrong one, the eleventh is asked at once."""
    pair = Neighbours(keep_saying(401, "APIG.0301", "decrypt token fail"), TokenAuth(Secret("t0ken")))
    for number in range(10):
        other = pair.connect(
            Events(), name=str(number), auth=TokenAuth(Secret("t0ken")), endpoint=f"https://sick{number}"
        )
        assert not run(pair.ask(other, 10.0))
    assert pair.poll(15) == (1, 1)


@pytest.mark.parametrize("status", [401, 403])
def test_a_password_is_refused_for_one_project(status: int) -> None:
    """IAM makes no token for one project: the target of the other has its own."""
    pair = Neighbours(lambda request: reply(status, {"error": {"message": "no", "code": status}}), PASSWORD)

    def answer(request: httpx.Request) -> httpx.Response:
        if SICK_PROJECT.encode() in request.content:
            return reply(status, {"error": {"message": "no", "code": status}})
        return pair.respond(request)

    pair.harness.handler = answer
    pair.well = pair.connect(pair.well_events, name="well", auth=PASSWORD)
    pair.sick = pair.connect(pair.sick_events, name="sick", auth=PASSWORD, project_id=SICK_PROJECT)
    assert pair.poll(960) == (64, 64)
    tokens = [request for request in pair.harness.requests if request.url.path == "/v3/auth/tokens"]
    assert len(tokens) == 1 + {401: 4, 403: 16}[status]
    assert (pair.sick_events.rejected, pair.sick_events.denied) == (status == 401, status == 403)


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_project_that_cannot_be_looked_up_concerns_one_target(status: int) -> None:
    """The identity service of one region refuses or throttles: another region's target polls on."""
    pair = Neighbours(keep_saying(status, "APIG.0301", "no"), sick={"project_id": None, **ELSEWHERE})
    assert pair.poll(960) == (64, 64)


def test_a_throttled_identity_service_throttles_no_list() -> None:
    """Even where both are one host: who has a token goes on."""
    throttle = {"Retry-After": "600"}

    def answer(request: httpx.Request) -> httpx.Response:
        if SICK_PROJECT.encode() in request.content:
            return reply(429, {"error_code": "IAM.0012", "error_msg": "too many"}, throttle)
        return pair.respond(request)

    pair = Neighbours(lambda request: jobs("a"), PASSWORD)
    pair.harness.handler = answer
    same = {"auth": PASSWORD, "iam_endpoint": ENDPOINT}
    pair.well = pair.connect(pair.well_events, name="well", **same)
    pair.sick = pair.connect(pair.sick_events, name="sick", project_id=SICK_PROJECT, **same)
    assert run(pair.ask(pair.well, 10.0))
    assert pair.poll(345) == (23, 23)


THROTTLED = [
    pytest.param({}, "The throttling threshold has been reached: limit:60,time:1 minute", id="window"),
    pytest.param({"Retry_After": "600"}, "", id="ten_minutes"),
    pytest.param({"Retry_After": "Wed, 19 Nov 2099 08:00:00 GMT"}, "", id="date_far_ahead"),
    pytest.param({"Retry_After": "9" * 50}, "", id="absurd"),
    pytest.param({"Retry_After": "0"}, "", id="now"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("headers", "text"), THROTTLED)
@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_throttles_concerns_itself(status: int, headers: dict[str, str], text: str) -> None:
    """A pause holds for the key and that endpoint: elsewhere no poll is missed."""
    pair = Neighbours(keep_saying(status, {429: "APIG.0308", 503: "APIG.0613"}[status], text, **headers))
    polls, answered = pair.poll(1200, timeout=60.0)
    assert (answered, pair.well_events.waited < 1.0) == (polls, True)


@pytest.mark.slow
def test_an_absurd_pause_ends_after_an_hour() -> None:
    """Whatever number or date Retry-After holds."""
    for value in ("9" * 50, "1" + "0" * 11, "86400.5", "Wed, 19 Nov 2099 08:00:00 GMT"):
        pair = Neighbours(keep_saying(429, "APIG.0308", "", Retry_After=value))
        pair.poll(7200.0 + 2 * INTERVAL, timeout=10.0)
        assert pair.sent_by_the_sick() == 3, value


def test_a_pause_says_who_throttles_and_what_it_said() -> None:
    """Nobody looks for the cause in a rate_limit of ours."""
    text = "policy user over ratelimit,limit:60,time:1 minute"
    pair = Neighbours(keep_saying(429, "APIG.0308", text, Retry_After="600"))

    async def scenario() -> None:
        for _ in range(2):
            with pytest.raises(ApiError) as caught:
                await pair.sick.list_jobs(JobsQuery(), deadline=pair.time.now + 60.0)
        assert str(caught.value) == (
            f"list_jobs: {SICK_HOST} throttles these credentials: nothing is sent for 600.5 s: {text}; "
            "throttled: lower rate_limit, or see who else calls this API (Retry-After: 600 s) (throttled)"
        )

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("pause", [5, 600], ids=["short", "longer_than_a_poll"])
def test_after_a_pause_others_come_before_the_throttled(pause: int) -> None:
    """One is throttled whenever it asks: once the other was answered in between, it alone keeps quiet."""
    sick = keep_saying(429, "APIG.0308", "", Retry_After=str(pause))
    pair = Neighbours(sick, sick={"project_id": SICK_PROJECT})
    polls, answered = pair.poll(3600, timeout=30.0)
    assert polls - answered <= 2 * pause / INTERVAL
    assert pair.sent_by_the_sick() >= 3600 / (pause + 60.0)


@pytest.mark.slow
def test_a_quota_that_all_share_makes_all_keep_quiet() -> None:
    """Both are throttled by turns: neither asks before its own pause is over."""
    pair = Neighbours(keep_saying(429, "APIG.0308", "", Retry_After="60"), sick={"project_id": SICK_PROJECT})
    pair.well = pair.connect(pair.well_events, name="well", project_id=f"{SICK_PROJECT}2")
    pair.poll(3600, timeout=30.0)
    assert len(pair.harness.requests) <= 2 * 60


def test_turns_at_an_endpoint_are_taken_in_order() -> None:
    """Ten targets wait for one endpoint that throttles: they are answered in the order in which they came."""
    answered: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        answered.append(request.headers["X-App-UserId"])
        return jobs("a")

    harness = ClientHarness(answer)
    clients = {str(n): harness.connect(target(name=str(n), app_user_id=str(n))) for n in range(10)}

    async def scenario() -> None:
        limiter = next(iter(harness.shared.limiters.values())).at("metastudio.cn-north-4.myhuaweicloud.com")
        limiter.pause("somebody", 30.0, "why")
        await asyncio.gather(
            *(client.list_jobs(JobsQuery(), deadline=harness.time.now + 600.0) for client in clients.values())
        )

    run(scenario())
    assert answered == list(clients)


def test_the_same_keys_elsewhere_wait_for_the_rate_alone() -> None:
    """One rate for all endpoints: ten requests to two of them take as long as ten to one."""
    pair = Neighbours(lambda request: jobs("a"))
    slow = [
        pair.connect(Events(), name=str(n), rate_limit=2.0, **(ELSEWHERE if n % 2 else {})) for n in range(10)
    ]
    began = pair.time.now

    async def scenario() -> None:
        for client in slow:
            await client.list_jobs(JobsQuery(), deadline=pair.time.now + 60.0)

    run(scenario())
    assert pair.time.now - began == pytest.approx(4.5)
