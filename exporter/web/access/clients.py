"""Who a client is: the network address that limits and queues go by.

Knows addresses only. One machine commands a whole /64 of IPv6 addresses, but one of IPv4.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1024)
def client_of(host: str) -> str:
    """The address, or its /64 network for IPv6; an IPv4 address in IPv6's clothes is the IPv4 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
