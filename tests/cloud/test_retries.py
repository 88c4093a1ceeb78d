"""Retries, the rate limit and deadlines: what is tried again, when, and when no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cloud.http.rate_limit import EndpointLimiter, NoTimeLeft, RateLimiter
from exporter.cloud.shared_limits import SharedLimits
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery
from tests.cloud.harness import ClientHarness, FakeTime, gateway, jobs, reply, run, script, target

Sleeper = asyncio.Future[None]


@pytest.mark.parametrize(
    ("headers", "text", "waits"),
    [
        ({"Retry-After": "7"}, "", 7.5),
        ({"Retry-After": "Wed, 19 Nov 2025 08:00:09 GMT"}, "", 9.5),
        ({"Retry-After": "Wed, 19 Nov 2025 07:00:00 GMT"}, "", 0.5),
        ({"Retry-After": "soon"}, "", 3.5),
        ({}, "", 3.5),
        ({}, "policy user over ratelimit,limit:60,time:1 minute", 3.5),
        ({}, "policy user over ratelimit,limit:60,time:2 second", 2.0),
    ],
    ids=["seconds", "date", "past_date", "unreadable", "nothing", "window", "short_window"],
)
def test_throttling_is_waited_for(headers: dict[str, str], text: str, waits: float) -> None:
    """After a 429 the next request comes when the API said, or two to five seconds later."""
    refused = reply(429, {"error_code": "APIG.0308", "error_msg": text}, headers)
    harness = ClientHarness(script([refused, jobs("a")]))
    run(harness.list_jobs())
    assert harness.time.slept == [pytest.approx(waits)]
    assert harness.events.waited == pytest.approx(waits)
    assert harness.events.retries == ["list_jobs"]


def test_retry_after_date_is_read_on_the_apis_clock() -> None:
    """A date to wait for is compared with the answer's own Date, since our clock may be wrong."""
    refused = reply(
        429, None, {"Retry-After": "Wed, 19 Nov 2025 09:00:09 GMT", "Date": "Wed, 19 Nov 2025 09:00:00 GMT"}
    )
    harness = ClientHarness(script([refused, jobs("a")]))
    run(harness.list_jobs())
    assert harness.time.slept == [pytest.approx(9.5)]


def test_an_absurd_retry_after_is_bounded() -> None:
    """A Retry-After of years silences the exporter for an hour, not for good."""
    harness = ClientHarness(script([reply(429, None, {"Retry-After": "99999999999"}), jobs("a")]))
    run(harness.list_jobs(seconds=10_000.0))
    assert harness.time.slept == [pytest.approx(3600.5)]


def test_throttling_silences_everyone_with_the_same_credentials() -> None:
    """After a 429 to one target, another with the same credentials waits as long before its request."""
    harness = ClientHarness(script([reply(429, None, {"Retry-After": "20"}), jobs("a")]))
    other = harness.connect(target(name="other"))

    async def scenario() -> None:
        with pytest.raises(ApiError, match="throttled"):
            await harness.list_jobs(seconds=5.0)
        await other.list_jobs(JobsQuery(), deadline=harness.time.now + 60.0)

    run(scenario())
    assert harness.time.slept == [pytest.approx(20.5)]


def test_backoff_grows_and_is_jittered() -> None:
    """Waits double from half a second and are scaled by the jitter."""
    harness = ClientHarness(lambda request: reply(503))
    with pytest.raises(ApiError):
        run(harness.list_jobs())
    assert harness.time.slept == [pytest.approx(wait) for wait in (0.25, 0.5, 1.0, 2.0)]


@pytest.mark.parametrize("seconds", [0.0, -5.0], ids=["now", "past"])
def test_no_request_after_the_deadline(seconds: float) -> None:
    """A deadline that has passed costs no request at all."""
    harness = ClientHarness(lambda request: jobs("a"))
    with pytest.raises(ApiError) as caught:
        run(harness.list_jobs(seconds=seconds))
    assert (str(caught.value.kind), harness.requests) == ("timeout", [])


@pytest.mark.parametrize(("status", "code"), [(429, "APIG.0308"), (503, "APIG.0613")])
def test_the_last_real_error_is_reported_at_once(status: int, code: str) -> None:
    """When the next wait would pass the deadline, the API's own error is raised without sleeping."""
    harness = ClientHarness(lambda request: gateway(status, code, "slow", Retry_After="30"))
    with pytest.raises(ApiError) as caught:
        run(harness.list_jobs(seconds=20.0))
    assert (caught.value.code, harness.time.slept, len(harness.requests)) == (code, [], 1)
    assert caught.value.retry_after == 30.0


def test_the_rate_limit_leaves_the_real_error_in_front() -> None:
    """When the rate limit leaves no room for a retry, the error is the API's and not the limiter's."""
    harness = ClientHarness(lambda request: reply(503), rate_limit=0.1)
    with pytest.raises(ApiError) as caught:
        run(harness.list_jobs(seconds=5.0))
    assert (caught.value.status, len(harness.requests)) == (503, 1)


def test_a_pause_longer_than_the_deadline_says_so() -> None:
    """A poll that could never get its turn fails at once, and says why."""
    harness = ClientHarness(lambda request: reply(429, None, {"Retry-After": "60"}))

    async def scenario() -> None:
        with pytest.raises(ApiError):
            await harness.list_jobs(seconds=10.0)
        said = r"throttles these credentials: nothing is sent for 60\.5 s: .* \(Retry-After: 60 s\)"
        with pytest.raises(ApiError, match=said) as caught:
            await harness.list_jobs(seconds=10.0)
        assert str(caught.value.kind) == "throttled"

    run(scenario())
    assert len(harness.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectTimeout("x"),
        httpx.ReadTimeout("x"),
        httpx.ConnectError("x"),
        httpx.ReadError("x"),
        httpx.RemoteProtocolError("x"),
        httpx.ProxyError("x"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_faults_of_the_way_are_retried(fault: Exception) -> None:
    """Timeouts and broken connections are tried again, as one more request each."""
    harness = ClientHarness(script([fault, jobs("a")]))
    assert [record.job_id for record in run(harness.list_jobs()).records] == ["a"]
    assert [code for _, code in harness.events.requests] == ["none", "200"]


def test_requests_are_spaced_by_the_rate_retries_included() -> None:
    """At five a second, the tenth request leaves no earlier than 1.8 s after the first."""
    sent: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(harness.time.now)
        return jobs("a")

    harness = ClientHarness(answer, rate_limit=5.0)

    async def scenario() -> None:
        for _ in range(10):
            await harness.list_jobs()

    run(scenario())
    assert [round(time - sent[0], 6) for time in sent] == [round(0.2 * n, 6) for n in range(10)]
    assert harness.events.waited == pytest.approx(1.8)
    assert harness.events.rates == [5.0]


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(0.2, 50.0),
    pauses=st.lists(st.floats(0.0, 3.0), max_size=30),
)
def test_no_second_holds_more_than_the_rate_allows(rate: float, pauses: list[float]) -> None:
    """However requests arrive, a window of one second never holds more than the rate plus one."""
    time = FakeTime()

    async def scenario() -> list[float]:
        limiter = RateLimiter(rate, monotonic=time.monotonic, sleep=time.sleep)
        sent = []
        for pause in pauses:
            time.now += pause
            async with limiter.at("host").slot("t", time.now + 1e9):
                sent.append(time.now)
        return sent

    sent = run(scenario())
    assert all(sum(start <= other < start + 1.0 for other in sent) <= rate + 1 for start in sent)


def test_two_requests_at_a_time() -> None:
    """Of five concurrent requests, never more than two are under way."""
    under_way = 0
    most = 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(3):
            await asyncio.sleep(0)
        under_way -= 1
        return jobs("a")

    harness = ClientHarness(slow)

    async def scenario() -> None:
        await harness.list_jobs()  # afterwards the credentials are known to be good
        await asyncio.gather(*(harness.list_jobs() for _ in range(5)))

    run(scenario())
    assert most == 2


def test_the_limiter_refuses_what_cannot_be_in_time() -> None:
    """A slot that would come after the deadline is refused at once and takes no token."""
    time = FakeTime()

    async def scenario() -> None:
        limiter = RateLimiter(1.0, monotonic=time.monotonic, sleep=time.sleep).at("host")
        async with limiter.slot("t", time.now + 0.1):
            pass
        with pytest.raises(NoTimeLeft):
            async with limiter.slot("t", time.now + 0.5):
                pass
        async with limiter.slot("t", time.now + 2.0) as waited:
            assert waited == pytest.approx(1.0)

    run(scenario())


@pytest.mark.parametrize("wake", [list, reversed], ids=["in_order", "last_first"])
def test_after_a_pause_requests_go_as_they_came(wake: Callable[[list[Sleeper]], Iterable[Sleeper]]) -> None:
    """Whoever the event loop wakes first, the turn belongs to who waited longest."""
    time = FakeTime()
    sleeping: list[Sleeper] = []
    sent: list[str] = []

    async def sleep(seconds: float) -> None:
        sleeping.append(asyncio.get_running_loop().create_future())
        await sleeping[-1]

    async def one(limiter: EndpointLimiter, name: str) -> None:
        async with limiter.slot(name, time.now + 600.0):
            sent.append(name)

    async def scenario() -> None:
        limiter = RateLimiter(1.0, monotonic=time.monotonic, sleep=sleep).at("host")
        limiter.pause("x", 30.0, "why")
        tasks = [asyncio.create_task(one(limiter, name)) for name in "abcde"]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            time.now += 40.0
            for sleeper in wake(sleeping):
                sleeper.set_result(None)
            sleeping.clear()

    run(scenario())
    assert sent == list("abcde")


def test_targets_share_the_lowest_rate_until_they_are_gone() -> None:
    """Targets with the same credentials share one limiter; a removed target no longer slows the other."""
    shared = SharedLimits(claims=None)
    limiter = shared.limiter("key", "a", 5.0)
    assert shared.limiter("key", "b", 2.0) is limiter
    assert limiter.rate == 2.0
    shared.keep(frozenset({"a"}))
    assert limiter.rate == 5.0


def test_cancellation_is_not_swallowed_and_frees_the_slot() -> None:
    """A cancelled poll ends at once, its request is counted, and the next one can go."""
    begun = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        begun.set()
        return await asyncio.sleep(3600, reply(200))

    harness = ClientHarness(hang)

    async def scenario() -> None:
        for _ in range(3):  # more than there are slots
            task = asyncio.create_task(harness.list_jobs())
            await begun.wait()
            begun.clear()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(scenario())
    assert harness.events.requests == [("list_jobs", "none")] * 3
