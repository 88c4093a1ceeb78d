"""Which proxy a request goes through: the only reader of HTTPS_PROXY, ALL_PROXY and NO_PROXY.

Plain HTTP goes through none, and so does what goes to this machine: a proxy would see the credentials.
Must not know how a proxy is spoken to.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import httpx

from exporter.config import hosts
from exporter.errors import NetworkSettingsError

_ENTRY: Final = re.compile(
    r"(?:(\w+)://)?(\[[^\]]+\](?:/\d+)?|[^:\[\]]+|[^\[\]]*:[^\[\]]*:[^\[\]]*)(?::(\d+))?"
)
"""Of NO_PROXY: a name, an address or a range of addresses, IPv6 in brackets or not; perhaps with a port."""
_NAME: Final = re.compile(r"\*?\.?(?:[\w-]+\.)*(?![0-9]+\.?$)[\w-]+\.?")
"""Of a host or a domain, in which a ``*`` counts at the begin only; none ends in a number."""
_HOST: Final = re.compile(r"[\w.:-]+")
_NO_HOSTS: Final = frozenset(("http", "https", "socks5", "socks5h", "direct", "none", "null", "false"))
"""A scheme without ``//`` and what some programs take for "no proxy": httpx would ask for such a host."""
_SHOWN: Final = 60


class Proxy(NamedTuple):
    """The proxy of a request. Its text may be shown: no password is in it."""

    variable: str
    url: httpx.URL
    """With the user name and the password, if there are any."""

    def __str__(self) -> str:
        """Never the user name or the password."""
        port = "" if self.url.port is None else f":{self.url.port}"
        return f"{self.url.host}{port} ({self.variable})"


class Proxies:
    """The proxy variables of an environment, read once. Raises nothing before a proxy is needed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._given = _variable(environ, "https_proxy") or _variable(environ, "all_proxy")
        self._unused = _variable(environ, "http_proxy")
        self._exceptions = _variable(environ, "no_proxy") or ("NO_PROXY", "")

    def of(self, url: httpx.URL) -> Proxy | None:
        """The proxy of requests to ``url``. Raises NetworkSettingsError when it cannot be used."""
        if self._given is None or not self._is_proxied(url):
            return None
        return _proxy(*self._given)

    def warnings(self, urls: Iterable[httpx.URL]) -> Iterator[str]:
        """What may be a mistake, one line each."""
        variable, entries = self._exceptions
        for entry in _entries(entries):
            if entry != "*" and not _readable(entry):
                what = f"{entry[:_SHOWN]!a} is no name, address or range: it is ignored"
                yield f"the environment variable {variable}: {what}"
        if self._given is None and self._unused and any(self._is_proxied(url) for url in urls):
            yield (
                f"the environment variable {self._unused[0]} is not used, for requests go by https://: set"
                " HTTPS_PROXY if they need a proxy"
            )

    def _is_proxied(self, url: httpx.URL) -> bool:
        if url.scheme != "https" or hosts.is_loopback(url.host):
            return False
        port = url.port or 443
        return not any(_matches(entry, url.host, port) for entry in _entries(self._exceptions[1]))


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """The variable as it is spelled, and its value: in small letters before others; empty is not set."""
    for spelled in sorted((key for key in environ if key.lower() == name), reverse=True):
        value = environ[spelled].strip()
        return (spelled, value) if value else None
    return None


def _proxy(variable: str, value: str) -> Proxy:
    """Its text is never shown: it may hold a password."""

    def refused(what: str) -> NetworkSettingsError:
        return NetworkSettingsError(f"the environment variable {variable} {what}")

    try:
        url = httpx.URL(value if "://" in value else f"http://{value}")
        usable = _HOST.fullmatch(url.host) is not None and (url.port is None or 0 < url.port < 65536)
        usable = usable and url.host not in _NO_HOSTS
        usable = usable and all(0 < len(label) < 64 for label in url.raw_host.removesuffix(b".").split(b"."))
    except (httpx.InvalidURL, ValueError):
        usable = False
    if not usable or "@" in url.path + url.query.decode() + url.fragment:
        raise refused(
            "must be http://HOST:PORT, perhaps with USER:PASSWORD@ before HOST and / in them as %2F, or unset"
        )
    if url.scheme in ("socks5", "socks5h"):
        if importlib.util.find_spec("socksio") is None:
            raise refused(
                "names a SOCKS proxy, for which the Python package socksio is missing: install httpx[socks],"
                " or name a proxy that begins with http://"
            )
    elif url.scheme not in ("http", "https"):
        raise refused("must begin with http://, https:// or socks5://: other proxies are not known")
    return Proxy(variable, url)


def _entries(text: str) -> list[str]:
    return [entry.rstrip("/") for entry in re.split(r"[,\s]+", text.lower()) if entry.rstrip("/")]


def _readable(entry: str) -> bool:
    match = _ENTRY.fullmatch(entry)
    return match is not None and (_network(match[2]) is not None or _NAME.fullmatch(match[2]) is not None)


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether NO_PROXY's entry means this host and port."""
    if entry == "*":
        return True
    match = _ENTRY.fullmatch(entry)
    if match is None or match[1] not in (None, "https", "all") or match[3] not in (None, str(port)):
        return False
    network, address = _network(match[2]), hosts.address(host)
    if network is not None or address is not None:
        return network is not None and address is not None and address in network
    domain = match[2].removeprefix("*").rstrip(".")
    domain, host = _spelled_out(domain), _spelled_out(host.lower().rstrip("."))
    if domain.startswith(".") or match[2].startswith("*"):
        return len(domain) > 1 and host.endswith(domain)
    return host == domain or host.endswith(f".{domain}")


def _spelled_out(name: str) -> str:
    """A name with its letters, where DNS spells a label ``xn--``."""
    try:
        return ".".join(
            label[4:].encode().decode("punycode") if label.startswith("xn--") else label
            for label in name.split(".")
        )
    except ValueError:
        return name


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    text = text.replace("[", "").replace("]", "")
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        found = hosts.address(text)
        return None if found is None else ipaddress.ip_network(found)
