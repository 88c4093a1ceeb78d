"""What the name of a host is, told without asking anybody: an address, or this machine."""

from __future__ import annotations

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address(host: str) -> Address | None:
    """The address that resolvers read in a text: ``127.1`` and ``::ffff:127.0.0.1`` are ``127.0.0.1``."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host)) if host.split() == [host] else None
        except (OSError, ValueError):  # ValueError: a NUL, no ASCII
            return None
    return getattr(found, "ipv4_mapped", None) or found


def is_loopback(host: str) -> bool:
    """Whether it is this machine, whatever a name server says."""
    found = address(host)
    return host.lower() in ("localhost", "localhost.") if found is None else found.is_loopback
