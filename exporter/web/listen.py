"""``--web.listen-address`` values -> listening sockets.

Knows addresses and sockets, and has one clear line for whatever can be wrong with them; must not know HTTP.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import NoReturn

from exporter.config import hosts
from exporter.errors import ExporterError
from exporter.process import exhausted

BACKLOG = 4096
"""Connections that may wait to be accepted; the system allows ``net.core.somaxconn`` at most. When more come,
the system ignores them, and their clients try again after one second."""

UNSENT_BYTES = 128 * 1024
"""How much of a response the kernel takes without sending it: the memory that a slow reader costs there."""

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that uses it, choose another port, or give it only once",
    errno.EACCES: "choose a port from 1024 up",
    errno.EADDRNOTAVAIL: "this machine has no such address; use :PORT for all of them",
}


def listen(addresses: Sequence[str]) -> list[socket.socket]:
    """One listening socket per address; none at all if one fails. Raises ExporterError."""
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sock = _listen(address)
            sockets.append(sock)
            # Accepted connections inherit these options. asyncio sets TCP_NODELAY only on sockets that it
            # made itself; without it the second half of a response waits 40 ms for the first to be
            # acknowledged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    except ExporterError:
        close(sockets)
        raise
    return sockets


def close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def url(sock: socket.socket, scheme: str = "http") -> str:
    """Where a browser on this machine finds this socket."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared with, not bound to
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _listen(address: str) -> socket.socket:
    try:
        host, port = hosts.listen_address(address)
    except ValueError as error:
        raise ExporterError(f"--web.listen-address {address!r}: {error}") from None
    try:
        if not host:
            return _listen_everywhere(port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, place = min(found, key=lambda info: info[0] != socket.AF_INET)
        return socket.create_server(place, family=family, backlog=BACKLOG)
    except (socket.gaierror, UnicodeError) as error:
        raise ExporterError(
            f"--web.listen-address {address}: cannot resolve the host; use an address of this machine, "
            "or :PORT for all of them"
        ) from error
    except OSError as error:
        _refuse(address, error)


def _listen_everywhere(port: int) -> socket.socket:
    """IPv6 and IPv4 on one socket where the system can."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)  # noqa: S104  # asked for


def _refuse(address: str, error: OSError) -> NoReturn:
    number = error.errno or 0
    reason = exhausted(error) or os.strerror(number).lower()
    remedy = _REMEDIES.get(number)
    raise ExporterError(
        f"--web.listen-address {address}: {reason}" + (f"; {remedy}" if remedy else "")
    ) from error
