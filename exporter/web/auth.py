"""Basic authentication against bcrypt hashes, in constant time and never in the event loop.

Knows the Authorization header and bcrypt; must not know where users come from or what they may see.

- A good password is hashed once: what matched is remembered as a digest under a key of this process.
- A bad one costs a whole hash each time, also when there is no such user.
- Hashes are made one at a time in a thread. Each client waits in its own queue, so that nobody who guesses
  keeps another client waiting for more than one hash.
- bcrypt sees no more than 72 bytes, and none after a NUL. Such passwords never match: whoever made the hash
  made it from another password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

import bcrypt

PASSWORD_LIMIT: Final = 72
"""Bytes that bcrypt looks at."""
WAITING_LIMIT: Final = 8
"""Passwords of one client that may wait to be hashed."""
REMEMBERED: Final = 256
_HEADER_LIMIT: Final = 4096
_COST: Final = slice(4, 6)


class Verdict(Enum):
    WELCOME = "welcome"
    UNKNOWN = "unknown"
    """No credentials, or not the right ones."""
    TOO_MANY = "too many"
    """Not looked at: this client has too many guesses waiting."""


class Credentials(NamedTuple):
    user: bytes
    password: bytes


def parse(header: str) -> Credentials | None:
    """What an Authorization header says; ``None`` when it is missing or of another kind."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _HEADER_LIMIT:
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return Credentials(user, password) if colon else None


class Gatekeeper:
    """Decides who may come in."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._waiting: Counter[str] = Counter()
        self._queues: dict[str, asyncio.Lock] = {}
        self._one_at_a_time = asyncio.Lock()
        self.hashes = 0
        """Made so far."""

    async def judge(self, users: Mapping[bytes, bytes], header: str, client: str) -> Verdict:
        """``client`` is who shares a queue: an address."""
        given = parse(header)
        if given is None:
            return Verdict.UNKNOWN
        hashed = users.get(given.user)
        digest = self._digest(given.user, given.password, hashed or b"")
        if hashed is not None and digest in self._good:
            self._good.move_to_end(digest)
            return Verdict.WELCOME
        if self._waiting[client] >= WAITING_LIMIT:
            return Verdict.TOO_MANY
        matches = await self._in_turn(given.password, hashed or self._stand_in(users, given.user), client)
        if not matches or hashed is None:
            return Verdict.UNKNOWN
        self._good[digest] = None
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
        return Verdict.WELCOME

    async def _in_turn(self, password: bytes, hashed: bytes, client: str) -> bool:
        self._waiting[client] += 1
        queue = self._queues.setdefault(client, asyncio.Lock())
        try:
            async with queue, self._one_at_a_time:
                self.hashes += 1
                return await _in_thread(password, hashed)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client], self._queues[client]

    def _digest(self, *parts: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _stand_in(self, users: Mapping[bytes, bytes], user: bytes) -> bytes:
        """A hash for a user that does not exist: always the same for this name, and as dear as a real one."""
        costs = sorted(hashed[_COST] for hashed in users.values())
        cost = costs[int.from_bytes(self._digest(user)[:8], "big") % len(costs)]
        return b"$2b$" + cost + b"$" + b"." * 53


async def _in_thread(password: bytes, hashed: bytes) -> bool:
    """Whether the password belongs to the hash. The thread is a daemon: it holds up no shutdown."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def settle(matches: bool) -> None:
        if not answer.done():
            answer.set_result(matches)

    def work() -> None:
        matches = _matches(password, hashed)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, matches)

    threading.Thread(target=work, name="bcrypt", daemon=True).start()
    return await answer


def _matches(password: bytes, hashed: bytes) -> bool:
    usable = len(password) <= PASSWORD_LIMIT and b"\0" not in password
    return bcrypt.checkpw(password if usable else b"", hashed) and usable
