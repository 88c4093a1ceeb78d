"""Refused credentials: what is tried once more, what is left alone, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest

from exporter.cloud.http.breaker import Breaker
from exporter.cloud.http.rate_limit import fingerprint
from exporter.cloud.http.refusals import PlaceRecord
from exporter.cloud.shared_limits import SharedLimits
from exporter.config import AkskAuth, PasswordAuth, Secret, TokenAuth
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery
from tests.cloud.harness import (
    AK,
    SK,
    START,
    ClientHarness,
    FakeTime,
    Reply,
    gateway,
    jobs,
    reply,
    run,
    script,
    target,
)

BAD_SIGNATURE = gateway(401, "APIG.0301", "verify aksk signature fail")


def test_refused_keys_are_left_alone_for_five_minutes() -> None:
    """After one refusal no request is made, until five minutes have passed; then one is."""
    harness = ClientHarness(script([BAD_SIGNATURE, jobs("a")]))

    async def scenario() -> None:
        with pytest.raises(ApiError, match="verify aksk"):
            await harness.list_jobs()
        assert harness.events.rejected is True
        for _ in range(3):
            with pytest.raises(ApiError, match="not tried again for 300 s or until they change") as caught:
                await harness.list_jobs()
            assert (str(caught.value.kind), caught.value.operation) == ("auth", "list_jobs")
        assert len(harness.requests) == 1
        harness.time.now += 301
        await harness.list_jobs()
        assert harness.events.rejected is False

    run(scenario())
    assert harness.events.errors == [("list_jobs", "auth", "APIG.0301")]


def test_changed_keys_are_tried_at_once(tmp_path: Path) -> None:
    """New content in the key files ends the waiting."""
    secret = tmp_path / "sk"
    secret.write_text("wrong\n")
    harness = ClientHarness(script([BAD_SIGNATURE, jobs("a")]), auth=AkskAuth(Secret(AK), secret))

    async def scenario() -> None:
        with pytest.raises(ApiError):
            await harness.list_jobs()
        with pytest.raises(ApiError, match="not tried again"):
            await harness.list_jobs()
        secret.write_text(SK)
        await harness.list_jobs()

    run(scenario())
    assert len(harness.requests) == 2


def test_keys_rotated_during_a_request_are_tried_once_more(tmp_path: Path) -> None:
    """A refusal of keys that the files no longer hold is followed by one request with the new ones."""
    secret = tmp_path / "sk"
    secret.write_text("old-secret")

    def handler(request: httpx.Request) -> httpx.Response:
        if secret.read_text() == "old-secret":
            secret.write_text("new-secret")
            return BAD_SIGNATURE
        return jobs("a")

    harness = ClientHarness(handler, auth=AkskAuth(Secret(AK), secret))
    run(harness.list_jobs())
    assert len(harness.requests) == 2


def test_many_targets_with_wrong_keys_sign_once() -> None:
    """Ten targets that start together with the same wrong keys cost one bad signature, not ten."""
    harness = ClientHarness(lambda request: BAD_SIGNATURE)
    clients = [harness.connect(target(name=f"t{n}")) for n in range(10)]

    async def scenario() -> list[BaseException | object]:
        calls = (client.list_jobs(JobsQuery(), deadline=harness.time.now + 60) for client in clients)
        return await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(result, ApiError) for result in run(scenario()))
    assert len(harness.requests) == 1


def test_the_breaker_survives_a_restart_as_plain_data() -> None:
    """Stored state, read back from JSON, keeps a new process from trying refused keys; no key is in it."""
    harness = ClientHarness(lambda request: BAD_SIGNATURE)
    with pytest.raises(ApiError):
        run(harness.list_jobs())
    stored = harness.shared.states()
    assert AK not in str(stored)
    assert SK not in str(stored)
    time = FakeTime()
    time.now += 10
    shared = SharedLimits(claims=None, monotonic=time.monotonic, wall=time.wall, sleep=time.sleep)
    shared.restore(stored)
    reborn = ClientHarness(lambda request: jobs("a"), shared=shared)
    with pytest.raises(ApiError, match="not tried again for 290 s"):
        run(reborn.list_jobs())
    assert reborn.requests == []


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"fingerprint":1}]', '[{"until":1}]', "null", "[]", "\x00"]
)
def test_a_stored_state_that_cannot_be_read_is_dropped(text: str) -> None:
    """It ends no start and keeps nobody from asking."""
    harness = ClientHarness(lambda request: BAD_SIGNATURE)
    with pytest.raises(ApiError):
        run(harness.list_jobs())
    (key,) = harness.shared.states()
    time = FakeTime()
    shared = SharedLimits(claims=None, monotonic=time.monotonic, wall=time.wall, sleep=time.sleep)
    shared.restore({key: text, "other": text})
    run(ClientHarness(lambda request: jobs("a"), shared=shared).list_jobs())


def test_a_clock_set_back_does_not_prolong_the_wait() -> None:
    """Five minutes stay five minutes when the wall clock jumps back by a day."""
    time = FakeTime()
    breaker = Breaker(wall=time.wall, monotonic=time.monotonic)
    breaker.refuse("keys", "place", "why")
    time.wall_offset -= 86400
    with pytest.raises(ApiError, match="300 s"):
        breaker.check("keys", "place")
    time.now += 300
    breaker.check("keys", "place")


def test_the_breaker_remembers_a_bounded_number_of_keys() -> None:
    """Temporary keys that are refused every hour for years do not fill the memory."""
    time = FakeTime()
    breaker = Breaker(wall=time.wall, monotonic=time.monotonic)
    for n in range(5000):
        breaker.refuse(str(n), "place", "why")
    assert len(breaker.state) == 4096


def test_accepted_again_and_again_is_stored_once() -> None:
    """Hundreds of targets are accepted in turn: another order is nothing that the store must learn."""
    time = FakeTime()
    breaker = Breaker(wall=time.wall, monotonic=time.monotonic)
    for place in range(300):
        breaker.accept("keys", f"endpoint/{place}")
    before = breaker.state
    assert len(before) == 300
    for place in reversed(range(300)):
        breaker.accept("keys", f"endpoint/{place}")
    assert breaker.state == before


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "text",
    [
        "signature expired",
        "The difference between the request time and the current time is too large",
        "Incorrect IAM authentication information: verify aksk signature fail",
        "请求时间与服务器时间相差过大",
        "",
    ],
    ids=["documented", "other_words", "signature", "chinese", "silent"],
)
def test_a_wrong_clock_is_corrected_once_and_remembered(status: int, text: str) -> None:
    """Refused, in whatever words: signed once more with the clock of the refusal, and so from then on."""
    harness = ClientHarness(lambda request: answer(request))
    ahead = 7200.0

    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["X-Sdk-Date"] != "20251119T100000Z":
            return gateway(status, "APIG.0301", text, Date=harness.date(ahead))
        return jobs("a")

    async def scenario() -> None:
        await harness.list_jobs()
        await harness.list_jobs()

    run(scenario())
    dates = [request.headers["X-Sdk-Date"] for request in harness.requests]
    assert dates == ["20251119T080000Z", "20251119T100000Z", "20251119T100000Z"]
    assert harness.events.retries == ["list_jobs"]


@pytest.mark.parametrize("hours", [(2,), (2, 5)], ids=["true", "false"])
@pytest.mark.parametrize("keys", ["good", "bad"])
def test_it_is_known_whether_a_refusal_is_about_the_time(hours: tuple[int, ...], keys: str) -> None:
    """Where the ``Date`` was false, the second refusal has another one. With bad keys and a true ``Date`` it
    is the keys, whatever our clock said.
    """
    dates = iter(hours * 2)
    times: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(request.headers["X-Sdk-Date"][9:11])
        if keys == "good" and hours == (2,) and times[-1] == "10":
            return jobs("a")
        return gateway(401, "APIG.0301", "verify aksk", Date=harness.date(3600.0 * next(dates)))

    harness = ClientHarness(answer)
    with contextlib.suppress(ApiError):
        run(harness.list_jobs())
    assert times == ["08", "10"]
    (state,) = harness.shared.states().values()
    (record,) = msgspec.json.decode(state, type=list[PlaceRecord])
    assert record.accepted == (keys == "good" and hours == (2,))
    assert record.clock == (hours != (2,))


def test_one_target_finds_the_wrong_clock_for_all() -> None:
    """Of those with the same credentials only the first sends a signature with the wrong time."""
    harness = ClientHarness(lambda request: answer(request))

    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["X-Sdk-Date"][:11] != "20251119T10":
            return gateway(401, "APIG.0301", "signature expired", Date=harness.date(7200))
        return jobs("a")

    async def scenario() -> None:
        for number in range(6):
            client = harness.connect(target(name=f"t{number}", project_id=f"{number:032x}"))
            await client.list_jobs(JobsQuery(), deadline=harness.time.now + 60)

    run(scenario())
    assert len(harness.requests) == 7


FAULTS = {
    "throttled": reply(429, {"error_code": "APIG.0308", "error_msg": "throttled"}),
    "unavailable": reply(503),
    "reset": httpx.ReadError("reset"),
    "cut": reply(200, b'{"count": 1, "data": [{"jo'),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_fault_in_the_corrected_request_does_not_stop_polling(fault: Reply, restarted: bool) -> None:
    """The clock of the refusal is tried again at once, also by the next process, and not for five minutes."""
    faults = [fault]

    def answer(request: httpx.Request) -> Reply:
        if request.headers["X-Sdk-Date"][:11] != "20251119T10":
            return gateway(401, "APIG.0301", "signature expired", Date=harness.date(7200))
        return faults.pop() if faults else jobs("a")

    harness = ClientHarness(answer)
    with contextlib.suppress(ApiError):
        run(harness.list_jobs(seconds=0.5))
    assert not faults
    if restarted:
        stored, before = harness.shared.states(), harness.time.now
        harness = ClientHarness(answer)
        harness.time.now = before
        harness.shared.restore(stored)
    assert run(harness.list_jobs()).records
    assert harness.time.now < 1060.0


@pytest.mark.parametrize("without", [1, 2, 100])
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_refusals_are_tried_again_until_one_has_a_date(without: int, restarted: bool) -> None:
    """Our clock is two hours slow: the first answer that says so ends the refusals, if it comes in time."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> Reply:
        seen.append(request.headers["X-Sdk-Date"][:11])
        if seen[-1] == "20251119T10":
            return jobs("a")
        dates = {} if len(seen) <= without else {"Date": harness.date(7200)}
        return gateway(401, "APIG.0301", "signature expired", **{"Date": "", **dates})

    harness = ClientHarness(answer)
    for _ in range(6):
        with contextlib.suppress(ApiError):
            run(harness.list_jobs())
        harness.time.now += 1.0
        if restarted and "20251119T10" not in seen:
            stored, before = harness.shared.states(), harness.time.now
            harness = ClientHarness(answer)
            harness.time.now = before
            harness.shared.restore(stored)
    bad = seen.count("20251119T08")
    assert bad == min(without + 1, 3)
    assert ("20251119T10" in seen) is (without <= 2)


def test_refusals_and_faults_in_turn_sign_at_most_four_times() -> None:
    """Each request with the corrected clock fails without a verdict: what was refused still adds up."""
    refusals = 0

    def answer(request: httpx.Request) -> Reply:
        nonlocal refusals
        if len(harness.requests) % 2 == 0:
            return reply(503)
        refusals += 1
        return gateway(401, "APIG.0301", "no", Date=harness.date(7200.0 * refusals))

    harness = ClientHarness(answer)

    async def scenario() -> None:
        while harness.time.now < 1290.0:
            with contextlib.suppress(ApiError):
                await harness.list_jobs(seconds=5.0)
            harness.time.now += 1.0

    run(scenario())
    assert 2 <= refusals <= 4


def test_wrong_keys_and_a_wrong_clock_sign_at_most_four_times() -> None:
    """Eight endpoints refuse the keys with a date that is not ours: a corrected signature counts like any."""
    harness = ClientHarness(lambda request: gateway(401, "APIG.0301", "no", Date=harness.date(7200)))
    clients = [harness.connect(target(name=f"t{n}", endpoint=f"https://e{n}.example.com")) for n in range(8)]

    async def scenario() -> None:
        for client in clients * 3:
            with pytest.raises(ApiError):
                await client.list_jobs(JobsQuery(), deadline=harness.time.now + 60)

    run(scenario())
    assert len(harness.requests) == 4


def test_a_clock_that_is_right_is_not_signed_with_again() -> None:
    """When the refusal's own Date agrees with ours, nothing has changed, so nothing is sent again."""
    harness = ClientHarness(
        lambda request: gateway(401, "APIG.0301", "signature expired", Date=harness.date(3))
    )
    with pytest.raises(ApiError, match="check NTP"):
        run(harness.list_jobs())
    assert len(harness.requests) == 1


def test_a_false_date_spoils_no_good_signature() -> None:
    """What was accepted goes on being right: five bad signatures lock a key."""

    def answer(request: httpx.Request) -> httpx.Response:
        stale = {"Date": "Sun, 16 Nov 2025 08:00:00 GMT"}
        if not request.headers["X-Sdk-Date"].startswith("20251119T"):
            return gateway(401, "APIG.0301", "signature expired", **stale)
        return reply(200, {"count": 0}, stale)

    harness = ClientHarness(answer)

    async def scenario() -> None:
        for _ in range(5):
            await harness.list_jobs()

    run(scenario())
    assert len(harness.requests) == 5


def test_our_clock_being_set_spoils_no_good_signature() -> None:
    """By years, while it runs: signatures go on from the time that was accepted."""
    harness = ClientHarness(
        lambda request: reply(200, {"count": 0}, {"Date": "Wed, 19 Nov 2025 08:00:00 GMT"})
    )

    async def scenario() -> None:
        for years in (0, -20, 100):
            harness.time.wall_offset = START - 1000.0 + years * 365 * 86400.0
            await harness.list_jobs()

    run(scenario())
    assert {request.headers["X-Sdk-Date"] for request in harness.requests} == {"20251119T080000Z"}


def _token_answer(
    token: str, harness: ClientHarness, hours: float = 24.0, project: str = "p0"
) -> httpx.Response:
    until = httpx.Headers({"X-Subject-Token": token, "Date": harness.date()})
    expires = datetime.fromtimestamp(harness.time.wall() + hours * 3600, UTC)
    facts = {"expires_at": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "project": {"id": project}}
    return reply(201, {"token": facts}, until)


PASSWORD = PasswordAuth("account", "user", Secret("p4ssw0rd-example"))


class Iam:
    """An API with tokens: gives token-1, token-2, … and lists jobs for the newest."""

    def __init__(self, hours: float = 24.0, refusal: httpx.Response | None = None) -> None:
        self.given = 0
        self.revoked = 0
        self.hours = hours
        self.refusal = refusal or gateway(401, "APIG.0307", "The token must be updated.")
        self.harness = ClientHarness(self.answer, auth=PASSWORD, project_id=None)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if request.url.path == "/v3/auth/tokens":
            self.given += 1
            return _token_answer(f"token-{self.given}", self.harness, self.hours)
        if request.headers["X-Auth-Token"] in {f"token-{n}" for n in range(self.revoked + 1)}:
            return self.refusal
        return jobs("a")


def test_one_token_serves_many_requests() -> None:
    """Concurrent first requests make one token; its answer gives the project, and its end is reported."""
    iam = Iam()

    async def scenario() -> None:
        await asyncio.gather(*(iam.harness.list_jobs() for _ in range(8)))

    run(scenario())
    assert iam.given == 1
    assert iam.harness.client.project_id == "p0"
    assert iam.harness.events.expiry == pytest.approx(START + 86400)
    paths = {request.url.path for request in iam.harness.requests}
    assert paths == {"/v3/auth/tokens", "/v1/p0/ttsc/tts-jobs"}


def test_the_token_request_is_the_documented_one() -> None:
    """User, domain and scope are sent as the identity service wants them, without a catalog."""
    iam = Iam()
    run(iam.harness.list_jobs())
    request = iam.harness.requests[0]
    assert str(request.url).endswith("/v3/auth/tokens?nocatalog=true")
    assert msgspec.json.decode(request.content)["auth"] == {
        "identity": {
            "methods": ["password"],
            "password": {
                "user": {"name": "user", "password": "p4ssw0rd-example", "domain": {"name": "account"}}
            },
        },
        "scope": {"project": {"name": "cn-north-4"}},
    }


def test_a_token_is_renewed_well_before_its_end() -> None:
    """A token of 24 hours serves 22 of them and is replaced before the last hour."""
    iam = Iam()

    async def scenario() -> None:
        await iam.harness.list_jobs()
        iam.harness.time.now += 22 * 3600
        await iam.harness.list_jobs()
        assert iam.given == 1
        iam.harness.time.now += 1.1 * 3600
        await iam.harness.list_jobs()

    run(scenario())
    assert iam.given == 2


def test_an_ended_token_is_renewed_once_by_all() -> None:
    """When the API says that the token ended, concurrent requests share one new token and all succeed."""
    iam = Iam()

    async def scenario() -> None:
        await iam.harness.list_jobs()
        iam.harness.time.now += 120
        iam.revoked = 1
        await asyncio.gather(*(iam.harness.list_jobs() for _ in range(6)))

    run(scenario())
    assert iam.given == 2
    assert iam.harness.events.rejected is False


def test_a_token_that_is_refused_fresh_is_not_renewed_again() -> None:
    """If the new token is refused too, the credentials are refused: one renewal, then quiet."""
    iam = Iam()

    async def scenario() -> None:
        await iam.harness.list_jobs()
        iam.harness.time.now += 120
        iam.revoked = 99
        for _ in range(3):
            with pytest.raises(ApiError):
                await iam.harness.list_jobs()

    run(scenario())
    assert iam.given == 2
    assert iam.harness.events.rejected is True


def test_a_token_refused_in_its_first_minute_is_not_replaced() -> None:
    """Tokens that the API refuses as soon as they are made are not made at every poll."""
    iam = Iam()

    async def scenario() -> None:
        await iam.harness.list_jobs()
        iam.harness.time.now += 30
        iam.revoked = 1
        with pytest.raises(ApiError, match="must be updated"):
            await iam.harness.list_jobs()

    run(scenario())
    assert iam.given == 1


def test_a_renewal_that_hangs_ends_at_the_deadline() -> None:
    """Even when the new token never comes, the poll ends at its deadline."""
    iam = Iam()

    async def answer(request: httpx.Request) -> httpx.Response:
        if iam.given and request.url.path == "/v3/auth/tokens":
            await asyncio.sleep(3600)
        return await iam.answer(request)

    iam.harness = ClientHarness(answer, auth=PASSWORD, project_id=None)

    async def scenario() -> None:
        await iam.harness.list_jobs()
        iam.harness.time.now += 120
        iam.revoked = 1
        with pytest.raises(ApiError, match="the deadline passed"):
            await asyncio.wait_for(iam.harness.list_jobs(seconds=0.2), 5.0)

    run(scenario())


def test_a_renewal_with_no_room_for_a_retry_reports_the_refusal() -> None:
    """When the rate leaves no time to use the new token, the API's own words are the error."""
    iam = Iam()
    iam.harness = ClientHarness(iam.answer, auth=PASSWORD, project_id=None, rate_limit=0.1)

    async def scenario() -> None:
        await iam.harness.list_jobs()
        iam.harness.time.now += 120
        iam.revoked = 1
        with pytest.raises(ApiError, match="must be updated"):
            await iam.harness.list_jobs(seconds=5.0)

    run(scenario())


def test_other_refusals_do_not_renew_the_token() -> None:
    """A 403 about permissions is no reason for a new token."""
    iam = Iam(refusal=gateway(403, "APIG.0302", "no permission"))

    async def scenario() -> None:
        await iam.harness.list_jobs()
        iam.harness.time.now += 120
        iam.revoked = 99
        with pytest.raises(ApiError, match="no permission"):
            await iam.harness.list_jobs()

    run(scenario())
    assert iam.given == 1


def test_renewal_that_fails_keeps_the_old_token() -> None:
    """While the old token is good, a failing identity service disturbs nobody and is asked once a minute."""
    iam = Iam()
    down = False

    async def answer(request: httpx.Request) -> httpx.Response:
        if down and request.url.path == "/v3/auth/tokens":
            return reply(503)
        return await iam.answer(request)

    harness = ClientHarness(answer, auth=PASSWORD, project_id=None)
    iam.harness = harness

    async def scenario() -> None:
        nonlocal down
        await harness.list_jobs()
        down = True
        harness.time.now += 23.2 * 3600
        for _ in range(5):
            await harness.list_jobs()
            harness.time.now += 10

    run(scenario())
    assert harness.events.requests.count(("create_token", "503")) == 1


def test_a_wrong_password_is_tried_once_by_all_targets() -> None:
    """The identity service locks users after a few wrong passwords, so one refusal stops every target."""
    refused = reply(401, {"error": {"message": "The username or password is wrong.", "code": 401}})
    harness = ClientHarness(lambda request: refused, auth=PASSWORD)
    other = harness.connect(target(name="other", auth=PASSWORD))

    async def scenario() -> None:
        for client in (harness.client, other, harness.client):
            with pytest.raises(ApiError, match="password is wrong"):
                await client.list_jobs(JobsQuery(), deadline=harness.time.now + 60)

    run(scenario())
    assert [request.url.path for request in harness.requests] == ["/v3/auth/tokens"]
    assert harness.events.rejected is True
    assert harness.events.errors == [("create_token", "auth", None)]


def test_a_given_token_is_sent_and_not_signed(tmp_path: Path) -> None:
    """A given token travels as X-Auth-Token alone, is read anew from its file, and finds its project."""
    file = tmp_path / "token"
    file.write_text("MIIF-given\n")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v3/projects":
            return reply(200, {"projects": [{"id": "p9", "name": "cn-north-4"}]})
        return jobs("a")

    harness = ClientHarness(answer, auth=TokenAuth(file), project_id=None)
    run(harness.list_jobs())
    first, second = harness.requests
    assert {request.headers["X-Auth-Token"] for request in (first, second)} == {"MIIF-given"}
    assert "Authorization" not in second.headers
    assert "X-Project-Id" not in second.headers
    assert second.url.path == "/v1/p9/ttsc/tts-jobs"
    assert harness.events.requests == [("get_project", "200"), ("list_jobs", "200")]


def test_fingerprints_differ_by_part_and_reveal_nothing() -> None:
    """Moving a character between the parts changes the fingerprint; no part can be read from it."""
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert "secret" not in fingerprint("secret")
