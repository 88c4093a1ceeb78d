"""HTTPS_PROXY, ALL_PROXY and NO_PROXY: which proxy a request goes through."""

from __future__ import annotations

import importlib.util

import httpx
import pytest

from exporter.cloud.http.proxies import Proxies
from exporter.errors import NetworkSettingsError

NAME = "https://metastudio.cn-north-4.example"
PROXY = "http://proxy:3128"


def used(url: str, **environ: str) -> str | None:
    """The variable whose proxy requests to ``url`` go through."""
    proxy = Proxies(environ).of(httpx.URL(url))
    return None if proxy is None else proxy.variable


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https_proxy"),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": " "}, None),
        ({"Https_Proxy": PROXY}, "Https_Proxy"),
        ({"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ({"all_proxy": PROXY, "HTTPS_PROXY": "proxy:1"}, "HTTPS_PROXY"),
        ({"HTTP_PROXY": PROXY, "http_proxy": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "other", "NO_PROXY": "*"}, "HTTPS_PROXY"),
    ],
    ids=repr,
)
def test_which_variable_counts(environ: dict[str, str], variable: str | None) -> None:
    """Small letters before others, HTTPS_PROXY before ALL_PROXY, HTTP_PROXY never."""
    assert used(NAME, **environ) == variable


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("metastudio.cn-north-4.example", NAME),
        ("cn-north-4.example", NAME),
        ("EXAMPLE", NAME),
        (".example", NAME),
        ("*.example", NAME),
        ("*.Cn-North-4.Example", NAME),
        ("*north-4.example", NAME),
        (".example.", NAME),
        ("example.", NAME),
        ("example", NAME + "."),
        ("xn--bcher-kva.example", "https://b\u00fccher.example"),
        ("b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("example:443", NAME),
        ("https://example", NAME),
        ("https://metastudio.cn-north-4.example/", NAME),
        ("example/", NAME),
        ("https://example:443/", NAME),
        ("https://10.1.2.3/", "https://10.1.2.3"),
        ("https://10.0.0.0/8/", "https://10.1.2.3"),
        ("https://[2001:db8::5]/", "https://[2001:db8::5]"),
        ("a, b ,example", NAME),
        ("a example", NAME),
        ("a,*", NAME),
        ("10.1.2.3", "https://10.1.2.3"),
        ("10.1.2.3:443", "https://10.1.2.3"),
        ("10.0.0.0/8", "https://10.1.2.3"),
        ("10.9.9.9/8", "https://10.1.2.3"),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]"),
        ("2001:db8::/32", "https://[2001:db8::5]"),
        ("[2001:db8::]/32", "https://[2001:db8::5]"),
        ("2001:0db8:0::5", "https://[2001:db8::5]"),
        ("[2001:db8::5]", "https://[2001:db8::5]"),
        ("[2001:db8::5]:8443", "https://[2001:db8::5]:8443"),
    ],
)
def test_no_proxy_means_this_host(entries: str, url: str) -> None:
    """Names with all below them, addresses, ranges, ports, stars, in any spelling that is in use."""
    assert used(url, HTTPS_PROXY=PROXY, NO_PROXY=entries) is None


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("localhost,127.0.0.0/8,::1/128", NAME),
        ("north-4.example", NAME),
        (".metastudio.cn-north-4.example", NAME),
        ("example:8443", NAME),
        ("http://example", NAME),
        ("10.0.0.0/8", NAME),
        ("10.0.0.0/8", "https://11.0.0.1"),
        ("10.0.0.0/99", "https://10.0.0.1"),
        ("::/0", "https://10.0.0.1"),
        ("0.0.0.0/0", "https://[2001:db8::5]"),
        ("[2001:db8::5]:1", "https://[2001:db8::5]"),
        (".,*.,,:,[,::1/200,example:x", NAME),
        ("", NAME),
    ],
)
def test_no_proxy_means_another_host(entries: str, url: str) -> None:
    """What is not meant, or cannot be read, changes nothing."""
    assert used(url, HTTPS_PROXY=PROXY, NO_PROXY=entries) == "HTTPS_PROXY"


@pytest.mark.parametrize(
    "url",
    [
        "http://example", "https://localhost", "https://localhost.", "https://127.0.0.1", "https://127.1:44",
        "https://[::1]", "https://[0:0:0:0:0:0:0:1]", "https://[::0001]", "http://[::0001]",
        "https://[::ffff:127.0.0.1]", "http://169.254.169.254/x",
    ],
)  # fmt: skip
def test_no_proxy_ever_sees(url: str) -> None:
    """Plain HTTP, and what goes to this machine."""
    assert used(url, HTTP_PROXY=PROXY, HTTPS_PROXY=PROXY, ALL_PROXY=PROXY) is None


@pytest.mark.parametrize(
    "value",
    [
        "nonsense://user:SECRET@proxy", "socks4://user:SECRET@proxy", "http://", "http://:3128",
        f"http://{'a' * 64}.example:3128", "http://proxy..example:3128",
        "http://proxy:port", "http://proxy:99999", "http://user:SEC/RET@proxy", "http://user:12/SECRET@proxy:1",
        "http://user:12?SECRET@proxy:1", "http://user:12#SECRET@proxy:1", "user:SEC://RET@proxy", "http://[::1",
        "http://pro xy", "http:/proxy:3128", "https:proxy:3128", "socks5:/proxy:1080", "DIRECT", "none",
    ],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_used(value: str, variable: str) -> None:
    """The variable at fault is named, no other, and nothing of its value is shown."""
    with pytest.raises(NetworkSettingsError, match=f"the environment variable {variable} must") as caught:
        used(NAME, **{variable: value})
    assert "SEC" not in str(caught.value)
    assert used(NAME, **{variable: value}, NO_PROXY="example") is None


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with what to install, before the first request."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NetworkSettingsError, match=r"ALL_PROXY names a SOCKS proxy.*install httpx\[socks\]"):
        used(NAME, ALL_PROXY="socks5h://proxy:1080")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://user:SECRET@Proxy.Example:3128", "proxy.example:3128 (HTTPS_PROXY)"),
        ("user:SECRET@proxy:3128", "proxy:3128 (HTTPS_PROXY)"),
        ("https://SECRET@proxy/", "proxy (HTTPS_PROXY)"),
        (" proxy:3128 ", "proxy:3128 (HTTPS_PROXY)"),
    ],
)
def test_how_a_proxy_is_shown(value: str, shown: str) -> None:
    """Host, port and variable; never a user name or a password."""
    assert str(Proxies({"HTTPS_PROXY": value}).of(httpx.URL(NAME))) == shown


@pytest.mark.parametrize(
    ("environ", "warnings"),
    [
        ({"NO_PROXY": "localhost,127.0.0.0/8,::1/128,*.a,.b,[::1]:80,c:1,*"}, []),
        ({"no_proxy": "10.0.0.0/99,a:b"}, ["no_proxy: '10.0.0.0/99' is no", "no_proxy: 'a:b' is no"]),
        *(
            ({"NO_PROXY": entry}, [f"NO_PROXY: {entry!a} is no"])
            for entry in ("a;b", '"host"', "metastudio.*", "10.*", "10.1.2.3-10.1.2.9", "10.1.2.300")
        ),
        ({"NO_PROXY": "10.1.2.3,h1,a_b.c-d,b\u00fccher.example,xn--bcher-kva.example"}, []),
        ({"NO_PROXY": "[" + "\x1b" * 999}, [r"NO_PROXY: '[\x1b\x1b"]),
        ({"HTTP_PROXY": PROXY}, ["HTTP_PROXY is not used"]),
        ({"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}, []),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "example"}, []),
    ],
    ids=[
        "usual",
        "unreadable",
        *(["matches nothing"] * 6),
        "names",
        "control characters",
        "http",
        "both",
        "not needed",
    ],
)
def test_what_may_be_a_mistake(environ: dict[str, str], warnings: list[str]) -> None:
    """It is said in one line each, and cut."""
    found = list(Proxies(environ).warnings([httpx.URL(NAME)]))
    assert len(found) == len(warnings)
    for line, part in zip(found, warnings, strict=True):
        assert part in line
        assert len(line) < 400
        assert line.isprintable()
