"""What the name of a host is, told without asking anybody."""

from __future__ import annotations

import pytest

from exporter.config.hosts import ListenAddress, address, is_loopback, listen_address
from exporter.config.values import origin
from exporter.config.yaml_nodes import ValueRefusedError

LOOPBACK = [
    "127.0.0.1", "127.1", "127.255.255.254", "0177.0.0.1", "0x7f.1", "0x7f000001", "2130706433", "::1",
    "0:0:0:0:0:0:0:1", "::0001", "0000::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "localhost", "LocalHost",
    "localhost.",
]  # fmt: skip
ELSEWHERE = [
    "128.0.0.1", "::2", "::", "1270000001", "localhost.example", "127.0.0.1.example", "127.0.0.1.",
    "::ffff:10.0.0.1", "127.0.0.1 x", "127.0.0.1\x00", "127.0.0.256", "", "lòcalhost", "local",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_however_it_is_spelled(host: str) -> None:
    """Loopback is what the address is; plain HTTP may go there, and the address is written as all know it."""
    assert is_loopback(host)
    bracketed = f"[{host}]" if ":" in host else host
    plain = str(address(host) or "localhost")
    expected = f"http://[{plain}]:80" if ":" in plain else f"http://{plain}:80"
    assert origin(f"http://{bracketed}:80") == expected


@pytest.mark.parametrize("host", ELSEWHERE)
def test_what_may_be_another_machine(host: str) -> None:
    """Whatever it looks like: nothing goes there in the clear."""
    assert not is_loopback(host)
    with pytest.raises(ValueRefusedError):
        origin(f"http://[{host}]" if ":" in host else f"http://{host}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://Metastudio.Example.", "https://metastudio.example."),
        ("https://metastudio.example.:8443/", "https://metastudio.example.:8443"),
        ("https://[2001:DB8:0:0::1]:1", "https://[2001:db8::1]:1"),
        ("https://10.1", "https://10.0.0.1"),
    ],
)
def test_an_endpoint_is_written_in_one_way(given: str, expected: str) -> None:
    """A final dot, which speaks to name servers, stays."""
    assert origin(given) == expected


@pytest.mark.parametrize("host", [".", "..", "a..", ".a", "a..b", "10.0.0.1.", "x" * 254, "x" * 254 + "."])
def test_no_host(host: str) -> None:
    """One dot at the end of a name, and no other that is in excess."""
    with pytest.raises(ValueRefusedError):
        origin(f"https://{host}")


@pytest.mark.parametrize(
    ("text", "host", "port", "everywhere"),
    [
        (":10047", "", 10047, True),
        ("*:1", "", 1, True),
        ("[::]:1", "", 1, True),
        ("[0:0::0]:1", "", 1, True),
        ("0.0.0.0:1", "0.0.0.0", 1, True),  # noqa: S104  # parsed, not bound to
        ("127.0.0.1:0", "127.0.0.1", 0, False),
        ("[::1]:65535", "::1", 65535, False),
        ("exporter.example.com:1", "exporter.example.com", 1, False),
    ],
)
def test_an_address_to_listen_on(text: str, host: str, port: int, everywhere: bool) -> None:
    """Every spelling of all addresses is one; all of IPv4 alone is another."""
    assert listen_address(text) == ListenAddress(host, port)
    assert listen_address(text).is_everywhere is everywhere


@pytest.mark.parametrize(
    "text",
    ["", "10047", "nowhere", ":", ":x", ":65536", "::1:1", "[::1]", "a b:1", "user@host:1", "[host/]:1"],
)
def test_no_address_to_listen_on(text: str) -> None:
    """The exporter cannot listen there, so its health cannot be asked for there."""
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        listen_address(text)
