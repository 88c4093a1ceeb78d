"""For how long the machine runs. Must not know what that is asked for."""

from __future__ import annotations

import functools
import time
import uuid
from pathlib import Path
from typing import Final

from exporter.ledger import Uptime

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def uptime(boot_id: Path = BOOT_ID) -> Uptime:
    """Of the machine, suspensions included. Where the system tells no boot from another: of the process."""
    if boot := _boot(boot_id):
        return Uptime(boot, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)
    return Uptime(_process(), time.monotonic_ns() // 1_000_000)


@functools.cache
def _boot(boot_id: Path) -> str:
    try:
        return boot_id.read_text("ascii").strip() if hasattr(time, "CLOCK_BOOTTIME") else ""
    except (OSError, ValueError):
        return ""


@functools.cache
def _process() -> str:
    return uuid.uuid4().hex
