"""TLS settings -> an ``ssl.SSLContext``; connections that use it; which client certificates are allowed.

Knows Python's ``ssl``; must not know the file format beyond the places where a problem is to be noted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import ssl
import sys
import tempfile
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from exporter.config import Secret, YamlEntry
from exporter.process import exhausted

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


HELLO_BYTES: Final = 16 * 1024
"""Limit for a client's first message; browsers send 2,000. OpenSSL allocates as many as are announced."""
HANDSHAKE_BYTES: Final = 64 * 1024
"""Limit for all that a client sends until the handshake is done, its certificates included."""
_RECORD: Final = 5
"""Bytes of a TLS record's header. The message in it begins with four more: one of type, three of length."""
_HANDSHAKE: Final = 22
"""Type of a record that holds handshake messages."""

NETWORK: Final = "exporter.network"
"""Extra information of a TLS transport: the transport below it."""


class TlsSettings(msgspec.Struct, frozen=True):
    """Settings that are valid one by one; ``make_tls`` finds out whether OpenSSL can use them together."""

    entry: YamlEntry
    cert: str
    key: Secret
    files: tuple[Path, ...]
    verify: str
    client_ca: str
    allowed_sans: frozenset[str]
    min_version: str
    max_version: str
    cipher_suites: tuple[str, ...]
    """OpenSSL's names, for TLS 1.2."""
    prefer_server: bool
    curve: str | None


class Tls(msgspec.Struct, frozen=True):
    """What new connections are served with."""

    context: ssl.SSLContext
    allowed_sans: frozenset[str]
    """Empty: any client certificate that verifies."""

    def admits(self, certificate: Any) -> bool:  # noqa: ANN401  # ssl's own shape
        """Whether a verified certificate (as from ``SSLSocket.getpeercert``) names an allowed client."""
        if not self.allowed_sans:
            return True
        return any(
            _name(*entry) in self.allowed_sans for entry in (certificate or {}).get("subjectAltName", ())
        )


class TlsProtocol(SSLProtocol):
    """asyncio's TLS, but all connections read into one buffer, one TLS record at a time.

    asyncio's own takes 256 KiB for each connection.
    """

    max_size = 16 * 1024
    _shared_buffer = memoryview(bytearray(max_size))
    """OpenSSL copies what was read at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        tls: Tls,
        *,
        handshake_seconds: float,
        shutdown_seconds: float,
        on_connected: Callable[[asyncio.Transport], None],
        on_handshake_done: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """``on_connected`` is called before the handshake, with the transport below; ``on_handshake_done``
        when the handshake is over, ``on_lost`` when the connection is.
        """
        super().__init__(
            loop,
            protocol,
            tls.context,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=handshake_seconds,  # type: ignore[arg-type]  # any number does
            ssl_shutdown_timeout=shutdown_seconds,
        )
        self._ssl_buffer = self._ssl_buffer_view = self._shared_buffer
        self._on_connected = on_connected
        self._handshake_done: Callable[[], None] | None = on_handshake_done
        """None once the handshake is over."""
        self._on_lost = on_lost
        self._first = b""
        """The beginning of what the client sends."""
        self._received = 0
        """Bytes, until the handshake is over."""
        self._set_read_buffer_limits(high=self.max_size, low=0)  # type: ignore[attr-defined]  # not declared

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # TCP
        transport.set_write_buffer_limits(high=1, low=0)
        self._extra[NETWORK] = transport
        self._on_connected(transport)
        super().connection_made(transport)

    def buffer_updated(self, nbytes: int) -> None:
        if self._handshake_done is not None and not self._is_within_limits(nbytes):
            self._extra[NETWORK].abort()
        else:
            super().buffer_updated(nbytes)

    def _is_within_limits(self, nbytes: int) -> bool:
        """Whether OpenSSL may have what came during the handshake."""
        self._received += nbytes
        if len(self._first) < _RECORD + 4:
            self._first += bytes(self._shared_buffer[: min(nbytes, _RECORD + 4 - len(self._first))])
        return self._received <= HANDSHAKE_BYTES and announced(self._first) <= HELLO_BYTES

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        if (handshake_done := self._handshake_done) is not None:
            self._handshake_done = None
            handshake_done()
        super()._on_handshake_complete(handshake_exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._on_lost()
        # asyncio's attributes refer to the protocol, and the protocol to this: without a cut, that cycle
        # stays in memory until the garbage collector runs.
        self._app_protocol_get_buffer = self._app_protocol_buffer_updated = None
        self._extra.clear()


def announced(first: bytes) -> int:
    """The length that a handshake message announces; 0 while it is not known, ``sys.maxsize`` if bad."""
    if first and first[0] != _HANDSHAKE:
        return 0  # OpenSSL answers that with an alert
    if len(first) < _RECORD:
        return 0
    if int.from_bytes(first[3:_RECORD], "big") < 4:
        return sys.maxsize  # not even the message's own header in one record: no TLS library does so
    return int.from_bytes(first[_RECORD + 1 : _RECORD + 4], "big") if len(first) == _RECORD + 4 else 0


def make_tls(settings: TlsSettings) -> Tls | None:
    """The context; ``None`` after noting at the settings' place why OpenSSL cannot use them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if not settings.prefer_server:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.verify_mode = _VERIFY[settings.verify]
    try:
        if settings.cipher_suites:
            context.set_ciphers(":".join(settings.cipher_suites))
        if settings.curve is not None:
            context.set_ecdh_curve(settings.curve)
        if settings.client_ca:
            context.load_verify_locations(cadata=settings.client_ca)
    except (ssl.SSLError, ValueError):
        settings.entry.refuse("client_ca, cipher_suites or curve_preferences cannot be used by OpenSSL here")
        return None
    problem = _load_certificate(context, settings)
    if problem:
        settings.entry.refuse(problem)
        return None
    return Tls(context, settings.allowed_sans)


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> str:
    """What is wrong with certificate and key, or nothing. OpenSSL's own words may come from the file."""
    asked = []

    def passphrase() -> str:
        asked.append(True)
        return ""

    try:
        with _as_file(settings.cert) as cert, _as_file(settings.key.reveal()) as key:
            context.load_cert_chain(cert, key, password=passphrase)
    except ssl.SSLError as error:
        if asked:
            return "the private key is encrypted: remove its passphrase"
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the private key does not belong to the certificate"
        reason = (error.reason or "damaged").replace("_", " ").lower()
        return f"certificate or private key cannot be used: {reason}"
    except (OSError, ValueError) as error:
        missing = exhausted(error)
        return "certificate or private key cannot be used" + (f": {missing}" if missing else "")
    return ""


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """The path of a file with the text, in memory where possible. ``load_cert_chain`` takes only paths."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("pem")
        try:
            os.write(number, text.encode())
            yield f"/proc/self/fd/{number}"
        finally:
            os.close(number)
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:  # readable by its owner only
        file.write(text)
        file.flush()
        yield file.name


def _name(kind: str, value: str) -> str:
    """A subject alternative name as the format spells it."""
    if kind != "IP Address":
        return value
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError:
        return value
