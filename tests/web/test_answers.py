"""Who gets a place among the answers under way, and how much memory all of them hold."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from exporter.web import answers as answers_module
from exporter.web.answers import PIECE, STALLED_SECONDS, Answer, Answers, PiecewiseSend
from exporter.web.connections import Limits
from tests.web.test_connections import serving
from tests.web.test_server import place

BODY = b"0123456789" * 10_000
LATER = STALLED_SECONDS * 2


def answers(
    *who: tuple[str, bool], limit: int, memory: int = 1 << 30
) -> tuple[Answers, list[Answer], list[int]]:
    """These clients' answers, begun at 0, 1, 2, ... seconds, and the places of those that were cut off."""
    cut: list[int] = []
    everybody = Answers(limit, memory)
    found = [
        Answer(client, known, lambda n=n: cut.append(n), float(n))  # type: ignore[misc]  # a default's type
        for n, (client, known) in enumerate(who)
    ]
    assert all(everybody.begin(answer) for answer in found)
    return everybody, found, cut


def newcomer(client: str, at: float, *, known: bool = False) -> Answer:
    return Answer(client, known, lambda: None, at)


def test_a_reader_that_stalls_gives_way() -> None:
    """To the next one that asks, also of the same client."""
    everybody, _, cut = answers(("a", False), ("a", False), limit=2)
    assert everybody.begin(newcomer("a", 1.0 + LATER))
    assert cut == [0]


def test_readers_that_read_are_not_disturbed() -> None:
    """Who asks then is refused."""
    everybody, found, cut = answers(("a", False), ("a", False), limit=2)
    for answer in found:
        answer.taken_at = 10.0
    assert not everybody.begin(newcomer("a", 10.0))
    assert (cut, len(everybody)) == ([], 2)


@pytest.mark.parametrize(
    ("client", "known"), [("b", False), ("a", True)], ids=["another client", "a kept connection"]
)
def test_a_crowd_gives_way_though_it_reads(client: str, known: bool) -> None:
    """To another client, and to a connection that was answered before, as a scraper's is."""
    everybody, _, cut = answers(("a", False), ("a", False), ("a", False), limit=3)
    assert everybody.begin(newcomer(client, 2.0, known=known))
    assert cut == [0]


def test_no_limit_is_no_limit() -> None:
    """``0``, as in node_exporter."""
    everybody, _, cut = answers(*[("a", False)] * 1000, limit=0)
    assert (len(everybody), cut) == (1000, [])


def test_a_body_that_many_read_counts_once() -> None:
    """It is one object in memory, until the last of its readers has gone."""
    everybody, found, _ = answers(*[("a", False)] * 3, limit=0)
    for answer in found:
        everybody.hold(answer, BODY)
    held = [everybody.held]
    for answer in found:
        everybody.end(answer)
        everybody.end(answer)
        held.append(everybody.held)
    assert held == [len(BODY), len(BODY), len(BODY), 0]


def test_old_bodies_are_given_up_when_all_are_too_large() -> None:
    """Slow readers must not keep each publication of the day in memory."""
    everybody, found, cut = answers(*[("a", False)] * 4, limit=0, memory=2 * len(BODY))
    for n, answer in enumerate(found):
        everybody.hold(answer, bytes([n]) + BODY[1:])
    assert cut == [0, 1]
    assert everybody.held == 2 * len(BODY)


def test_readers_that_read_keep_their_bodies() -> None:
    """Two scrapers of a very large exposition do not cut each other off."""
    everybody, found, cut = answers(*[("a", False)] * 2, limit=0, memory=len(BODY))
    for n, answer in enumerate(found):
        answer.taken_at = 10.0
        everybody.hold(answer, bytes([n]) + BODY[1:])
    assert (cut, everybody.held) == ([], 2 * len(BODY))


def test_one_body_may_be_larger_than_all() -> None:
    """It has been made, and nothing else can be given up for it."""
    everybody, found, cut = answers(("a", False), limit=0, memory=10)
    everybody.hold(found[0], BODY)
    assert (cut, everybody.held) == ([], len(BODY))


# --- pieces -------------------------------------------------------------------------------------------------


def sent(
    body: bytes, *, answers: Answers | None = None, method: str = "GET", more: bytes | None = None
) -> tuple[list[Message], int]:
    """What a server gets, and how often the reader had taken something."""
    messages: list[Message] = []
    taken = []

    async def send(message: Message) -> None:
        messages.append(message)

    def take() -> bool:
        taken.append(1)
        return True

    async def run() -> None:
        piecewise = PiecewiseSend(
            {"method": method},
            send,
            answers or Answers(1, 1 << 30),
            newcomer("a", 0.0),
            take,
        )
        headers = [
            (b"content-length", str(len(body) + len(more or b"")).encode()),
            (b"content-encoding", b"gzip"),
        ]
        await piecewise({"type": "http.response.start", "status": 200, "headers": [*headers, (b"x", b"y")]})
        await piecewise({"type": "http.response.body", "body": body, "more_body": more is not None})
        if more is not None:
            await piecewise({"type": "http.response.body", "body": more})

    asyncio.run(run())
    return messages, len(taken)


@pytest.mark.parametrize("size", [PIECE + 1, 2 * PIECE, 100 * PIECE + 7])
@pytest.mark.parametrize("more", [None, b"", b"end"], ids=["whole", "then-nothing", "then-more"])
def test_a_large_body_is_sent_in_pieces(size: int, more: bytes | None) -> None:
    """All of it, in order, none of them copied or larger than a piece, and the last one is the last."""
    body = bytes(n % 251 for n in range(size))
    (_, *bodies), taken = sent(body, more=more)
    assert b"".join(message["body"] for message in bodies) == body + (more or b"")
    assert all(len(message["body"]) <= PIECE for message in bodies)
    assert all(message["body"].obj is body for message in bodies[:taken])
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]


def test_nothing_is_sent_to_who_is_gone() -> None:
    """The rest waits for the end of the connection, which cancels it."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def run() -> None:
        piecewise = PiecewiseSend({"method": "GET"}, send, Answers(1, 1), newcomer("a", 0.0), lambda: False)
        task = asyncio.create_task(piecewise({"type": "http.response.body", "body": BODY}))
        for _ in range(10):
            await asyncio.sleep(0)
        assert (len(messages), task.done()) == (1, False)
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_fits_or_has_no_body_needs_no_place(method: str) -> None:
    """Health, refusals and HEAD come however many answers are under way."""
    full, _, _ = answers(("a", False), limit=1)
    (start, *_), _ = sent(BODY if method == "HEAD" else b"ok\n", answers=full, method=method)
    assert start["status"] == 200


def test_one_too_many_is_refused_with_a_line_that_says_so() -> None:
    """With the headers that every answer has, and nothing of the body."""
    full, found, _ = answers(("a", False), limit=1)
    found[0].taken_at = 0.0
    (start, body), _ = sent(BODY, answers=full, more=b"end")
    assert start["status"] == 503
    assert dict(start["headers"]) == {
        b"connection": b"close",
        b"content-length": b"52",
        b"content-type": b"text/plain; charset=utf-8",
        b"retry-after": b"1",
        b"x": b"y",
    }
    assert body["body"] == b"too many requests at a time: see --web.max-requests\n"


def test_the_server_refuses_and_serves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real server: 503 while others read, small answers always, and 200 once they have ended."""
    monkeypatch.setattr(answers_module, "STALLED_SECONDS", 60.0)  # a busy machine is no slow reader

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = b"ok\n" if scope["path"] == "/small" else bytes(20_000_000)
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    async def run() -> list[int]:
        async with (
            serving(app, limits=Limits(requests=1)) as server,
            httpx.AsyncClient(base_url=server.urls[0], timeout=20) as client,
        ):
            reader, writer = await asyncio.open_connection(*place(server), limit=1 << 16)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            got, statuses = 0, []

            async def read(size: int) -> None:
                nonlocal got
                while got < size:
                    got += len(await reader.read(1 << 16))

            await read(100_000)
            statuses.append((await client.get("/")).status_code)
            statuses.append((await client.get("/small")).status_code)
            await read(20_000_000)
            statuses.append((await client.get("/")).status_code)
            writer.close()
            return statuses

    assert asyncio.run(run()) == [503, 200, 200]
