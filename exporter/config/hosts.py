"""What a host name means, without a name lookup: an address, this machine, or all its addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Final, NamedTuple

_LISTEN: Final = re.compile(
    r"(?:\[(?P<literal>[0-9A-Fa-f:.%a-z]+)\]|(?P<host>[^\[\]:/@\s]*)):(?P<port>[0-9]{1,5})"
)

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


class ListenAddress(NamedTuple):
    """What ``--web.listen-address`` says."""

    host: str
    """A name or an address of this machine; empty: every address, IPv4 and IPv6."""
    port: int

    @property
    def is_everywhere(self) -> bool:
        """Whether it stands for every address of the machine, or for every one of IPv4."""
        found = address(self.host)
        return not self.host or (found is not None and found.is_unspecified)


def listen_address(text: str) -> ListenAddress:
    """Raises ValueError. As in Go, ``[::]`` means all of IPv4 as well, in any spelling."""
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("must be HOST:PORT, such as :10047, 127.0.0.1:10047 or [::1]:10047")
    host: str = match["literal"] or match["host"]
    found = address(host)
    everywhere = host == "*" or (found is not None and found.version == 6 and found.is_unspecified)
    return ListenAddress("" if everywhere else host, int(match["port"]))
