"""TLS on the real server over loopback: who can connect, with what, and what changes while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from exporter.web.access.reloader import WebConfigReloader
from exporter.web.server import Server
from testkit.certificates import Authority, Pair
from tests.web.test_server import ipv6, place, small

pytestmark = pytest.mark.program

OLD_SUITE = "ECDHE-ECDSA-AES128-GCM-SHA256"


def config(folder: Path, pair: Pair, *lines: str) -> Path:
    path = folder / "web.yml"
    extra = "".join(f"  {line}\n" for line in lines)
    text = f"tls_server_config:\n  cert_file: {pair.cert}\n  key_file: {pair.key}\n{extra}"
    new = folder / "web.new"
    new.write_text(text)
    os.replace(new, path)  # noqa: PTH105  # what such programs call
    return path


@contextlib.asynccontextmanager
async def serving(web_config: WebConfigReloader, *addresses: str) -> AsyncIterator[Server]:
    server, stop = Server(small, addresses or ("127.0.0.1:0",), web_config=web_config), asyncio.Event()
    async with asyncio.timeout(20):
        task = asyncio.create_task(server.serve(stop))
        try:
            yield server
        finally:
            stop.set()
            await task


async def get(server: Server, context: ssl.SSLContext) -> str:
    """A page, or the name of the error."""
    try:
        async with httpx.AsyncClient(verify=context) as client:
            return (await client.get(server.urls[0])).text
    except httpx.TransportError as error:
        return type(error).__name__


async def handshake(server: Server, context: ssl.SSLContext) -> ssl.SSLObject:
    reader, writer = await asyncio.open_connection(*place(server), ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert b"200 OK" in await reader.read()
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return found


def test_pages_are_served_over_tls(tmp_path: Path, authority: Authority, server_pair: Pair) -> None:
    """On every address, IPv6 too; over TLS 1.3; plain HTTP gets no answer from it."""
    web_config = WebConfigReloader(config(tmp_path, server_pair))

    async def run() -> None:
        addresses = ["127.0.0.1:0", "localhost:0", *(["[::1]:0"] if ipv6() else [])]
        async with serving(web_config, *addresses) as server:
            assert all(url.startswith("https://") for url in server.urls)
            async with httpx.AsyncClient(verify=authority.client_context()) as client:
                for url in server.urls:
                    assert (await client.get(url)).text == "ok\n"
            assert (await handshake(server, authority.client_context())).version() == "TLSv1.3"
            async with httpx.AsyncClient() as client:
                with pytest.raises(httpx.TransportError):
                    await client.get(server.urls[0].replace("https", "http"))

    asyncio.run(run())


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_both_kinds_of_keys_work(tmp_path: Path, authority: Authority, key: str) -> None:
    """Elliptic curves and RSA."""
    pair = authority.issue(f"kind-{key}", "IP:127.0.0.1", key=key)

    async def run() -> str:
        async with serving(WebConfigReloader(config(tmp_path, pair))) as server:
            return await get(server, authority.client_context())

    assert asyncio.run(run()) == "ok\n"


@pytest.mark.parametrize(
    ("lines", "client", "answer"),
    [
        (["min_version: TLS13"], ssl.TLSVersion.TLSv1_2, "ConnectError"),
        (["min_version: TLS13"], ssl.TLSVersion.TLSv1_3, "ok\n"),
        (["max_version: TLS12"], ssl.TLSVersion.TLSv1_2, "ok\n"),
        (["max_version: TLS12"], ssl.TLSVersion.TLSv1_3, "ConnectError"),
        ([], ssl.TLSVersion.TLSv1_2, "ok\n"),
    ],
    ids=["too-old", "new", "old", "too-new", "default"],
)
def test_versions_are_bounded(
    tmp_path: Path,
    authority: Authority,
    server_pair: Pair,
    lines: list[str],
    client: ssl.TLSVersion,
    answer: str,
) -> None:
    """``min_version`` and ``max_version`` are what is spoken."""
    context = authority.client_context()
    context.minimum_version = context.maximum_version = client

    async def run() -> str:
        async with serving(WebConfigReloader(config(tmp_path, server_pair, *lines))) as server:
            return await get(server, context)

    assert asyncio.run(run()) == answer


def test_suites_and_their_order_are_the_servers(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """The file's order decides, or with ``prefer_server_cipher_suites: false`` the client's; no others."""
    suites = (
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"
    )
    context = authority.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{OLD_SUITE}:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305")

    async def suite(*lines: str) -> str:
        async with serving(WebConfigReloader(config(tmp_path, server_pair, *lines))) as server:
            cipher = (await handshake(server, context)).cipher()
            return cipher[0] if cipher else ""

    assert asyncio.run(suite(suites)) == "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert asyncio.run(suite(suites, "prefer_server_cipher_suites: false")) == OLD_SUITE
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    with pytest.raises(OSError):  # noqa: PT011  # whichever way the handshake fails
        asyncio.run(suite(suites))


@pytest.mark.parametrize(
    ("curve", "answer"), [("CurveP384", "ConnectError"), ("CurveP256", "ok\n")], ids=["other", "same"]
)
def test_the_curve_is_the_servers(
    tmp_path: Path, authority: Authority, server_pair: Pair, curve: str, answer: str
) -> None:
    """Also in TLS 1.3: a client that offers another one only cannot connect."""
    context = authority.client_context()
    context.set_ecdh_curve("prime256v1")

    async def run() -> str:
        async with serving(
            WebConfigReloader(config(tmp_path, server_pair, f"curve_preferences: [{curve}]"))
        ) as server:
            return await get(server, context)

    assert asyncio.run(run()) == answer


CLIENTS = {
    "none": None,
    "named": "DNS:monitoring.example.org",
    "address": "IP:2001:db8::1",
    "mail": "email:ops@example.org",
    "uri": "URI:spiffe://example.org/prometheus",
    "other": "DNS:other.example.org",
}
ALLOWED = "[monitoring.example.org, '2001:db8::1', ops@example.org, 'spiffe://example.org/prometheus']"


@pytest.fixture(scope="module")
def clients(authority: Authority) -> dict[str, Pair | None]:
    """A certificate for each kind of name, and none."""
    return {
        who: authority.issue(f"client-{who}", names, "clientAuth") if names is not None else None
        for who, names in CLIENTS.items()
    }


@pytest.mark.parametrize(
    ("policy", "sans", "welcome"),
    [
        ("RequireAndVerifyClientCert", "", {"named", "address", "mail", "uri", "other"}),
        ("RequireAndVerifyClientCert", ALLOWED, {"named", "address", "mail", "uri"}),
        ("VerifyClientCertIfGiven", "", set(CLIENTS)),
        ("NoClientCert", "", set(CLIENTS)),
    ],
    ids=["required", "named-only", "if-given", "none"],
)
def test_clients_show_who_they_are(
    tmp_path: Path,
    authority: Authority,
    server_pair: Pair,
    clients: dict[str, Pair | None],
    policy: str,
    sans: str,
    welcome: set[str],
) -> None:
    """Certificates of the authority open, with one of the allowed names where there are any."""
    lines = [f"client_auth_type: {policy}"]
    if policy != "NoClientCert":
        lines.append(f"client_ca_file: {authority.pair.cert}")
    if sans:
        lines.append(f"client_allowed_sans: {sans}")

    async def run() -> set[tuple[str, str]]:
        answered = set()
        async with serving(WebConfigReloader(config(tmp_path, server_pair, *lines))) as server:
            for who, pair in clients.items():
                for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                    context = authority.client_context(pair)
                    context.maximum_version = version
                    if await get(server, context) == "ok\n":
                        answered.add((who, version.name))
        return answered

    assert asyncio.run(run()) == {(who, version) for who in welcome for version in ("TLSv1_2", "TLSv1_3")}


@pytest.mark.parametrize("policy", ["RequireAndVerifyClientCert", "VerifyClientCertIfGiven"])
@pytest.mark.parametrize("usage", ["clientAuth", "serverAuth"], ids=["stranger", "not-for-clients"])
def test_certificates_that_do_not_verify_open_nothing(
    tmp_path: Path, authority: Authority, server_pair: Pair, tool: object, policy: str, usage: str
) -> None:
    """Those of another authority of the same name, and those that are not meant for clients."""
    signer = authority
    if usage == "clientAuth":
        folder = tmp_path / "stranger"
        folder.mkdir()
        signer = Authority(authority.openssl, folder)
    context = authority.client_context(signer.issue(f"bad-{usage}-{policy}", "DNS:a", usage))
    lines = [f"client_auth_type: {policy}", f"client_ca_file: {authority.pair.cert}"]

    async def run() -> str:
        async with serving(WebConfigReloader(config(tmp_path, server_pair, *lines))) as server:
            return await get(server, context)

    assert asyncio.run(run()) in ("ConnectError", "ReadError", "RemoteProtocolError")


def test_changes_reach_new_connections_and_spare_open_ones(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """A new certificate, a new authority for clients, TLS off: without a restart, and nobody is cut off."""
    renewed = authority.issue("renewed-live", "DNS:localhost,IP:127.0.0.1")
    client = authority.issue("client-live", "DNS:a", "clientAuth")
    web_config = WebConfigReloader(config(tmp_path, server_pair))

    def take() -> None:
        web_config.check()
        web_config.check()

    async def run() -> None:
        async with (
            serving(web_config) as server,
            httpx.AsyncClient(verify=authority.client_context()) as early,
        ):
            assert (await early.get(server.urls[0])).text == "ok\n"
            first = (await handshake(server, authority.client_context())).getpeercert()
            config(tmp_path, renewed, "client_auth_type: RequireAndVerifyClientCert",
                   f"client_ca_file: {authority.pair.cert}")  # fmt: skip
            take()
            assert (await early.get(server.urls[0])).text == "ok\n"
            assert await get(server, authority.client_context()) != "ok\n"
            second = (await handshake(server, authority.client_context(client))).getpeercert()
            assert first
            assert second
            assert first["serialNumber"] != second["serialNumber"]
            (tmp_path / "web.yml").write_text("{}")
            take()
            async with httpx.AsyncClient() as plain:
                assert (await plain.get(server.urls[0].replace("https", "http"))).text == "ok\n"

    asyncio.run(run())


def test_a_resumed_session_does_not_slip_past_a_new_authority(
    tmp_path: Path, authority: Authority, server_pair: Pair
) -> None:
    """Tickets of the old configuration are worth nothing under the new one."""
    client = authority.issue("client-resume", "DNS:a", "clientAuth")
    folder = tmp_path / "other"
    folder.mkdir()
    other = Authority(authority.openssl, folder, "other")
    policy = "client_auth_type: RequireAndVerifyClientCert"
    web_config = WebConfigReloader(
        config(tmp_path, server_pair, policy, f"client_ca_file: {authority.pair.cert}")
    )
    context = authority.client_context(client)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def run() -> None:
        async with serving(web_config) as server:
            host, port = place(server)

            def ask(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
                import socket

                with (
                    socket.create_connection((host, port), timeout=5) as sock,
                    context.wrap_socket(sock, server_hostname="localhost", session=session) as tls,
                ):
                    return bool(tls.session_reused), tls.session

            _, session = await asyncio.to_thread(ask, None)
            assert (await asyncio.to_thread(ask, session))[0]
            config(tmp_path, server_pair, policy, f"client_ca_file: {other.pair.cert}")
            web_config.check()
            web_config.check()
            with pytest.raises(OSError):  # noqa: PT011  # whichever way the handshake fails
                await asyncio.to_thread(ask, session)

    asyncio.run(run())
