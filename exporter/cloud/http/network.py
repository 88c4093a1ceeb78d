"""How requests leave this machine, as the environment says: through which proxies, trusting whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import httpx

from exporter import log
from exporter.cloud.http.authorities import Authorities
from exporter.cloud.http.proxies import Proxies, Proxy
from exporter.config import Config
from exporter.errors import NetworkSettingsError


class Network(NamedTuple):
    """The settings of one environment."""

    proxies: Proxies
    authorities: Authorities

    def proxy_of(self, url: str) -> Proxy | None:
        """The proxy of requests to ``url``; its text may be shown. Raises NetworkSettingsError."""
        return self.proxies.of(httpx.URL(url))


def read_network(environ: Mapping[str, str], urls: Iterable[str], redactor: log.Redactor) -> Network:
    """For requests to ``urls``. Raises NetworkSettingsError when the environment cannot be used for them.

    ``redactor`` learns the password of the proxy.
    """
    proxies = Proxies(environ)
    for url in urls:
        proxy = proxies.of(httpx.URL(url))
        if proxy is not None and proxy.url.password:
            redactor.add(proxy.url.password)
    return Network(proxies, Authorities(environ))


def check_network(environ: Mapping[str, str], config: Config) -> tuple[list[str], list[str]]:
    """What keeps the targets from being polled, and what may be a mistake; one line each."""
    urls = {url for target in config.targets for url in (target.endpoint, target.iam_endpoint)}
    proxies = Proxies(environ)
    problems: dict[str, None] = {}
    for url in sorted(urls):
        try:
            proxies.of(httpx.URL(url))
        except NetworkSettingsError as error:
            problems[str(error)] = None
    try:
        Authorities(environ)
    except NetworkSettingsError as error:
        problems[str(error)] = None
    return list(problems), list(proxies.warnings(httpx.URL(url) for url in urls))
