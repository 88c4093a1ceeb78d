"""``healthcheck`` against servers that answer well, badly, encrypted, and not at all; loopback only."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from exporter.cli import main
from exporter.commands.healthcheck import HEALTHY_PATH, HealthUrl, healthcheck, of_listen_address, of_url
from exporter.errors import ExporterError
from exporter.web import lifecycle
from testkit.processes import free_port
from tests.paths import TESTS

CERTIFICATE = TESTS / "cloud" / "untrusted.pem"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhealthy\n"


def answer(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()


def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def mutual(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = self_signed()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(CERTIFICATE)
    return context


class FixedReplyServer(threading.Thread):
    """Gives every client the same bytes; without any it accepts and keeps silent until the end."""

    def __init__(self, reply: bytes | None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(daemon=True)
        self.received: list[bytes] = []
        self._reply, self._tls = reply, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._silent: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed: the end
            while True:
                self._serve(self._listener.accept()[0])

    def _serve(self, connection: socket.socket) -> None:
        if self._reply is None:
            self._silent.append(connection)
            return
        with connection, contextlib.suppress(OSError):  # a client that turns away is what is tested
            connection.settimeout(5)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self.received.append(connection.recv(4096))
            connection.sendall(self._reply)
            connection.close()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(5)
        for connection in self._silent:
            connection.close()


@contextlib.contextmanager
def serving(reply: bytes | None, tls: ssl.SSLContext | None = None) -> Iterator[FixedReplyServer]:
    server = FixedReplyServer(reply, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(port: int, scheme: str = "", timeout: float = 5.0) -> str:
    """What it prints; raises ExporterError with what it would print as an error."""
    out = io.StringIO()
    assert healthcheck(HealthUrl(scheme, "127.0.0.1", port), out=out, timeout=timeout) == 0
    return out.getvalue()


TLS = {
    "plain": None,
    "self-signed": self_signed(),
    "client-certificates-1.2": mutual(ssl.TLSVersion.TLSv1_2),
    "client-certificates-1.3": mutual(ssl.TLSVersion.TLSv1_3),
}


@pytest.mark.parametrize("tls", TLS.values(), ids=list(TLS))
def test_whoever_answers_is_healthy(tls: ssl.SSLContext | None) -> None:
    """In the clear or encrypted, also where we are asked for a certificate that we do not have."""
    with serving(GOOD, tls) as server:
        assert ask(server.port) == "healthy\n"


def test_it_asks_for_the_health() -> None:
    """One plain request, without credentials."""
    with serving(GOOD) as server:
        ask(server.port)
        head = server.received[0].decode()
    assert head.startswith("GET /-/healthy HTTP/1.1\r\n")
    assert "authorization" not in head.lower()
    assert HEALTHY_PATH == lifecycle.HEALTHY_PATH


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests"])
def test_a_refusal_is_a_sign_of_life(status: str) -> None:
    """A password may be asked for, or patience: what matters is that somebody asks."""
    with serving(answer(status)) as server:
        assert ask(server.port) == "healthy\n"


@pytest.mark.parametrize(
    ("reply", "tls", "scheme", "reason"),
    [
        (answer("404 Not Found"), None, "", "HTTP 404 instead of 200"),
        (answer("503 Service Unavailable"), None, "", "HTTP 503 instead of 200"),
        (answer("302 Found"), None, "", "HTTP 302 instead of 200"),
        (b"220 mail.example.com ESMTP\r\n", None, "", "does not speak HTTP or HTTPS"),
        (b"", None, "", "does not speak HTTP or HTTPS"),
        (GOOD, None, "https", "does not speak https"),
        (GOOD, self_signed(), "http", "does not speak http"),
        (None, None, "", "no answer within 0.3 seconds"),
    ],
    ids=["404", "503", "redirect", "mail", "closes", "plain-for-https", "tls-for-http", "silent"],
)
def test_what_is_not_well(reply: bytes | None, tls: ssl.SSLContext | None, scheme: str, reason: str) -> None:
    """One line that says what was found instead."""
    with serving(reply, tls) as server, pytest.raises(ExporterError) as caught:
        ask(server.port, scheme, timeout=0.3 if reply is None else 5.0)
    assert reason in str(caught.value)
    assert f"127.0.0.1:{server.port}/-/healthy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_listens() -> None:
    """Connection refused, and what to look at."""
    with pytest.raises(ExporterError, match=r"connection refused; is the exporter running"):
        ask(free_port())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":10047", "http(s)://127.0.0.1:10047/-/healthy"),
        ("0.0.0.0:1", "http(s)://127.0.0.1:1/-/healthy"),
        ("[::]:1", "http(s)://127.0.0.1:1/-/healthy"),
        ("*:1", "http(s)://127.0.0.1:1/-/healthy"),
        ("[0:0::0]:1", "http(s)://127.0.0.1:1/-/healthy"),
        ("[::1]:1", "http(s)://[::1]:1/-/healthy"),
        ("exporter.example.com:1", "http(s)://exporter.example.com:1/-/healthy"),
    ],
)
def test_where_a_listening_exporter_is_found(text: str, expected: str) -> None:
    """Every address is reached as loopback, a certain one as itself."""
    assert str(of_listen_address(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://localhost:10047", "http://localhost:10047/-/healthy"),
        ("https://localhost", "https://localhost:443/-/healthy"),
        ("http://[::1]:1/", "http://[::1]:1/-/healthy"),
        ("http://localhost/-/ready", "http://localhost:80/-/ready"),
    ],
)
def test_a_url_may_leave_things_out(text: str, expected: str) -> None:
    """The port is the scheme's, the path that of the health."""
    assert str(of_url(text)) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "localhost:10047"],
        ["--url", "ftp://localhost"],
        ["--url", "http://"],
        ["--url", "http://localhost:99999"],
        ["--url", "http://[::1"],
        ["--url", "http://user:hunter2@localhost"],
        ["--url", "http://localhost/a b"],
        ["--url", "http://localhost/a\r\nHost: b"],
        ["--web.listen-address", "nowhere"],
        ["--web.listen-address", ":0"],
        ["--web.listen-address", ":65536"],
    ],
    ids=repr,
)
def test_an_address_that_cannot_be_asked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the flag, and no password in it."""
    assert main(["healthcheck", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"metastudio-tts-exporter: {arguments[0]}" in said
    assert "hunter2" not in said


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 while somebody answers, 1 afterwards; the address by either flag."""
    with serving(GOOD) as server:
        assert main(["healthcheck", f"--web.listen-address=127.0.0.1:{server.port}"]) == 0
        assert main(["healthcheck", "--url", f"http://127.0.0.1:{server.port}"]) == 0
        assert capsys.readouterr().out == "healthy\nhealthy\n"
    assert main(["healthcheck", f"--web.listen-address=127.0.0.1:{server.port}"]) == 1
    assert "connection refused" in capsys.readouterr().err
