"""Passwords: who comes in, at what cost, and who waits for whom."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
from collections.abc import Callable

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.access.basic_auth import AuthResult, BasicAuth, parse_basic
from exporter.web.access.password_queue import PASSWORD_LIMIT, PasswordQueue


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


def basic(user: str | bytes, password: str | bytes) -> str:
    user, password = (text.encode() if isinstance(text, str) else text for text in (user, password))
    return "Basic " + base64.b64encode(user + b":" + password).decode()


USERS = {b"alice": hashed(b"good"), "müller".encode(): hashed("pässwörd".encode())}


def check(
    basic_auth: BasicAuth, header: str, users: dict[bytes, bytes] = USERS, client: str = "c"
) -> AuthResult:
    return asyncio.run(basic_auth.check(users, header, client))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic("alice", "good"), AuthResult.ACCEPTED),
        (basic("müller", "pässwörd"), AuthResult.ACCEPTED),
        (basic("alice", "good").replace("Basic", "bAsIc"), AuthResult.ACCEPTED),
        (basic("alice", "bad"), AuthResult.REFUSED),
        (basic("alice", ""), AuthResult.REFUSED),
        (basic("mallory", "good"), AuthResult.REFUSED),
        (basic("", ""), AuthResult.REFUSED),
        ("", AuthResult.REFUSED),
        ("Basic", AuthResult.REFUSED),
        ("Basic !!!", AuthResult.REFUSED),
        ("Basic " + base64.b64encode(b"alice").decode(), AuthResult.REFUSED),
        ("Bearer " + base64.b64encode(b"alice:good").decode(), AuthResult.REFUSED),
        ("Basic " + "A" * 5000, AuthResult.REFUSED),
    ],
)
def test_only_the_right_password_of_a_user_opens(header: str, expected: AuthResult) -> None:
    """Names and passwords are UTF-8; the scheme's case does not matter; anything odd is no password."""
    assert check(BasicAuth(), header) is expected


@given(st.text())
def test_no_header_breaks_the_keeper(header: str) -> None:
    """Whatever a stranger sends, it is read or it is not."""
    for candidate in (header, f"Basic {header}"):
        parsed = parse_basic(candidate)
        assert parsed is None or b":" not in parsed.user


@pytest.mark.parametrize("length", [PASSWORD_LIMIT - 1, PASSWORD_LIMIT])
def test_passwords_up_to_72_bytes_count_whole(length: int) -> None:
    """The last byte that bcrypt looks at decides like the first."""
    password = b"x" * length
    users = {b"alice": hashed(password)}
    basic_auth = BasicAuth()
    assert check(basic_auth, basic(b"alice", password), users) is AuthResult.ACCEPTED
    assert check(basic_auth, basic(b"alice", password[:-1] + b"y"), users) is AuthResult.REFUSED
    assert check(basic_auth, basic(b"alice", password[:-1]), users) is AuthResult.REFUSED


@pytest.mark.parametrize(
    ("real", "sent"),
    [(b"x" * 72, b"x" * 73), (b"x" * 72, b"x" * 72 + b"anything"), (b"a", b"a\0a"), (b"a", b"a\0")],
    ids=["73", "longer", "nul-repeats", "nul-ends"],
)
def test_what_bcrypt_would_cut_never_matches(real: bytes, sent: bytes) -> None:
    """Beyond 72 bytes or a NUL bcrypt compares something shorter: that is not the same password."""
    basic_auth = BasicAuth()
    assert check(basic_auth, basic(b"alice", sent), {b"alice": hashed(real)}) is AuthResult.REFUSED
    assert basic_auth.queue.compared == 1  # and it cost what every wrong password costs


def test_a_good_password_is_hashed_once() -> None:
    """Scrapes stay cheap; a bad one is hashed each time; a new hash in the file is asked anew."""
    basic_auth = BasicAuth()
    for _ in range(3):
        assert check(basic_auth, basic("alice", "good")) is AuthResult.ACCEPTED
    assert basic_auth.queue.compared == 1
    for _ in range(2):
        assert check(basic_auth, basic("alice", "bad")) is AuthResult.REFUSED
    assert basic_auth.queue.compared == 3
    changed = {b"alice": hashed(b"other")}
    assert check(basic_auth, basic("alice", "good"), changed) is AuthResult.REFUSED
    assert check(basic_auth, basic("alice", "other"), changed) is AuthResult.ACCEPTED
    assert check(basic_auth, basic("alice", "good"), {b"bob": changed[b"alice"]}) is AuthResult.REFUSED


def test_a_remembered_password_costs_no_hash() -> None:
    """It is hashed once, however often it comes."""

    async def run() -> int:
        basic_auth, users = BasicAuth(), {b"alice": hashed(b"good", 8)}
        for _ in range(100):
            assert await basic_auth.check(users, basic("alice", "good"), "c") is AuthResult.ACCEPTED
        return basic_auth.queue.compared

    assert asyncio.run(run()) == 1


@pytest.mark.slow
def test_a_stranger_costs_what_a_user_costs() -> None:
    """So that nobody learns from the time who is a user: same cost, whatever the name or the password."""
    users = {b"alice": hashed(b"good", 9)}
    wrong = _seconds(users, basic("alice", "bad"))
    for header in (basic("mallory", "bad"), basic("alice", "x" * 100), basic("", "")):
        assert 0.5 < _seconds(users, header) / wrong < 2.0


def _seconds(users: dict[bytes, bytes], header: str) -> float:
    """The median CPU time of a refusal, all threads; all of it is the hash."""

    def once() -> float:
        began = time.process_time()
        assert check(BasicAuth(), header, users) is AuthResult.REFUSED
        return time.process_time() - began

    return statistics.median(once() for _ in range(5))


def test_strangers_cost_like_some_user_always_the_same() -> None:
    """With users of several costs, a name that does not exist costs like one of them, each time anew."""
    users = {b"a": hashed(b"x", 4), b"b": hashed(b"x", 5)}
    basic_auth = BasicAuth()
    costs = [[basic_auth.decoy_hash(users, b"name%d" % n)[4:6] for _ in range(3)] for n in range(40)]
    assert all(len(set(of_one)) == 1 for of_one in costs)
    assert {of_one[0] for of_one in costs} == {b"04", b"05"}


@pytest.mark.slow
def test_no_guess_pushes_out_who_was_let_in() -> None:
    """However many, from the same address, for the same name: the right password stays free of charge."""
    basic_auth = BasicAuth()
    assert check(basic_auth, basic("alice", "good")) is AuthResult.ACCEPTED
    for n in range(300):
        assert check(basic_auth, basic("alice", f"bad{n}")) is AuthResult.REFUSED
    compared = basic_auth.queue.compared
    assert check(basic_auth, basic("alice", "good")) is AuthResult.ACCEPTED
    assert basic_auth.queue.compared == compared


def test_who_was_let_in_waits_for_nobody() -> None:
    """Also while guesses from the same address fill the queue and nothing is compared at all."""
    stuck = False

    def compare(password: bytes, hashed: bytes, report: Callable[[bool], None]) -> None:
        if not stuck:
            report(True)

    basic_auth = BasicAuth(PasswordQueue(compare=compare))
    assert check(basic_auth, basic("alice", "good")) is AuthResult.ACCEPTED
    stuck = True

    async def run() -> AuthResult:
        guesses = [
            asyncio.create_task(basic_auth.check(USERS, basic("alice", f"bad{n}"), "c")) for n in range(2000)
        ]
        await asyncio.sleep(0)
        expected = await basic_auth.check(USERS, basic("alice", "good"), "c")
        for guess in guesses:
            guess.cancel()
        return expected

    assert asyncio.run(run()) is AuthResult.ACCEPTED


def test_a_removed_user_is_forgotten() -> None:
    """What is remembered is bounded by the users of the file."""
    basic_auth = BasicAuth()
    assert check(basic_auth, basic("alice", "good")) is AuthResult.ACCEPTED
    others = {b"bob": USERS[b"alice"]}
    assert basic_auth.known_user(others, basic("alice", "good")) is None
    assert check(basic_auth, basic("bob", "good"), others) is AuthResult.ACCEPTED
    assert list(basic_auth.accepted) == [b"bob"]


@pytest.mark.slow
def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    """Hashes are made in a thread, and outside Python's lock."""

    async def run() -> tuple[float, float]:
        basic_auth, users = BasicAuth(), {b"alice": hashed(b"good", 12)}
        longest = 0.0
        began = then = time.monotonic()
        guess = asyncio.create_task(basic_auth.check(users, basic("alice", "bad"), "c"))
        while not guess.done():
            await asyncio.sleep(0.001)
            longest, then = max(longest, time.monotonic() - then), time.monotonic()
        return longest, time.monotonic() - began

    longest, whole = asyncio.run(run())
    assert longest < whole / 2


def test_what_is_remembered_holds_no_password() -> None:
    """Only digests under a key of this process."""
    basic_auth = BasicAuth()
    check(basic_auth, basic("alice", "good"))
    assert len(basic_auth.accepted[b"alice"]) == 32
    assert b"good" not in basic_auth.accepted[b"alice"]
    assert basic_auth.digest(b"a", b"bc") != basic_auth.digest(b"ab", b"c")
