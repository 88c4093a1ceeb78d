"""Makes the client of a target from its configuration: its credentials, its network, its shared limits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

import httpx

from exporter import log
from exporter.cloud.auth import (
    METADATA_URL,
    AkskSource,
    ChainSource,
    CredentialSource,
    EnvironmentSource,
    ProfileSource,
    TokenSource,
    agency_source,
    credentials_key,
    credentials_names,
    endpoint,
    password_source,
)
from exporter.cloud.client import Client, scope
from exporter.cloud.events import ApiEvents
from exporter.cloud.http import (
    Connections,
    Destination,
    Exchange,
    Network,
    fingerprint,
    place,
    read_network,
)
from exporter.cloud.shared_limits import SharedLimits
from exporter.config import AgencyAuth, AkskAuth, PasswordAuth, TargetConfig, TokenAuth


def build_client(
    target: TargetConfig,
    *,
    events: ApiEvents,
    shared: SharedLimits,
    environ: Mapping[str, str],
    network: Network,
    redactor: log.Redactor,
    metadata_url: str = METADATA_URL,
    monotonic: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Client:
    """The client of one target. Sends no request yet.

    ``network`` is what ``network_of`` returned. ``redactor`` learns each secret before it is sent, also those
    read from files or renewed.
    """
    key = credentials_key(target.auth, environ)
    shared.known_as(key, credentials_names(target.auth, environ))
    limiter = shared.limiter(key, target.name, target.rate_limit)
    context = _FetchContext(
        events, environ, metadata_url, network, monotonic, wall, jitter, transport, redactor
    )
    # A password has its own breaker: that it is refused says nothing about a token, and the other way round.
    to = place(target.iam_endpoint, target.project_id or target.region)
    iam = Destination(limiter.at(endpoint(target)), shared.password_breaker(key), to)
    credentials = _credentials(target, context, iam)
    return Client(
        target,
        credentials=credentials,
        limiter=limiter,
        breaker=shared.breaker(_breaker_key(key, target)),
        events=events,
        network=network,
        monotonic=monotonic,
        wall=wall,
        sleep=sleep,
        jitter=jitter,
        transport=transport,
        redactor=redactor,
    )


def network_of(
    targets: Iterable[TargetConfig], environ: Mapping[str, str], redactor: log.Redactor
) -> Network:
    """Proxies and authorities for some targets. Reads files, may block. Raises NetworkSettingsError."""
    urls = [url for target in targets for url in (target.endpoint, target.iam_endpoint)]
    return read_network(environ, urls, redactor)


def _breaker_key(key: str, target: TargetConfig) -> str:
    """Nothing locks a token, and each is for one project: its refusal concerns nobody else."""
    tokens = isinstance(target.auth, TokenAuth | PasswordAuth)
    return fingerprint(key, scope(target)) if tokens else key


class _FetchContext(NamedTuple):
    """What sources of credentials need to fetch them."""

    events: ApiEvents
    environ: Mapping[str, str]
    metadata_url: str
    network: Network
    monotonic: Callable[[], float]
    wall: Callable[[], float]
    jitter: Callable[[], float]
    transport: httpx.AsyncBaseTransport | None
    redactor: log.Redactor

    def exchange(self, connections: Connections) -> Exchange:
        return Exchange(connections, self.events, self.monotonic, self.wall, self.redactor)

    def agency(self) -> CredentialSource:
        return agency_source(
            self.exchange,
            self.environ,
            metadata_url=self.metadata_url,
            network=self.network,
            monotonic=self.monotonic,
            wall=self.wall,
            jitter=self.jitter,
            transport=self.transport,
        )


def _credentials(target: TargetConfig, context: _FetchContext, iam: Destination) -> CredentialSource:
    match target.auth:
        case AkskAuth() as auth:
            return AkskSource(auth)
        case TokenAuth() as auth:
            return TokenSource(auth)
        case PasswordAuth() as auth:
            return password_source(
                target,
                auth,
                context.exchange,
                iam,
                context.events,
                open_connections=lambda: Connections(context.network, transport=context.transport),
                monotonic=context.monotonic,
                wall=context.wall,
                jitter=context.jitter,
            )
        case AgencyAuth():
            return context.agency()
        case _:
            environ = context.environ
            return ChainSource((EnvironmentSource(environ), ProfileSource(environ), context.agency()))
