"""``healthcheck``: does the exporter on this machine answer? For images and units that ship no curl.

Asks ``/-/healthy`` and needs to know neither the web configuration nor its secrets. Must not import the
application, its server or its client: it runs every few seconds, so it has to start fast.
"""

from __future__ import annotations

import http.client
import ssl
from typing import Final, NamedTuple, TextIO
from urllib.parse import urlsplit

from exporter.config import hosts
from exporter.errors import ExporterError
from exporter.process import exhausted

HEALTHY_PATH: Final = "/-/healthy"
TIMEOUT_SECONDS: Final = 4.0
"""Less than what container engines are told to wait, so that our own line is what they log."""

_REFUSED: Final = 401
_ALIVE: Final = (200, _REFUSED, 429)
"""It may want a password that we do not have, or fewer requests: only a program that can serve says so."""
_REMEDY: Final = "is the exporter running, and on this address?"


class HealthUrl(NamedTuple):
    """Where to ask."""

    scheme: str
    """``http``, ``https``, or empty: try the one, then the other."""
    host: str
    port: int
    path: str = HEALTHY_PATH

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme or 'http(s)'}://{host}:{self.port}{self.path}"


class _OtherProtocolError(Exception):
    """Somebody listens there, but does not speak this protocol."""


def healthcheck(address: HealthUrl, *, out: TextIO, timeout: float = TIMEOUT_SECONDS) -> int:
    """0 when the exporter answers. Raises ExporterError when it does not."""
    for scheme in (address.scheme,) if address.scheme else ("http", "https"):
        try:
            status = _status(address._replace(scheme=scheme), timeout)
        except _OtherProtocolError:
            continue
        except TimeoutError as error:
            raise ExporterError(f"{address}: no answer within {timeout:g} seconds") from error
        except OSError as error:
            reason = exhausted(error) or (error.strerror or type(error).__name__).lower()
            raise ExporterError(f"{address}: {reason}; {_REMEDY}") from error
        if status not in _ALIVE:
            raise ExporterError(f"{address}: HTTP {status} instead of 200; {_REMEDY}")
        out.write("healthy\n")
        return 0
    raise ExporterError(f"{address}: what answers there does not speak {address.scheme or 'HTTP or HTTPS'}")


def of_url(url: str) -> HealthUrl:
    """``--url``: a path may be left out. Raises ExporterError."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ExporterError("--url: must be http://HOST:PORT or https://HOST:PORT, without a user name")
    if not all(33 <= ord(character) < 127 for character in url):
        raise ExporterError("--url: has characters that a URL cannot have")
    path = parts.path if parts.path not in ("", "/") else HEALTHY_PATH
    return HealthUrl(parts.scheme, parts.hostname, port, path)


def of_listen_address(address: str) -> HealthUrl:
    """A ``--web.listen-address`` as a client on the same machine reaches it. Raises ExporterError."""
    try:
        listening = hosts.listen_address(address)
    except ValueError as error:
        raise ExporterError(f"--web.listen-address {address!r}: {error}") from None
    if listening.port == 0:
        raise ExporterError(f"--web.listen-address {address!r}: must name the port that it listens on, not 0")
    # Not "localhost": a container without /etc/hosts does not know it.
    return HealthUrl("", "127.0.0.1" if listening.is_everywhere else listening.host, listening.port)


def _status(address: HealthUrl, timeout: float) -> int:
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        connection = http.client.HTTPSConnection(
            address.host, address.port, timeout=timeout, context=_unverified()
        )
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    connected = False
    try:
        connection.connect()
        connected = True
        connection.request("GET", address.path, headers={"Connection": "close"})
        return connection.getresponse().status
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError) as error:
        # It speaks TLS, but not with us: it wants a certificate. With TLS 1.3 it says so, or only hangs up,
        # after the handshake.
        if address.scheme == "https" and (connected or "_ALERT_" in (getattr(error, "reason", None) or "")):
            return _REFUSED
        raise _OtherProtocolError from error
    except http.client.HTTPException as error:
        raise _OtherProtocolError from error
    finally:
        connection.close()


def _unverified() -> ssl.SSLContext:
    """The certificate is made for another name than localhost, and there is nothing to protect: no secret is
    sent, and whoever could answer in the exporter's place holds its address already.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
