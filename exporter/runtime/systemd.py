"""Tells systemd how the program is: ready, reloading, stopping (``Type=notify`` or ``notify-reload``).

Knows the socket that ``NOTIFY_SOCKET`` names and what is written to it; nothing happens without one.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def notify(environ: Mapping[str, str], *states: str) -> None:
    """Send these states as one message. What systemd does not hear does not stop the program."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.sendto("\n".join(states).encode(), address)


def reloading(environ: Mapping[str, str], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
    """A reload begins; send ``READY`` when it is over. systemd compares the time with that of its signal."""
    notify(environ, "RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")
