"""Several calls of one client at the same time: a refusal of one reaches the others before they send."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from exporter.cloud.http import breaker
from exporter.config import PasswordAuth, Secret
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery
from tests.cloud.harness import ENDPOINT, ClientHarness, gateway, jobs, reply, run, target

BAD_SIGNATURE = gateway(401, "APIG.0301", "verify aksk signature fail")


async def settle() -> None:
    """Let everything else that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_keys_that_turn_bad_sign_only_requests_under_way() -> None:
    """When good keys end, ten concurrent calls cost the two signatures that were on their way, not ten."""
    valid = True

    async def answer(request: httpx.Request) -> httpx.Response:
        was_valid = valid
        await settle()
        return jobs("a") if was_valid else BAD_SIGNATURE

    harness = ClientHarness(answer)

    async def scenario() -> list[BaseException | object]:
        nonlocal valid
        await harness.list_jobs()
        valid = False
        return await asyncio.gather(*(harness.list_jobs() for _ in range(10)), return_exceptions=True)

    results = run(scenario())
    assert {str(result.kind) for result in results if isinstance(result, ApiError)} == {"auth"}
    assert all(isinstance(result, ApiError) for result in results)
    assert len(harness.requests) == 1 + 2
    assert harness.events.rejected is True


def test_a_throttled_call_silences_the_others() -> None:
    """Of ten concurrent calls two meet a 429; nobody sends again before the pause is over, then all do."""
    sent: list[float] = []
    until = 0.0

    async def answer(request: httpx.Request) -> httpx.Response:
        sent.append(harness.time.now)
        throttled = harness.time.now < until
        await settle()
        return reply(429, None, {"Retry-After": "5"}) if throttled else jobs("a")

    harness = ClientHarness(answer)

    async def scenario() -> None:
        nonlocal until
        await harness.list_jobs()
        until = harness.time.now + 5.0
        await asyncio.gather(*(harness.list_jobs() for _ in range(10)))

    run(scenario())
    assert [at < until for at in sent[1:]] == [True] * 2 + [False] * 10
    assert harness.events.retries == ["list_jobs"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "endpoint", ["https://e{}.example.com", ENDPOINT], ids=["elsewhere", "same_endpoint"]
)
@pytest.mark.parametrize("hanging", [1, 8, 20])
@pytest.mark.parametrize("proven", [False, True], ids=["at_the_start", "later"])
def test_targets_that_are_never_answered_hold_up_no_other(
    monkeypatch: pytest.MonkeyPatch, hanging: int, proven: bool, endpoint: str
) -> None:
    """Each asks thrice at a time, with the same keys. Once that is known of them, another is read as ever."""
    monkeypatch.setattr(breaker, "UNANSWERED_SECONDS", -1.0)
    silent, seconds = not proven, 0.001

    async def answer(request: httpx.Request) -> httpx.Response | Exception:
        if silent and request.headers.get("X-App-UserId") == "hangs":
            await asyncio.sleep(seconds)
            return httpx.ReadTimeout("")
        return jobs("a")

    harness = ClientHarness(answer)
    clients = 3 * [
        harness.connect(target(name=f"h{n}", app_user_id="hangs", endpoint=endpoint.format(n)))
        for n in range(hanging)
    ]

    def ask_all() -> list[asyncio.Task[object]]:
        deadline = harness.time.now + 1000
        return [asyncio.create_task(client.list_jobs(JobsQuery(), deadline=deadline)) for client in clients]

    async def scenario() -> None:
        nonlocal silent, seconds
        if proven:
            await asyncio.gather(*ask_all())
            silent = True
        calls = ask_all()
        await harness.list_jobs()
        await asyncio.gather(*calls, return_exceptions=True)
        seconds = 3600.0
        calls = ask_all()
        await settle()
        for _ in range(20):
            await asyncio.wait_for(harness.list_jobs(), 10.0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    run(scenario())


def test_keys_that_end_everywhere_cost_few_signatures() -> None:
    """Ten endpoints, three calls each under way or waiting, when the keys end: four bad signatures."""
    valid = True

    async def answer(request: httpx.Request) -> httpx.Response:
        was_valid = valid
        await settle()
        return jobs("a") if was_valid else BAD_SIGNATURE

    harness = ClientHarness(answer)
    clients = [harness.connect(target(name=f"t{n}", endpoint=f"https://e{n}.example.com")) for n in range(10)]

    async def scenario() -> list[BaseException | object]:
        nonlocal valid
        for client in clients:
            await client.list_jobs(JobsQuery(), deadline=harness.time.now + 60)
        valid = False
        calls = [client.list_jobs(JobsQuery(), deadline=harness.time.now + 60) for client in clients * 3]
        return await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(result, ApiError) for result in run(scenario()))
    assert len(harness.requests) - 10 <= 4


@pytest.mark.slow
@pytest.mark.parametrize("auth", ["keys", "password"])
@pytest.mark.parametrize("known", [False, True], ids=["fresh_start", "ended_while_running"])
def test_slow_refusals_of_ten_targets_are_few(auth: str, known: bool) -> None:
    """All are on their way before the first is answered: four bad signatures, three wrong passwords."""
    valid = known
    password = PasswordAuth("account", "user", Secret("p4ssw0rd-example"))

    async def answer(request: httpx.Request) -> httpx.Response:
        was_valid = valid
        await asyncio.sleep(0.02)
        if was_valid and request.url.path == "/v3/auth/tokens":
            return reply(201, {"token": {}}, {"X-Subject-Token": "t0ken"})
        return jobs("a") if was_valid else BAD_SIGNATURE

    harness = ClientHarness(answer)
    clients = [
        harness.connect(
            target(name=f"t{n}", project_id=f"p{n}", **({"auth": password} if auth == "password" else {}))
        )
        for n in range(10)
    ]

    async def ask_all() -> None:
        calls = [client.list_jobs(JobsQuery(), deadline=harness.time.now + 60) for client in clients]
        await asyncio.gather(*calls, return_exceptions=True)

    async def scenario() -> int:
        nonlocal valid
        if known:
            await ask_all()
            harness.time.now += 86400.0  # all tokens have ended
        valid, before = False, len(harness.requests)
        await ask_all()
        await ask_all()
        return len(harness.requests) - before

    assert run(scenario()) <= {"keys": 4, "password": 3}[auth]
