"""Passwords: who comes in, at what cost, and who waits for whom."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.access.basic_auth import BasicAuth, Verdict, parse
from exporter.web.access.hashing import PASSWORD_LIMIT, HashQueue


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


def basic(user: str | bytes, password: str | bytes) -> str:
    user, password = (text.encode() if isinstance(text, str) else text for text in (user, password))
    return "Basic " + base64.b64encode(user + b":" + password).decode()


USERS = {b"alice": hashed(b"good"), "müller".encode(): hashed("pässwörd".encode())}


def judge(keeper: BasicAuth, header: str, users: dict[bytes, bytes] = USERS, client: str = "c") -> Verdict:
    return asyncio.run(keeper.judge(users, header, client))


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (basic("alice", "good"), Verdict.WELCOME),
        (basic("müller", "pässwörd"), Verdict.WELCOME),
        (basic("alice", "good").replace("Basic", "bAsIc"), Verdict.WELCOME),
        (basic("alice", "bad"), Verdict.UNKNOWN),
        (basic("alice", ""), Verdict.UNKNOWN),
        (basic("mallory", "good"), Verdict.UNKNOWN),
        (basic("", ""), Verdict.UNKNOWN),
        ("", Verdict.UNKNOWN),
        ("Basic", Verdict.UNKNOWN),
        ("Basic !!!", Verdict.UNKNOWN),
        ("Basic " + base64.b64encode(b"alice").decode(), Verdict.UNKNOWN),
        ("Bearer " + base64.b64encode(b"alice:good").decode(), Verdict.UNKNOWN),
        ("Basic " + "A" * 5000, Verdict.UNKNOWN),
    ],
)
def test_only_the_right_password_of_a_user_opens(header: str, verdict: Verdict) -> None:
    """Names and passwords are UTF-8; the scheme's case does not matter; anything odd is no password."""
    assert judge(BasicAuth(), header) is verdict


@given(st.text())
def test_no_header_breaks_the_keeper(header: str) -> None:
    """Whatever a stranger sends, it is read or it is not."""
    for candidate in (header, f"Basic {header}"):
        parsed = parse(candidate)
        assert parsed is None or b":" not in parsed.user


@pytest.mark.parametrize("length", [PASSWORD_LIMIT - 1, PASSWORD_LIMIT])
def test_passwords_up_to_72_bytes_count_whole(length: int) -> None:
    """The last byte that bcrypt looks at decides like the first."""
    password = b"x" * length
    users = {b"alice": hashed(password)}
    keeper = BasicAuth()
    assert judge(keeper, basic(b"alice", password), users) is Verdict.WELCOME
    assert judge(keeper, basic(b"alice", password[:-1] + b"y"), users) is Verdict.UNKNOWN
    assert judge(keeper, basic(b"alice", password[:-1]), users) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("real", "sent"),
    [(b"x" * 72, b"x" * 73), (b"x" * 72, b"x" * 72 + b"anything"), (b"a", b"a\0a"), (b"a", b"a\0")],
    ids=["73", "longer", "nul-repeats", "nul-ends"],
)
def test_what_bcrypt_would_cut_never_matches(real: bytes, sent: bytes) -> None:
    """Beyond 72 bytes or a NUL bcrypt compares something shorter: that is not the same password."""
    keeper = BasicAuth()
    assert judge(keeper, basic(b"alice", sent), {b"alice": hashed(real)}) is Verdict.UNKNOWN
    assert keeper.queue.compared == 1  # and it cost what every wrong password costs


def test_a_good_password_is_hashed_once() -> None:
    """Scrapes stay cheap; a bad one is hashed each time; a new hash in the file is asked anew."""
    keeper = BasicAuth()
    for _ in range(3):
        assert judge(keeper, basic("alice", "good")) is Verdict.WELCOME
    assert keeper.queue.compared == 1
    for _ in range(2):
        assert judge(keeper, basic("alice", "bad")) is Verdict.UNKNOWN
    assert keeper.queue.compared == 3
    changed = {b"alice": hashed(b"other")}
    assert judge(keeper, basic("alice", "good"), changed) is Verdict.UNKNOWN
    assert judge(keeper, basic("alice", "other"), changed) is Verdict.WELCOME
    assert judge(keeper, basic("alice", "good"), {b"bob": changed[b"alice"]}) is Verdict.UNKNOWN


def test_a_remembered_password_costs_no_hash() -> None:
    """It is hashed once, however often it comes."""

    async def run() -> int:
        keeper, users = BasicAuth(), {b"alice": hashed(b"good", 8)}
        for _ in range(100):
            assert await keeper.judge(users, basic("alice", "good"), "c") is Verdict.WELCOME
        return keeper.queue.compared

    assert asyncio.run(run()) == 1


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
        assert judge(BasicAuth(), header, users) is Verdict.UNKNOWN
        return time.process_time() - began

    return statistics.median(once() for _ in range(5))


def test_strangers_cost_like_some_user_always_the_same() -> None:
    """With users of several costs, a name that does not exist costs like one of them, each time anew."""
    users = {b"a": hashed(b"x", 4), b"b": hashed(b"x", 5)}
    keeper = BasicAuth()
    costs = [[keeper._stand_in(users, b"name%d" % n)[4:6] for _ in range(3)] for n in range(40)]
    assert all(len(set(of_one)) == 1 for of_one in costs)
    assert {of_one[0] for of_one in costs} == {b"04", b"05"}


def test_no_guess_pushes_out_who_was_let_in() -> None:
    """However many, from the same address, for the same name: the right password stays free of charge."""
    keeper = BasicAuth()
    assert judge(keeper, basic("alice", "good")) is Verdict.WELCOME
    for n in range(300):
        assert judge(keeper, basic("alice", f"bad{n}")) is Verdict.UNKNOWN
    compared = keeper.queue.compared
    assert judge(keeper, basic("alice", "good")) is Verdict.WELCOME
    assert keeper.queue.compared == compared


def test_who_was_let_in_waits_for_nobody() -> None:
    """Also while guesses from the same address fill the queue and nothing is compared at all."""
    keeper = BasicAuth(queue := HashQueue(compare=lambda password, hashed, report: report(True)))
    assert judge(keeper, basic("alice", "good")) is Verdict.WELCOME
    queue._compare = lambda password, hashed, report: None

    async def run() -> Verdict:
        guesses = [
            asyncio.create_task(keeper.judge(USERS, basic("alice", f"bad{n}"), "c")) for n in range(2000)
        ]
        await asyncio.sleep(0)
        verdict = await keeper.judge(USERS, basic("alice", "good"), "c")
        for guess in guesses:
            guess.cancel()
        return verdict

    assert asyncio.run(run()) is Verdict.WELCOME


def test_a_removed_user_is_forgotten() -> None:
    """What is remembered is bounded by the users of the file."""
    keeper = BasicAuth()
    assert judge(keeper, basic("alice", "good")) is Verdict.WELCOME
    others = {b"bob": USERS[b"alice"]}
    assert keeper.accepted(others, basic("alice", "good")) is None
    assert judge(keeper, basic("bob", "good"), others) is Verdict.WELCOME
    assert list(keeper._accepted) == [b"bob"]


def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    """Hashes are made in a thread, and outside Python's lock."""

    async def run() -> tuple[float, float]:
        keeper, users = BasicAuth(), {b"alice": hashed(b"good", 12)}
        longest = 0.0
        began = then = time.monotonic()
        guess = asyncio.create_task(keeper.judge(users, basic("alice", "bad"), "c"))
        while not guess.done():
            await asyncio.sleep(0.001)
            longest, then = max(longest, time.monotonic() - then), time.monotonic()
        return longest, time.monotonic() - began

    longest, whole = asyncio.run(run())
    assert longest < whole / 2


def test_what_is_remembered_holds_no_password() -> None:
    """Only digests under a key of this process."""
    keeper = BasicAuth()
    judge(keeper, basic("alice", "good"))
    assert len(keeper._accepted[b"alice"]) == 32
    assert b"good" not in keeper._accepted[b"alice"]
    assert keeper._digest(b"a", b"bc") != keeper._digest(b"ab", b"c")
