"""Passwords that wait to be compared with bcrypt hashes: a bounded queue that no client can fill for others.

Knows addresses, user names and who failed when; must not know which users exist, so that the time of an
answer does not depend on it.

A comparison takes about 50 ms of a core, on purpose: it is easy to ask for more of them than can be made. So
the next password to compare is, in this order:

1. of the address whose last wrong password is the longest ago; a Prometheus with the right one never had any;
2. within an address (a proxy, a NAT), of the user name whose last wrong password is the longest ago;
3. among equals the newest, as its client is still waiting; every fourth time a random one, so that newer ones
   cannot keep a password waiting for ever.

Every other time it is simply the newest of all, because a Prometheus may share its address with somebody who
guesses passwords.

A password whose client has gone is compared all the same: when Prometheus asks again, it is accepted at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Final, NamedTuple

from exporter.bounded import BoundedDict

PASSWORD_LIMIT: Final = 72
"""Bytes that bcrypt uses."""
WAITING_LIMIT: Final = 512
"""Passwords that may wait. With one more, the address that has the most loses one."""
WORKERS: Final = max(1, min(4, (os.cpu_count() or 1) - 1))
"""Comparisons at a time: one core is left to clients that have been accepted."""
_RANDOM_EVERY: Final = 4
_KEPT_KEYS: Final = 4096

Compare = Callable[[bytes, bytes, Callable[[bool], None]], None]
"""Begins to compare a password with a hash, and reports the result to the event loop."""


class Attempt(NamedTuple):
    """A password that waits to be compared, or is being compared."""

    client: str
    user: bytes
    """A digest of the user name."""
    password: bytes
    hashed: bytes
    matches: asyncio.Future[bool | None]


class _LastFailures:
    """The latest failure of each key, as a number that grows with each failure; 0 for keys without one."""

    def __init__(self) -> None:
        self._failed = BoundedDict[Hashable, int](limit=_KEPT_KEYS)
        self._count = 0

    def add(self, key: Hashable) -> None:
        self._count += 1
        self._failed.remember(key, self._count)

    def __getitem__(self, key: Hashable) -> int:
        return self._failed.get(key, 0)


class PasswordQueue:
    """All comparisons of passwords in this process."""

    def __init__(
        self,
        *,
        workers: int = WORKERS,
        compare: Compare | None = None,
        choose: Callable[[Sequence[bytes]], bytes] = random.choice,
    ) -> None:
        self._workers = workers
        self._compare = compare or _compare_in_thread
        self._choose = choose
        self._waiting: dict[bytes, Attempt] = {}
        self._running: dict[bytes, Attempt] = {}
        self._clients, self._users = _LastFailures(), _LastFailures()
        self.compared = 0
        """How many were begun so far."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def matches(
        self, key: bytes, *, client: str, user: bytes, password: bytes, hashed: bytes
    ) -> bool | None:
        """Whether the password belongs to the hash; ``None`` when too many others wait.

        ``key`` is a digest of all the other arguments: equal requests at the same time share one comparison.
        """
        if self._closed:
            return None
        attempt = self._running.get(key) or self._waiting.get(key)
        if key in self._waiting:
            self._waiting[key] = self._waiting.pop(key)  # asked again: now it is the newest
        if attempt is None:
            future: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
            attempt = Attempt(client, user, password[: PASSWORD_LIMIT + 1], hashed, future)
            self._waiting[key] = attempt
            if len(self._waiting) > WAITING_LIMIT:
                self._refuse_one()
            self._begin()
        return await asyncio.shield(attempt.matches)

    def close(self) -> None:
        """Compare nothing more, and refuse whatever waits: the program is about to end."""
        self._closed = True
        for attempt in (*self._waiting.values(), *self._running.values()):
            if not attempt.matches.done():
                attempt.matches.set_result(None)
        self._waiting.clear()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            key = self._next()
            attempt = self._running[key] = self._waiting.pop(key)
            self.compared += 1
            try:
                self._compare(attempt.password, attempt.hashed, partial(self._end, key))
            except RuntimeError:  # no more threads
                self._running.pop(key).matches.set_result(None)

    def _end(self, key: bytes, matches: bool) -> None:
        attempt = self._running.pop(key)
        if not matches:
            self._clients.add(attempt.client)
            self._users.add((attempt.client, attempt.user))
        if not attempt.matches.done():
            attempt.matches.set_result(matches)
        self._begin()

    def _next(self) -> bytes:
        if self.compared % 2:
            return next(reversed(self._waiting))

        def last_failures(attempt: Attempt) -> tuple[int, int]:
            return self._clients[attempt.client], self._users[attempt.client, attempt.user]

        ranks = {key: last_failures(attempt) for key, attempt in self._waiting.items()}
        first = min(ranks.values())
        equals = [key for key in ranks if ranks[key] == first]
        return self._choose(equals) if self.compared % _RANDOM_EVERY == 0 else equals[-1]

    def _refuse_one(self) -> None:
        waiting = Counter(attempt.client for attempt in self._waiting.values())
        most = max(waiting.values())
        candidates = [key for key, attempt in self._waiting.items() if waiting[attempt.client] == most]
        self._waiting.pop(self._choose(candidates)).matches.set_result(None)


def _compare_in_thread(password: bytes, hashed: bytes, report: Callable[[bool], None]) -> None:
    """In a daemon thread, which delays no shutdown. bcrypt releases the interpreter lock meanwhile."""
    loop = asyncio.get_running_loop()

    def work() -> None:
        matches = _matches(password, hashed)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(report, matches)

    threading.Thread(target=work, name="bcrypt", daemon=True).start()


def _matches(password: bytes, hashed: bytes) -> bool:
    import bcrypt  # loaded by web/access/config.py, where there are users

    usable = len(password) <= PASSWORD_LIMIT and b"\0" not in password
    return bcrypt.checkpw(password if usable else b"", hashed) and usable
