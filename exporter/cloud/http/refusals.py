"""What a breaker remembers of one place, and the errors for requests that may not be sent there.

Plain values; which of them count, and for which requests, is decided in ``breaker.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from exporter.errors import ApiError, ErrorKind


class PlaceRecord(msgspec.Struct, frozen=True):
    """What the API said of credentials at one place, as a store may keep it: no secret in it."""

    fingerprint: str
    """Of the credentials."""
    until: float
    """Unix seconds; after that they may be tried again."""
    reason: str
    place: str = ""
    """Empty in what an older version stored: it counts, and concerns no place of today."""
    signatures: int = 1
    """That were refused here; 0 for a denial."""
    denied: bool = False
    """The credentials are good, but not allowed to do this: a matter of permissions."""
    accepted: bool = False
    """No refusal: the place accepts its credentials. Then neither fingerprint nor reason is kept."""
    settled: bool = False
    """Some place accepted the credentials afterwards: the refusal speaks of its own place alone."""
    clock: bool = False
    """All for their time: a matter of one process's clock, or of a false ``Date``, and not of the keys."""
    correctable: bool = False
    """A corrected clock may help, and no answer has said yet whether it does, or what the time is: the
    credentials may be tried at once."""


class PlaceRefusal(NamedTuple):
    """A record that stops something: a refusal or a denial, as long as it lasts."""

    record: PlaceRecord
    ends: float
    """As ``until``, on the monotonic clock: a step of the wall clock changes nothing."""
    number: int = 0
    """Of all refusals, in order of arrival."""

    @property
    def counts(self) -> bool:
        """Was a signature refused, and not only a permission?"""
        return self.record.signatures > 0


def refused_here(refusal: PlaceRefusal, now: float) -> ApiError:
    """The error for the place that refused; ``now`` is on the monotonic clock."""
    left, record = refusal.ends - now, refusal.record
    if record.denied:
        text = f"access is denied and asked for again in {left:.0f} s: {record.reason}"
    else:
        text = (
            f"credentials were refused and are not tried again for {left:.0f} s or until they change: "
            f"{record.reason}"
        )
    return ApiError(ErrorKind.AUTH, text, denied=record.denied)


def refused_elsewhere(reason: str, left: float) -> ApiError:
    """The error for a place that has no trial left for so many seconds, though it did not refuse itself."""
    text = (
        "credentials were refused for other targets and, so that they are not locked, are not tried "
        f"for this one for {left:.0f} s or until they change: {reason}"
    )
    return ApiError(ErrorKind.AUTH, text)
