"""How a request proves who sends it: httpx.Auth for signed requests and for tokens.

Knows httpx and the signature. The time to sign with is an argument, because ours may be wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Final
from urllib.parse import unquote

import httpx
import msgspec

from exporter.cloud.auth import signing
from exporter.cloud.http import fingerprint
from exporter.config import Secret

_SIGNED: Final = (
    "host",
    "content-type",
    "x-app-userid",
    "x-project-id",
    "x-sdk-content-sha256",
    "x-sdk-date",
    "x-security-token",
)
"""Only headers that we set ourselves: a proxy may change the others (User-Agent, Accept-Encoding)."""


class KeyPair(msgspec.Struct, frozen=True):
    """An access key pair, permanent or temporary."""

    access_key: Secret
    secret_key: Secret
    security_token: Secret | None = None
    expires: float | None = None
    """Unix seconds; ``None`` for permanent keys."""
    project_id: str | None = None
    """When the place the keys came from names one."""

    @property
    def fingerprint(self) -> str:
        token = self.security_token.reveal() if self.security_token else ""
        return fingerprint(self.access_key.reveal(), self.secret_key.reveal(), token)

    @property
    def secrets(self) -> tuple[str, ...]:
        token = (self.security_token.reveal(),) if self.security_token else ()
        return (self.access_key.reveal(), self.secret_key.reveal(), *token)


class Token(msgspec.Struct, frozen=True):
    """An IAM token."""

    token: Secret
    expires: float | None = None
    project_id: str | None = None
    """When the token is scoped to a project."""
    owner: str = ""
    """Fingerprint of the password that it was made from."""
    password: Secret | None = None
    """That password: no message may show it either."""

    @property
    def fingerprint(self) -> str:
        return self.owner or fingerprint(self.token.reveal())

    @property
    def secrets(self) -> tuple[str, ...]:
        password = (self.password.reveal(),) if self.password else ()
        return (self.token.reveal(), *password)


Credential = KeyPair | Token


def auth_for(credential: Credential, project_id: str | None, now: Callable[[], float]) -> httpx.Auth:
    """The proof that these credentials need; ``now`` gives Unix seconds on the API's clock."""
    if isinstance(credential, Token):
        return TokenHeaderAuth(credential)
    return SdkHmacAuth(credential, project_id, now)


class TokenHeaderAuth(httpx.Auth):
    """``X-Auth-Token``."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["X-Auth-Token"] = self._token.token.reveal()
        yield request


class SdkHmacAuth(httpx.Auth):
    """SDK-HMAC-SHA256, signed anew whenever a request is sent."""

    requires_request_body = True

    def __init__(self, keys: KeyPair, project_id: str | None, now: Callable[[], float]) -> None:
        self._keys = keys
        self._project_id = project_id
        self._now = now

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        headers = request.headers
        headers[signing.DATE_HEADER] = time.strftime(signing.DATE_FORMAT, time.gmtime(self._now()))
        if self._project_id:
            headers["X-Project-Id"] = self._project_id
        if self._keys.security_token:
            headers["X-Security-Token"] = self._keys.security_token.reveal()
        marker = signing.payload_marker(headers.get("Content-Type"))
        if marker:
            headers[signing.CONTENT_HASH_HEADER] = marker
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        sent = dict(headers.items())
        signature = signing.sign(
            method=request.method,
            path=path,
            query=_pairs(query),
            headers={name: sent[name] for name in _SIGNED if name in sent},
            body=request.content,
            access_key=self._keys.access_key.reveal(),
            secret_key=self._keys.secret_key.reveal(),
        )
        headers["Authorization"] = signature.authorization
        yield request


def _pairs(query: str) -> list[tuple[str, str]]:
    """Decoded pairs of a query text; a plus sign is a plus sign."""
    pieces = (piece.partition("=") for piece in query.split("&") if piece)
    return [(unquote(name), unquote(value)) for name, _, value in pieces]
