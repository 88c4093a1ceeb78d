"""What can go wrong with a request, as data, and which of it goes wrong now. ``gateway.py`` carries it out.

A fault fires with its probability, within its time, for its operation, a number of times. Pure: no I/O; the
random generator and ``now`` (seconds since 1970 UTC, the simulator's clock) are arguments.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Literal

import msgspec

Kind = Literal[
    # instead of the answer
    "throttle",  # 429 APIG.0308; retry_after
    "rate_limit",  # the same once more than `limit` requests came within `window` seconds
    "error",  # status, code, message as JSON
    "html",  # status with a web page
    "error_200",  # 200 with an error object
    "empty",  # 200 {"count":0,"data":[]}
    "empty_body",  # 200 and nothing
    "redirect",  # 302 to location
    "hang",  # no answer until the client goes away
    "reset",  # the connection is reset
    # to the answer
    "slow",  # delay seconds before it
    "drip",  # the body in ten pieces over delay seconds
    "cut",  # content-length says more than is sent
    "cut_chunked",  # chunked, and never ended
    "invalid_json",  # cut, with a content-length that fits
    "null_data",  # {"count":n,"data":null}
    "gzip",  # compressed, asked or not
    "huge",  # size bytes of padding inside
    # to the list, after a page of it was answered
    "vanish",  # a record just served is deleted
    "appear",  # a record is listed late, next to one just served
    "drift",  # one of the two
    "regress",  # a record just served as finished is shown as PROCESSING from now on
    "relabel",  # a record just served as unfinished is shown with another tts_service_enum from now on
    # to the Date header
    "date_skew",  # off by seconds
    "date_frozen",  # cached by a gateway since the fault began; age adds an Age header
    "date_missing",
    "date_text",  # message instead of a date
]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong, and when."""

    kind: Kind
    probability: float = 1.0
    operation: str = "*"
    """``list_jobs``, ``get_job`` (a list by id), ``create_token``, ``get_project``, ``get_credentials``."""
    start: float | None = None
    """Seconds since 1970; ``None``: when it is added."""
    duration: float | None = None
    """Seconds; ``None``: until removed."""
    times: int | None = None
    """How often it fires at most."""
    status: int = 503
    code: str = "APIG.0201"
    message: str = "Backend unavailable"
    retry_after: float | None = None
    retry_after_date: bool = False
    """Write Retry-After as a date instead of seconds."""
    delay: float = 1.0
    """Seconds of real time."""
    at: float = 0.5
    """Where a body is cut, as a share of it."""
    limit: int = 20
    window: float = 1.0
    location: str = "https://elsewhere.invalid/"
    seconds: float = 60.0
    """Skew of the date; or how old a record may be to get a late neighbour."""
    size: int = 65 << 20
    age: bool = False
    open_too: bool = False
    """Unfinished jobs vanish, too."""

    def active(self, now: float) -> bool:
        """Whether ``now`` is within its time."""
        if self.start is None or now < self.start:
            return False
        return self.duration is None or now < self.start + self.duration


class Faults:
    """Every fault there is at the moment."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._faults: dict[int, Fault] = {}
        self._seen: dict[int, deque[float]] = {}
        self._last_id = 0

    def items(self) -> list[tuple[int, Fault]]:
        """Every fault with its id."""
        return list(self._faults.items())

    def add(self, fault: Fault, now: float) -> int:
        """Add it; returns the id to remove it by."""
        if fault.start is None:
            fault.start = now
        self._last_id += 1
        self._faults[self._last_id] = fault
        return self._last_id

    def remove(self, fault_id: int) -> None:
        """Remove it, if it is still there."""
        self._faults.pop(fault_id, None)
        self._seen.pop(fault_id, None)

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()
        self._seen.clear()

    def firing(self, operation: str, now: float) -> list[Fault]:
        """The faults that happen to this request, in the order in which they were added."""
        fired = []
        for fault_id, fault in self.items():
            if fault.duration is not None and now >= (fault.start or 0.0) + fault.duration:
                self.remove(fault_id)
            elif self._fires(fault_id, fault, operation, now):
                fired.append(fault)
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.remove(fault_id)
        return fired

    def _fires(self, fault_id: int, fault: Fault, operation: str, now: float) -> bool:
        if not fault.active(now) or fault.operation not in ("*", operation):
            return False
        if fault.kind == "rate_limit" and not self._over_limit(fault_id, fault, now):
            return False
        return fault.probability >= 1.0 or self._rng.random() < fault.probability

    def _over_limit(self, fault_id: int, fault: Fault, now: float) -> bool:
        seen = self._seen.setdefault(fault_id, deque())
        while seen and seen[0] <= now - fault.window:
            seen.popleft()
        if len(seen) >= fault.limit:
            return True
        seen.append(now)
        return False
