"""Temporary keys from the machine itself: ECS metadata, CCE pod identity.

Knows both protocols (docs/api.md, section 5) and all spellings of their answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from exporter.cloud.auth.renewing import Expiring, RenewingSource
from exporter.cloud.auth.request_auth import KeyPair
from exporter.cloud.auth.sources import POD_URI, header_secret
from exporter.cloud.http import (
    UNDECODABLE,
    Connections,
    Exchange,
    HttpAnswer,
    Network,
    undecodable,
)
from exporter.cloud.redact import MessageRedactor
from exporter.cloud.times import parse_expiry, parse_http_date
from exporter.config import Secret
from exporter.errors import ApiError, CredentialsError

METADATA_URL: Final = "http://169.254.169.254"
_TOKEN_PATH: Final = "/meta-data/latest/api/token"  # noqa: S105 - a path
_KEY_PATH: Final = "/openstack/latest/securitykey"
_POD_TOKEN_FILE: Final = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - a variable's name
_TIMEOUTS: Final = httpx.Timeout(5.0, connect=3.0)
_UNSUPPORTED: Final = (404, 405, 503)
_NO_AGENCY: Final = "Please configure Cloud Service Agency first"
_LEAST_LIFE: Final = 120.0
"""Seconds. Keys that seem to have ended already are used all the same: our clock is wrong then."""
_UNKNOWN_LIFE: Final = 600.0

_SPELLINGS: Final = {
    "access": ("access", "accessKeyId", "access_key_id"),
    "secret": ("secret", "secretAccessKey", "secret_access_key"),
    "token": ("securitytoken", "securityToken", "security_token"),
    "expires": ("expires_at", "expiration"),
}


def agency_source(
    open_exchange: Callable[[Connections], Exchange],
    environ: Mapping[str, str],
    *,
    metadata_url: str,
    network: Network,
    monotonic: Callable[[], float],
    wall: Callable[[], float],
    jitter: Callable[[], float],
    transport: httpx.AsyncBaseTransport | None,
) -> RenewingSource[KeyPair]:
    """Keys of the pod's identity when its environment is set, else of the machine's agency."""

    async def fetch() -> Expiring[KeyPair]:
        # Opened for this request alone: the next comes in fifty minutes.
        async with Connections(network, transport=transport, timeouts=_TIMEOUTS) as connections:
            exchange = open_exchange(connections)

            def read(answer: HttpAnswer, redact: MessageRedactor) -> Expiring[KeyPair]:
                return _read_keys(answer, wall())

            if environ.get(POD_URI):
                return await _from_pod(connections, exchange, environ, read)
            return await _from_machine(connections, exchange, metadata_url, read)

    return RenewingSource(fetch, lambda life: 300.0 + 180.0 * jitter(), monotonic)


_Read = Callable[[HttpAnswer, MessageRedactor], Expiring[KeyPair]]


async def _from_pod(
    connections: Connections, exchange: Exchange, environ: Mapping[str, str], read: _Read
) -> Expiring[KeyPair]:
    file = environ.get(_POD_TOKEN_FILE)
    if not file:
        raise CredentialsError(f"pod identity: {POD_URI} is set but {_POD_TOKEN_FILE} is not")
    proof = header_secret(Path(file), _POD_TOKEN_FILE).reveal()
    try:
        request = connections.build_request(
            "POST",
            environ[POD_URI],
            content=b"{}",
            headers={"Authorization": proof, "Content-Type": "application/json"},
        )
    except (httpx.InvalidURL, ValueError):
        raise CredentialsError(f"pod identity: {POD_URI} is not a URL") from None
    return await exchange.call("get_credentials", request, read, secrets=(proof,))


async def _from_machine(
    connections: Connections, exchange: Exchange, base: str, read: _Read
) -> Expiring[KeyPair]:
    headers = {}
    token = await _metadata_token(connections, exchange, base)
    if token:
        headers["X-Metadata-Token"] = token
    secrets = (token,) if token else ()
    request = connections.build_request("GET", base + _KEY_PATH, headers=headers)
    try:
        return await exchange.call("get_credentials", request, read, secrets=secrets)
    except ApiError as error:
        if _NO_AGENCY.lower() in error.message.lower():
            raise CredentialsError(
                "agency: this machine has none: give it one with MetaStudio ReadOnlyAccess, or set auth"
            ) from error
        raise


async def _metadata_token(connections: Connections, exchange: Exchange, base: str) -> str:
    """A token of the newer protocol; empty where the machine does not speak it."""

    def read(answer: HttpAnswer, redact: MessageRedactor) -> str:
        if answer.status in _UNSUPPORTED:
            return ""
        text = answer.body.decode("utf-8", "replace").strip()
        if not text or not text.isascii() or not text.isprintable():
            raise undecodable("the metadata service gave no usable token", answer.status)
        return text

    request = connections.build_request(
        "PUT", base + _TOKEN_PATH, headers={"X-Metadata-Token-Ttl-Seconds": "21600"}
    )
    return await exchange.call("get_credentials", request, read, expected=(200, *_UNSUPPORTED))


def _read_keys(answer: HttpAnswer, now: float) -> Expiring[KeyPair]:
    try:
        top: Any = msgspec.json.decode(answer.body)
    except UNDECODABLE:
        raise undecodable("the temporary keys are not JSON", answer.status) from None
    top = top if isinstance(top, dict) else {}
    inner = next(
        (top[name] for name in ("credential", "credentials") if isinstance(top.get(name), dict)), top
    )
    found = {field: _first(inner, names) for field, names in _SPELLINGS.items()}
    if not (found["access"] and found["secret"] and found["token"]):
        raise undecodable("the answer holds no temporary keys", answer.status)
    expires = parse_expiry(found["expires"])
    # Date is the clock that wrote expires_at; ours may be wrong.
    clock = parse_http_date(answer.headers.get("date")) or now
    keys = KeyPair(Secret(found["access"]), Secret(found["secret"]), Secret(found["token"]), expires)
    return Expiring(keys, max(expires - clock, _LEAST_LIFE) if expires is not None else _UNKNOWN_LIFE)


def _first(value: dict[str, Any], names: tuple[str, ...]) -> str:
    texts = (value.get(name) for name in names)
    return next(
        (text for text in texts if isinstance(text, str) and text.isascii() and text.isprintable()), ""
    )
