"""What counts as one client, for limits and queues.

Knows addresses only. One machine has a whole /64 network of IPv6 addresses to itself, but one IPv4 address.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1024)
def client_of(host: str) -> str:
    """The IPv4 address, also of an IPv4-mapped one (``::ffff:192.0.2.1``); the /64 network of an IPv6
    address.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
