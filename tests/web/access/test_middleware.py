"""The access in front of every page: limits, passwords, headers."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from exporter.web.access.clients import client_of
from exporter.web.access.config import RateLimit, WebConfig
from exporter.web.access.middleware import MAX_CLIENTS, AccessMiddleware, ClientRateLimiter
from tests.web.access.test_basic_auth import USERS, basic

APP = PlainTextResponse("page\n", headers={"x-frame-options": "DENY", "x-content-type-options": "nosniff"})


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(
    access: AccessMiddleware, path: str = "/", client: str = "192.0.2.1", **request: Any
) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(access, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as http:
            return await http.request(request.pop("method", "GET"), path, **request)

    return asyncio.run(run())


def guarded(clock: ManualClock | None = None, **settings: Any) -> AccessMiddleware:
    config = WebConfig(files=(), **settings)
    return AccessMiddleware(APP, lambda: config, monotonic=clock or ManualClock())


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/nowhere", "//"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "TRACE"])
def test_every_path_and_method_asks_for_a_password(path: str, method: str) -> None:
    """As in exporter-toolkit: also health, also what does not exist."""
    access = guarded(users=USERS)
    refused = ask(access, path, method=method)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
    wrong = ask(access, path, method=method, headers={"authorization": basic("alice", "bad")})
    assert (wrong.status_code, wrong.text) == (401, refused.text)
    assert (
        ask(access, path, method=method, headers={"authorization": basic("alice", "good")}).status_code == 200
    )


def test_without_users_everybody_may_come_in() -> None:
    """An odd Authorization header does not matter then."""
    assert ask(guarded(), headers={"authorization": "Basic !"}).text == "page\n"


def test_users_change_while_the_server_runs() -> None:
    """Each request is judged by what the file says now."""
    settings = WebConfig(files=(), users=USERS)
    access = AccessMiddleware(APP, lambda: settings)
    good = {"authorization": basic("alice", "good")}
    assert ask(access, headers=good).status_code == 200
    settings = WebConfig(files=(), users={b"bob": USERS[b"alice"]})
    assert ask(access, headers=good).status_code == 401


def test_configured_headers_win_and_blank_ones_go() -> None:
    """Also on a refusal."""
    headers = (("X-Frame-Options", "sameorigin"), ("X-Content-Type-Options", ""), ("X-XSS-Protection", "0"))
    for access in (guarded(headers=headers), guarded(headers=headers, users=USERS)):
        answer = ask(access)
        assert answer.headers.get_list("x-frame-options") == ["sameorigin"]
        assert "x-content-type-options" not in answer.headers
        assert answer.headers["x-xss-protection"] == "0"


def test_too_many_requests_are_answered_429() -> None:
    """Burst first, then one an interval; says when to come back; who has no password is counted too."""
    clock = ManualClock()
    access = guarded(clock, rate_limit=RateLimit(2.0, 3), users=USERS)
    assert [ask(access).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert ask(access).headers["retry-after"] == "2"
    clock.now += 2.0
    assert [ask(access).status_code for _ in range(2)] == [401, 429]


def test_nobody_uses_up_what_another_client_needs() -> None:
    """Each address has its own bucket; the addresses of one IPv6 network share one."""
    access = guarded(rate_limit=RateLimit(60.0, 1))
    first = [ask(access, client=client).status_code for client in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]
    again = [
        ask(access, client=client).status_code for client in ("192.0.2.1", "2001:db8::2", "2001:db8:1::1")
    ]
    assert first + again == [200, 200, 200, 429, 429, 200]


def test_guesses_use_up_nothing_of_who_was_let_in() -> None:
    """From the same address (a proxy, a NAT): who has shown a password has a bucket for it alone."""
    access = guarded(rate_limit=RateLimit(60.0, 2), users=USERS)
    good, bad = ({"authorization": basic("alice", password)} for password in ("good", "bad"))
    codes = [ask(access, headers=headers).status_code for headers in (good, bad, bad, good, good, good)]
    assert codes == [200, 401, 429, 200, 200, 429]


def test_a_new_rate_limit_is_in_force_at_once() -> None:
    """And its bucket is full."""
    settings = WebConfig(files=(), rate_limit=RateLimit(60.0, 1))
    access = AccessMiddleware(APP, lambda: settings)
    assert [ask(access).status_code for _ in range(2)] == [200, 429]
    settings = WebConfig(files=(), rate_limit=RateLimit(60.0, 2))
    assert [ask(access).status_code for _ in range(3)] == [200, 200, 429]


@given(
    st.integers(1, 5),
    st.floats(0.1, 10),
    st.lists(st.floats(0, 20), min_size=1, max_size=60),
)
def test_no_more_than_burst_and_rate_get_through(burst: int, interval: float, pauses: list[float]) -> None:
    """Whenever requests come: in any stretch at most the burst and one for each interval."""
    clock = ManualClock()
    buckets = ClientRateLimiter(RateLimit(interval, burst), clock)
    allowed = []
    for pause in pauses:
        clock.now += pause
        if buckets.wait(("c", None)) == 0:
            allowed.append(clock.now)
    for i, begin in enumerate(allowed):
        for j in range(i, len(allowed)):
            assert j - i + 1 <= burst + (allowed[j] - begin) / interval + 1e-6


def test_buckets_are_bounded() -> None:
    """However many addresses come."""
    buckets = ClientRateLimiter(RateLimit(1.0, 1), ManualClock())
    for n in range(MAX_CLIENTS + 100):
        buckets.wait((str(n), None))
    assert len(buckets) == MAX_CLIENTS


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_who_a_client_is(host: str, client: str) -> None:
    """IPv4 by address, IPv6 by network."""
    assert client_of(host) == client
