"""Hostile clients of one kind: python -m benchmarks.hostile.clients KIND PORT ADDRESS SECONDS COUNT RATE TLS.

They connect to loopback only, end after their time, and print how many attempts they made and the most
connections that they held.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

from exporter.exposition.catalog import METRICS as METRIC_FAMILIES

HOST: Final = "127.0.0.1"
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""
NOBODY: Final = "nobody"
FLOOD: Final = "connects, resets, 5,000 a second"
ESTABLISHED: Final = b"\x01"
"""The state in the first byte of Linux' TCP_INFO."""
PIPELINED: Final = 100
SMALL_WINDOW: Final = 4096


class Attack:
    """What the clients of one run have in common."""

    def __init__(self, port: int, address: str, rate: float, tls: bool) -> None:
        self.port = port
        self.address = address
        self.tls = None
        if tls:
            self.tls = ssl.create_default_context()
            self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.attempts = 0
        self.open = 0
        self.most_open = 0
        self._interval = 1 / rate
        self._next = 0.0
        self.numbers = itertools.count()

    async def turn(self) -> None:
        """All clients together begin so many attempts a second at most."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next + self._interval, now - 0.1)
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self.attempts += 1

    @contextlib.asynccontextmanager
    async def connected(self, *, window: int = 0, handshake: bool = True) -> AsyncIterator[HostileClient]:
        """A connection; its end is a reset unless the client closed it before."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.bind((self.address, 0))
        try:
            await loop.sock_connect(sock, (HOST, self.port))
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                client = HostileClient(sock, self.tls if handshake else None)
                await client.shake_hands()
                yield client
            finally:
                self.open -= 1
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            sock.close()


class HostileClient:
    """A connection without asyncio's buffers, so that who does not read does not read."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None if context is None else context.wrap_bio(self._incoming, self._outgoing)

    async def shake_hands(self) -> None:
        if self._tls is not None:
            await self._over_tls(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        if self._tls is None:
            await self._loop.sock_sendall(self.sock, data)
        else:
            await self._over_tls(partial(self._tls.write, data))

    async def receive(self, size: int = 262144) -> bytes:
        if self._tls is None:
            return await self._loop.sock_recv(self.sock, size)
        received: bytes = await self._over_tls(partial(self._tls.read, size))
        return received

    async def _over_tls(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the call gives
        while True:
            wants = False
            try:
                result = call()
            except ssl.SSLWantReadError:
                wants = True
            except ssl.SSLZeroReturnError:
                return b""
            if data := self._outgoing.read():
                await self._loop.sock_sendall(self.sock, data)
            if not wants:
                return result
            if not (data := await self._loop.sock_recv(self.sock, 262144)):
                raise ConnectionResetError
            self._incoming.write(data)

    async def whole_answer(self) -> None:
        """Head and body, by its Content-Length."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += (chunk := await self.receive())
            if not chunk:
                raise ConnectionResetError
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        got = len(body)
        while got < length:
            got += (n := len(await self.receive()))
            if not n:
                raise ConnectionResetError

    async def cut_off(self) -> None:
        """Wait, without reading, until the server has ended the connection."""
        while self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == ESTABLISHED:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = (f"{method} {path} HTTP/{version}", "host: x", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


METRICS: Final = get("/metrics")
PACKED: Final = get("/metrics", "accept-encoding: gzip")


def deaf(request: Callable[[Attack], bytes], *, half_closed: bool = False) -> Kind:
    async def client(attack: Attack) -> None:
        async with attack.connected(window=SMALL_WINDOW) as connection:
            await connection.send(request(attack))
            if half_closed:
                connection.sock.shutdown(socket.SHUT_WR)
                await asyncio.sleep(5)
            await connection.cut_off()

    return client


def some_names(attack: Attack) -> bytes:
    """Another large selection each time."""
    return get(
        f"/metrics?name[]=metastudio_tts_job_duration_upper_bound_seconds&name[]=x{next(attack.numbers)}"
    )


def all_names(attack: Attack) -> bytes:
    """Everything, as a selection of one's own."""
    names = "&".join(f"name[]={metric.family}" for metric in METRIC_FAMILIES)
    return get(f"/metrics?{names}&name[]=x{next(attack.numbers)}")


async def sip(attack: Attack) -> None:
    """Reads 16 KiB a second of everything."""
    async with attack.connected(window=65536) as connection:
        await connection.send(all_names(attack))
        while await connection.receive(1024):  # noqa: ASYNC110  # it is slow on purpose
            await asyncio.sleep(1 / 16)


def take(request: bytes, *, orderly: bool = False) -> Kind:
    async def client(attack: Attack) -> None:
        async with attack.connected() as connection:
            await connection.send(request)
            await connection.whole_answer()
            if orderly:
                await asyncio.sleep(0.02)
                connection.sock.shutdown(socket.SHUT_RDWR)

    return client


def vanish(request: bytes) -> Kind:
    """Resets when the first bytes of the answer arrive."""

    async def client(attack: Attack) -> None:
        async with attack.connected(window=SMALL_WINDOW) as connection:
            await connection.send(request)
            await connection.receive(100)

    return client


def drip(first: bytes, byte: bytes) -> Kind:
    async def client(attack: Attack) -> None:
        async with attack.connected() as connection:
            await connection.send(first)
            while True:
                await asyncio.sleep(0.5)
                await connection.send(byte)

    return client


def pour(head: bytes, piece: bytes) -> Kind:
    """Sends a body as fast as it is taken."""

    async def client(attack: Attack) -> None:
        async with attack.connected() as connection:
            await connection.send(head)
            while True:
                await connection.send(piece)

    return client


async def trickle(attack: Attack) -> None:
    """Reads a byte a second."""
    async with attack.connected(window=SMALL_WINDOW) as connection:
        await connection.send(METRICS)
        while await connection.receive(1):  # noqa: ASYNC110  # it is slow on purpose
            await asyncio.sleep(1)


async def nobody(attack: Attack) -> None:
    """No client at all, to compare with."""
    await asyncio.Event().wait()


async def silent(attack: Attack) -> None:
    async with attack.connected(handshake=False) as connection:
        await connection.cut_off()


async def half_a_handshake(attack: Attack) -> None:
    async with attack.connected(handshake=False) as connection:
        await connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))
        await connection.cut_off()


async def large_greeting(attack: Attack) -> None:
    """Announces 131,072 bytes."""
    async with attack.connected(handshake=False) as connection:
        await connection.send(b"\x16\x03\x01\x02\x00\x01\x02\x00\x00\x03\x03" + bytes(500))
        await connection.cut_off()


async def handshake_only(attack: Attack) -> None:
    """A handshake, and a reset."""
    async with attack.connected():
        pass


async def connect_only(attack: Attack) -> None:
    async with attack.connected(handshake=False):
        pass


async def huge_head(attack: Attack) -> None:
    async with attack.connected() as connection:
        await connection.send(get("/metrics", "x: " + "a" * 100_000))
        await connection.cut_off()


async def keeps_asking(attack: Attack) -> None:
    """One connection, one small request after the other."""
    async with attack.connected() as connection:
        while True:
            await connection.send(get("/-/healthy"))
            await connection.whole_answer()
            await attack.turn()


Kind = Callable[[Attack], Awaitable[None]]
KINDS: Final[dict[str, Kind]] = {
    NOBODY: nobody,
    "asks, reads nothing": deaf(lambda _: METRICS),
    "asks gzip, reads nothing": deaf(lambda _: PACKED),
    "asks 100 times at once, reads nothing": deaf(lambda _: METRICS * PIPELINED),
    "asks name[], reads nothing": deaf(some_names),
    "asks all name[], sips": sip,
    "asks with 2,200 header lines, reads nothing": deaf(lambda _: get("/metrics", *["x:"] * 2200)),
    "asks /api/v1/status, reads nothing": deaf(lambda _: get("/api/v1/status")),
    "asks by HTTP/1.0, reads nothing": deaf(lambda _: get("/metrics", version="1.0")),
    "asks, half closes, reads nothing": deaf(lambda _: METRICS, half_closed=True),
    "reads a byte a second": trickle,
    "takes the answer, resets": take(PACKED),
    "takes /-/healthy, resets": take(get("/-/healthy")),
    "takes the answer, closes": take(PACKED, orderly=True),
    "resets during the answer": vanish(METRICS),
    "keeps asking /-/healthy": keeps_asking,
    "head byte by byte": drip(b"GET /metrics HTTP/1.1\r\nx: ", b"x"),
    "body byte by byte": drip(get("/-/reload", "content-length: 10000", method="POST"), b"x"),
    "body poured": pour(get("/-/reload", "content-length: 1000000000", method="POST"), bytes(65536)),
    "body poured in one-byte chunks": pour(
        get("/-/reload", "transfer-encoding: chunked", method="POST"), b"1\r\nx\r\n" * 2000
    ),
    "head of 100 KB": huge_head,
    "connects, says nothing": silent,
    FLOOD: connect_only,
    "half a handshake": half_a_handshake,
    "greeting of 131 KB": large_greeting,
    "handshake, resets": handshake_only,
}


async def repeated(kind: Kind, attack: Attack) -> None:
    await asyncio.sleep(random.random() * 0.5)  # noqa: S311 - not a secret
    while True:
        await attack.turn()
        with contextlib.suppress(OSError, StopIteration):
            await kind(attack)


async def run(kind: Kind, attack: Attack, count: int, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as clients:
            for _ in range(count):
                clients.create_task(repeated(kind, attack))


def main(kind: str, port: str, address: str, seconds: str, count: str, rate: str, tls: str) -> None:
    attack = Attack(int(port), address, float(rate), tls == "tls")
    asyncio.run(run(KINDS[kind], attack, int(count), float(seconds)))
    print(0 if kind == NOBODY else attack.attempts, attack.most_open)


if __name__ == "__main__":
    main(*sys.argv[1:])
