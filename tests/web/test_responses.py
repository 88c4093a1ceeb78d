"""Who gets a place among the responses under way, and how much memory all of them hold."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from exporter.web import responses as responses_module
from exporter.web.connections import Limits
from exporter.web.responses import (
    PIECE_BYTES,
    SHARED_BODY,
    STALLED_SECONDS,
    TOO_LARGE,
    TOO_MANY,
    LargeResponse,
    LargeResponses,
    PiecewiseSend,
)
from tests.web.test_connections import serving
from tests.web.test_server import place

Found = tuple[LargeResponses, list[LargeResponse], list[int]]
BODY = b"0123456789" * 10_000
LATER = STALLED_SECONDS * 2


def responses(*who: tuple[str, bool], limit: int, memory: int = 1 << 30) -> Found:
    """These clients' responses, begun at 0, 1, 2, ... seconds, and the places of those that were cut off."""
    cut: list[int] = []
    under_way = LargeResponses(limit, memory)
    found = [
        LargeResponse(client, answered_before, lambda n=n: cut.append(n), float(n))  # type: ignore[misc]  # a default's type
        for n, (client, answered_before) in enumerate(who)
    ]
    for n, response in enumerate(found):
        assert under_way.begin(response, float(n)) == b""
    return under_way, found, cut


def newcomer(client: str, *, answered_before: bool = False) -> LargeResponse:
    return LargeResponse(client, answered_before, lambda: None)


def test_a_reader_that_stalls_gives_way() -> None:
    """To the next one that asks, also of the same client."""
    under_way, found, cut = responses(("a", False), ("a", False), limit=2)
    found[1].sent = 1
    assert under_way.begin(newcomer("a"), 1.0 + LATER) == b""
    assert cut == [0]


@pytest.mark.parametrize("client", ["a", "b"], ids=["own", "another"])
@pytest.mark.parametrize("answered_before", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_nobody_who_reads_is_cut_off(client: str, answered_before: bool, limit: int) -> None:
    """Who asks then is refused, whoever it is: what has begun is worth more."""
    under_way, found, cut = responses(*[("a", False)] * limit, limit=limit)
    for response in found:
        response.sent = 1
    assert under_way.begin(newcomer(client, answered_before=answered_before), 10.0) == TOO_MANY
    assert (cut, len(under_way)) == ([], limit)


def test_of_those_that_stall_the_largest_crowd_gives_way() -> None:
    """Not who is alone at its address, though it has stalled for longer."""
    under_way, _, cut = responses(("b", True), ("a", False), ("a", False), limit=3)
    assert under_way.begin(newcomer("c"), 10.0) == b""
    assert cut == [1]


def test_who_pauses_may_pause_again() -> None:
    """Twice as long as before: a slow network brings much at once, and then nothing for seconds."""
    under_way, (slow,), cut = responses(("a", False), limit=1)
    slow.sent = 1
    assert under_way.begin(newcomer("b"), 4.0) == TOO_MANY
    assert under_way.begin(newcomer("b"), 11.0) == TOO_MANY
    assert under_way.begin(newcomer("b"), 12.5) == b""
    assert cut == [0]


def test_what_the_kernel_holds_is_not_taken() -> None:
    """Only what the other side has acknowledged is; whatever was waiting before is no matter."""
    waiting = [50]
    response = LargeResponse("a", False, lambda: None, 0.0, lambda: waiting[0])
    seen = [response.has_progressed(1.0)]
    for given, left in ((100, 150), (0, 149), (0, 149), (100, 249), (0, 0)):
        response.sent += given
        waiting[0] = left
        seen.append(response.has_progressed(2.0))
    assert seen == [False, False, True, False, False, True]
    assert response.taken == response.sent == 200


def test_one_client_leaves_room_for_others() -> None:
    """An eighth of the places, and as many for its own kept connections, though everybody reads."""
    under_way, found, cut = responses(*[("a", False)] * 6, limit=8)
    for response in found:
        response.sent = 1
    refusals = [
        under_way.begin(LargeResponse(client, answered_before, lambda: None, 10.0), 10.0)
        for client, answered_before in (("a", False), ("a", True), ("a", True), ("b", False), ("c", False))
    ]
    assert refusals == [TOO_MANY, b"", TOO_MANY, b"", TOO_MANY]
    assert cut == []


def test_beyond_its_share_a_client_has_the_places_of_its_own() -> None:
    """Of a reader that has stalled; others' stay, though there is none to give way."""
    under_way, found, cut = responses(("b", False), *[("a", False)] * 6, limit=8)
    for response in found[2:]:
        response.sent = 1
    assert under_way.begin(newcomer("a"), 10.0) == b""
    assert cut == [1]


def test_no_limit_is_no_limit() -> None:
    """``0``, as in node_exporter."""
    under_way, _, cut = responses(*[("a", False)] * 1000, limit=0)
    assert (len(under_way), cut) == (1000, [])


def test_bodies_for_one_reader_are_bounded() -> None:
    """The next one is refused, and nobody cut off: half of the bytes for each client, all of them for all."""
    under_way, _, cut = responses(limit=0, memory=40)

    def begin(client: str, private: int) -> LargeResponse | None:
        response = newcomer(client)
        refusal = under_way.begin(response, 100.0, private=private)
        assert refusal in (b"", TOO_LARGE)
        return None if refusal else response

    assert begin("a", 10)
    last = begin("a", 10)
    assert last
    assert not begin("a", 1)
    assert begin("b", 20)
    assert not begin("c", 1)
    assert begin("c", 0)
    under_way.end(last)
    assert begin("a", 1000), "whatever its size: it has been made, and may be all that there is"
    assert cut == []


# --- pieces -------------------------------------------------------------------------------------------------


def sent(
    body: bytes,
    *,
    responses: LargeResponses | None = None,
    method: str = "GET",
    more: bytes | None = None,
    shared: bool = False,
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
            responses or LargeResponses(1, 1 << 30),
            newcomer("a"),
            take,
        )
        headers = [
            (b"content-length", str(len(body) + len(more or b"")).encode()),
            (b"content-encoding", b"gzip"),
        ]
        start = {"type": "http.response.start", "status": 200, "headers": [*headers, (b"x", b"y")]}
        await piecewise({**start, SHARED_BODY: shared})
        await piecewise({"type": "http.response.body", "body": body, "more_body": more is not None})
        if more is not None:
            await piecewise({"type": "http.response.body", "body": more})

    asyncio.run(run())
    return messages, len(taken)


@pytest.mark.parametrize("size", [PIECE_BYTES + 1, 2 * PIECE_BYTES, 100 * PIECE_BYTES + 7])
@pytest.mark.parametrize("more", [None, b"", b"end"], ids=["whole", "then-nothing", "then-more"])
def test_a_large_body_is_sent_in_pieces(size: int, more: bytes | None) -> None:
    """All of it, in order, none of them copied or larger than a piece, and the last one is the last."""
    body = bytes(n % 251 for n in range(size))
    (_, *bodies), taken = sent(body, more=more)
    assert b"".join(message["body"] for message in bodies) == body + (more or b"")
    assert all(len(message["body"]) <= PIECE_BYTES for message in bodies)
    assert taken == len(bodies)
    assert all(message["body"].obj is body for message in bodies[: -(-size // PIECE_BYTES)])
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]


def test_nothing_is_sent_to_who_is_gone() -> None:
    """The rest waits for the end of the connection, which cancels it."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def run() -> None:
        piecewise = PiecewiseSend({"method": "GET"}, send, LargeResponses(1, 1), newcomer("a"), lambda: False)
        task = asyncio.create_task(piecewise({"type": "http.response.body", "body": BODY}))
        for _ in range(10):
            await asyncio.sleep(0)
        assert (len(messages), task.done()) == (1, False)
        task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_fits_or_has_no_body_needs_no_place(method: str) -> None:
    """Health, refusals and HEAD come however many responses are under way."""
    full, _, _ = responses(("a", False), limit=1)
    (start, *_), _ = sent(BODY if method == "HEAD" else b"ok\n", responses=full, method=method)
    assert start["status"] == 200


def test_one_too_many_is_refused_with_a_line_that_says_so() -> None:
    """With the headers that every response has, and nothing of the body."""
    full, found, _ = responses(("a", False), limit=1)
    found[0].sent = 1
    (start, body), _ = sent(BODY, responses=full, more=b"end")
    assert start["status"] == 503
    assert dict(start["headers"]) == {
        b"connection": b"close",
        b"content-length": b"52",
        b"content-type": b"text/plain; charset=utf-8",
        b"retry-after": b"1",
        b"x": b"y",
    }
    assert body["body"] == b"too many requests at a time: see --web.max-requests\n"


@pytest.mark.parametrize(("shared", "expected"), [(True, 200), (False, 503)], ids=["shared", "own"])
def test_a_body_that_all_share_costs_no_memory(shared: bool, expected: int) -> None:
    """Others' large responses keep nobody from scraping; one more large response of one's own is refused."""
    full, found, _ = responses(("a", False), limit=0, memory=10)
    full.begin(found[0], 0.0, private=10)
    messages, _ = sent(BODY, responses=full, shared=shared)
    assert messages[0]["status"] == expected
    assert shared or messages[1]["body"] == TOO_LARGE


def test_the_server_refuses_and_serves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real server: 503 while others read, small responses always, and 200 once they have ended."""
    monkeypatch.setattr(responses_module, "STALLED_SECONDS", 60.0)  # a busy machine is no slow reader

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
