"""Basic authentication against bcrypt hashes, in constant time and never in the event loop.

Knows the Authorization header and which passwords were right; must not know where users come from or what
they may see.

- A right password is hashed once. What matched is remembered for its user, as a digest under a key of this
  process, until the user's hash changes. Guesses cannot push it out.
- A wrong one costs a whole hash each time, also when there is no such user. ``password_queue.py`` decides in
  which order passwords are compared.
- bcrypt ignores what follows the first 72 bytes, or a NUL. Such passwords are refused: their hash was made
  from another password.
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

from exporter.web.access.password_queue import PasswordQueue

_HEADER_LIMIT: Final = 4096
_COST: Final = slice(4, 6)


class AuthResult(Enum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    """No user name and password, or wrong ones."""
    TOO_MANY_WAIT = "too many wait"
    """Not compared: too many passwords wait, most of them from this address."""


class UserPassword(NamedTuple):
    user: bytes
    password: bytes


def parse_basic(header: str) -> UserPassword | None:
    """From an Authorization header; ``None`` when that is empty or of another kind."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _HEADER_LIMIT:
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return UserPassword(user, password) if colon else None


class BasicAuth:
    """Checks user names and passwords, and remembers the right ones."""

    def __init__(self, queue: PasswordQueue | None = None) -> None:
        self.queue = queue or PasswordQueue()
        self._key = secrets.token_bytes(32)
        self.accepted: dict[bytes, bytes] = {}
        """By user: digest of the name, the password and the hash that it matched."""

    def known_user(self, users: Mapping[bytes, bytes], header: str) -> bytes | None:
        """The user, if this password was accepted before and the user's hash is still the same."""
        given = parse_basic(header)
        return given.user if given is not None and self._is_accepted(users, given) else None

    async def check(self, users: Mapping[bytes, bytes], header: str, client: str) -> AuthResult:
        """``users``: bcrypt hash by name. ``client`` is the address that asks."""
        given = parse_basic(header)
        if given is None:
            return AuthResult.REFUSED
        if self._is_accepted(users, given):
            return AuthResult.ACCEPTED
        hashed = users.get(given.user)
        matches = await self.queue.matches(
            self.digest(client.encode(), *given, hashed or b""),
            client=client,
            user=self.digest(given.user),
            password=given.password,
            hashed=hashed or self.decoy_hash(users, given.user),
        )
        if matches is None:
            return AuthResult.TOO_MANY_WAIT
        if not matches or hashed is None:
            return AuthResult.REFUSED
        self.accepted = {user: digest for user, digest in self.accepted.items() if user in users}
        self.accepted[given.user] = self.digest(*given, hashed)
        return AuthResult.ACCEPTED

    def _is_accepted(self, users: Mapping[bytes, bytes], given: UserPassword) -> bool:
        digest = self.digest(*given, users.get(given.user, b""))
        return hmac.compare_digest(digest, self.accepted.get(given.user, b""))

    def digest(self, *parts: bytes) -> bytes:
        """Of these parts and where each of them ends; another process gives another one."""
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def decoy_hash(self, users: Mapping[bytes, bytes], user: bytes) -> bytes:
        """A hash for a user that does not exist: always the same for a name, and as costly as a real one."""
        costs = sorted(hashed[_COST] for hashed in users.values())
        cost = costs[int.from_bytes(self.digest(user)[:8], "big") % len(costs)]
        return b"$2b$" + cost + b"$" + b"." * 53
