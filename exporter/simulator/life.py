"""Jobs of an ordinary day: how many of which type, how long they take, how they fail.

Pure: the random generator is an argument. The weights are guesses of a plausible tenant; the values of
``job_type`` and ``tts_service_enum`` are the documented ones (ShowTtsJob page).
"""

from __future__ import annotations

import hashlib
import math
import random
from typing import Final, NamedTuple

SERVICES: Final = {
    "TTS_LLM": 34,
    "TTS_LLM_VC": 14,
    "TTS_LAB": 16,
    "TTS_LAB_GPU": 9,
    "GPU_CLONE": 19,
    "TTS_LLM_VQ": 8,
}
"""Documented values, with how often each is used, in percent."""

VOICES_PER_SERVICE: Final = 4


class JobProfile(NamedTuple):
    """What jobs of one type usually are like."""

    job_type: str
    weight: int
    """Percent of all jobs."""
    median_length: float
    spread: float
    """Sigma of the log-normal text length."""
    wait: float
    """Mean seconds before work begins."""
    base: float
    """Seconds of work whatever the length."""
    speed: float
    """Characters synthesised per second."""
    fail_share: float
    fail_kinds: tuple[tuple[str, int], ...]
    """Kinds of failure with their weights."""


_TEXT = (("sensitive_content", 22), ("text_unsupported", 12), ("text_too_long", 8), ("bad_request", 4))
_SERVICE = (("internal", 16), ("timeout", 9), ("throttled", 8), ("unclassifiable", 4), ("empty", 3))
_OWNER = (("voice_asset", 9), ("billing_quota", 4))

PROFILES: Final = (
    JobProfile(
        "ASYNC_JOB", 42, 620.0, 1.05, 2.5, 3.0, 90.0, 0.030, (*_TEXT, *_SERVICE, *_OWNER, ("storage", 7))
    ),
    JobProfile(
        "WEBSOCKET", 41, 46.0, 0.85, 0.3, 0.8, 60.0, 0.022, (*_SERVICE, ("disconnected", 30), ("auth", 4))
    ),
    JobProfile("AUDITION", 12, 80.0, 0.60, 0.8, 1.5, 70.0, 0.035, (*_TEXT, *_SERVICE, *_OWNER)),
    JobProfile("PRELOAD", 5, 24.0, 0.50, 0.4, 1.0, 80.0, 0.010, (*_SERVICE, ("disconnected", 4))),
)

PROFILE_TABLE: Final = tuple(profile for profile in PROFILES for _ in range(profile.weight))
SERVICE_TABLE: Final = tuple(name for name, weight in SERVICES.items() for _ in range(weight))
KIND_TABLES: Final = {
    profile.job_type: tuple(kind for kind, weight in profile.fail_kinds for _ in range(weight))
    for profile in PROFILES
}
_AT_ONCE: Final = frozenset(
    {"sensitive_content", "text_unsupported", "text_too_long", "bad_request", "billing_quota", "voice_asset"}
)
"""These jobs fail at once, not after the work."""


def rhythm(at: float, amplitude: float) -> float:
    """Busyness around its mean 1: highest at 15:00, lowest at 03:00, Chinese time."""
    hour = (at / 3600.0 + 8.0) % 24.0
    return 1.0 + amplitude * math.cos((hour - 15.0) * math.pi / 12.0)


def poisson(mean: float, rng: random.Random) -> int:
    """How many arrive when ``mean`` are expected."""
    if mean > 30.0:  # near enough to normal, and no longer linear in the mean
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    count, product, floor = 0, rng.random(), math.exp(-mean)
    while product > floor:
        count += 1
        product *= rng.random()
    return count


def text_length(profile: JobProfile, rng: random.Random) -> int:
    """Characters: log-normal, held to the documented 1 to 10,000."""
    return min(10_000, max(1, int(profile.median_length * math.exp(rng.gauss(0.0, profile.spread)))))


def work_seconds(profile: JobProfile, length: int, rng: random.Random) -> float:
    """Seconds of work: grows with the length, varies, and one job in a hundred takes ten times as long."""
    seconds = (profile.base + length / profile.speed) * math.exp(rng.gauss(0.0, 0.35))
    return seconds * 10.0 if rng.random() < 0.01 else seconds


def failed_work_seconds(kind: str, seconds: float, rng: random.Random) -> float:
    """A text that is refused fails at once; a timeout takes longer than success would have."""
    if kind in _AT_ONCE:
        return 0.2 + rng.random()
    return seconds * 4.0 + 30.0 if kind == "timeout" else seconds * (0.3 + rng.random())


def voices(seed: str) -> dict[str, tuple[str, ...]]:
    """The tenant's voice assets by service: 32-digit hex ids, as the API writes them."""
    return {
        name: tuple(
            hashlib.sha256(f"{seed}/{name}/{number}".encode()).hexdigest()[:32]
            for number in range(VOICES_PER_SERVICE)
        )
        for name in SERVICES
    }
