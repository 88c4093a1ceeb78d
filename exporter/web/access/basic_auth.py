"""Basic authentication against bcrypt hashes, in constant time and never in the event loop.

Knows the Authorization header and who was let in; must not know where users come from or what they may see.

- A good password is hashed once. What matched is remembered for its user, as a digest under a key of this
  process, until the user's hash changes: no guess can push it out.
- A bad one costs a whole hash each time, also when there is no such user. ``hashing.py`` says in which order.
- bcrypt sees no more than 72 bytes, and none after a NUL. Such passwords never match: whoever made the hash
  made it from another password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from exporter.web.access.hashing import HashQueue

_HEADER_LIMIT: Final = 4096
_COST: Final = slice(4, 6)


class Verdict(Enum):
    WELCOME = "welcome"
    UNKNOWN = "unknown"
    """No credentials, or not the right ones."""
    TOO_MANY = "too many"
    """Not looked at: too many passwords wait, most of them from this address."""


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


class BasicAuth:
    """Decides who may come in."""

    def __init__(self, queue: HashQueue | None = None) -> None:
        self.queue = queue or HashQueue()
        self._key = secrets.token_bytes(32)
        self._accepted: dict[bytes, bytes] = {}
        """User -> digest of the name, the password and the hash that it matched."""

    def accepted(self, users: Mapping[bytes, bytes], header: str) -> bytes | None:
        """The user whose password this is, if it was let in before and the user's hash is still the same."""
        given = parse(header)
        return given.user if given is not None and self._is_accepted(users, given) else None

    async def judge(self, users: Mapping[bytes, bytes], header: str, client: str) -> Verdict:
        """``client`` is the address that asks."""
        given = parse(header)
        if given is None:
            return Verdict.UNKNOWN
        if self._is_accepted(users, given):
            return Verdict.WELCOME
        hashed = users.get(given.user)
        matches = await self.queue.matches(
            self._digest(client.encode(), *given, hashed or b""),
            client=client,
            user=self._digest(given.user),
            password=given.password,
            hashed=hashed or self._stand_in(users, given.user),
        )
        if matches is None:
            return Verdict.TOO_MANY
        if not matches or hashed is None:
            return Verdict.UNKNOWN
        self._accepted = {user: digest for user, digest in self._accepted.items() if user in users}
        self._accepted[given.user] = self._digest(*given, hashed)
        return Verdict.WELCOME

    def _is_accepted(self, users: Mapping[bytes, bytes], given: Credentials) -> bool:
        digest = self._digest(*given, users.get(given.user, b""))
        return hmac.compare_digest(digest, self._accepted.get(given.user, b""))

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
