"""IAM: a token from a password, and the project id of a region.

Knows both calls of the identity service (docs/api.md, section 5) and nothing of jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

import httpx
import msgspec

from exporter.background import in_background
from exporter.cloud.auth import signing
from exporter.cloud.auth.renewing import Expiring, RenewingSource
from exporter.cloud.auth.request_auth import Token
from exporter.cloud.auth.sources import SecretReader, header_secret
from exporter.cloud.events import ApiEvents
from exporter.cloud.http import (
    UNDECODABLE,
    ApiRefusedError,
    Connections,
    Destination,
    Exchange,
    HttpAnswer,
    fingerprint,
    undecodable,
)
from exporter.cloud.redact import MessageRedactor
from exporter.cloud.times import parse_expiry, parse_http_date
from exporter.config import PasswordAuth, Secret, TargetConfig
from exporter.errors import ApiError, ErrorKind

_UNKNOWN_LIFE: Final = 3600.0
_LEAST_LIFE: Final = 60.0
_WAIT: Final = 60.0


class _Project(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _TokenFacts(msgspec.Struct):
    expires_at: str | None = None
    project: _Project | None = None


class _TokenAnswer(msgspec.Struct):
    token: _TokenFacts | None = None


class _ProjectsAnswer(msgspec.Struct):
    projects: list[_Project] | None = None


def password_source(
    target: TargetConfig,
    auth: PasswordAuth,
    open_exchange: Callable[[Connections], Exchange],
    to: Destination,
    events: ApiEvents,
    *,
    open_connections: Callable[[], Connections],
    monotonic: Callable[[], float],
    wall: Callable[[], float],
    jitter: Callable[[], float],
) -> RenewingSource[Token]:
    """Tokens of an IAM user, each kept until one to one and a half hours before it ends (of 24 h)."""
    read = _password_reader(auth)

    async def fetch() -> Expiring[Token]:
        password, owner = await read()
        async with to.breaker.use(owner, to.place) as use:
            try:
                async with (
                    to.limiter.slot(target.name, monotonic() + _WAIT, use) as waited,
                    open_connections() as connections,
                ):
                    events.throttle_wait(waited)
                    to.breaker.check(owner, to.place)  # another may have been refused during the wait
                    token = await open_exchange(connections).call(
                        "create_token",
                        _token_request(connections, target, auth, password),
                        lambda answer, redact: _read_token(answer, owner, Secret(password), wall()),
                        secrets=(password,),
                        expected=(201, 200),
                    )
            except ApiRefusedError as error:
                to.refused(owner, error)  # IAM locks a user after a few wrong passwords
                raise
            use.accept()
        return token

    return RenewingSource(fetch, lambda life: min(3600.0 * (1 + jitter() / 2), life * 0.2), monotonic)


def _password_reader(auth: PasswordAuth) -> Callable[[], Awaitable[tuple[str, str]]]:
    """Reads the password, and makes the fingerprint by which the store remembers it if it is refused."""
    reading = SecretReader[Secret](auth.password)
    known: dict[str, str] = {}

    async def read() -> tuple[str, str]:
        password = (await reading.get(lambda: header_secret(auth.password, "password"))).reveal()
        if password not in known:
            owner = await in_background(lambda: password_fingerprint(auth, password), name="scrypt")
            known.clear()
            known[password] = owner
        return password, known[password]

    return read


def password_fingerprint(auth: PasswordAuth, password: str) -> str:
    """Like ``fingerprint``, and slow: people choose passwords, so that quick guesses could find them."""
    salt = fingerprint(auth.domain, auth.username).encode()
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=16).hex()


def _token_request(
    connections: Connections, target: TargetConfig, auth: PasswordAuth, password: str
) -> httpx.Request:
    project = {"id": target.project_id} if target.project_id else {"name": target.region}
    user = {"name": auth.username, "password": password, "domain": {"name": auth.domain}}
    body = {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }
    }
    return connections.build_request(
        "POST",
        target.iam_endpoint + "/v3/auth/tokens?nocatalog=true",
        content=msgspec.json.encode(body),
        headers={"Content-Type": "application/json;charset=utf8"},
    )


def _read_token(answer: HttpAnswer, owner: str, password: Secret, now: float) -> Expiring[Token]:
    token = answer.headers.get("x-subject-token", "").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise undecodable("the answer holds no token (X-Subject-Token); check iam_endpoint", answer.status)
    try:
        facts = msgspec.json.decode(answer.body, type=_TokenAnswer).token or _TokenFacts()
    except UNDECODABLE:
        facts = _TokenFacts()  # the token is in the header; without the body its end is guessed
    expires = parse_expiry(facts.expires_at or "")
    # Date is the clock that wrote expires_at; ours may be wrong.
    clock = parse_http_date(answer.headers.get("date")) or now
    life = max(expires - clock, _LEAST_LIFE) if expires is not None else _UNKNOWN_LIFE
    project = facts.project.id if facts.project else None
    return Expiring(Token(Secret(token), expires, project, owner, password), life)


@lru_cache
def host(url: str) -> str:
    """Host and port, which name an endpoint. Remembered: hundreds of targets have few of them."""
    return httpx.URL(url).netloc.decode("ascii")


def endpoint(target: TargetConfig) -> str:
    """The name of the identity service as an endpoint, also where it shares a host with others."""
    return host(target.iam_endpoint) + "/v3"


def project_url(target: TargetConfig) -> str:
    """Where to ask for the project of the target's region."""
    return f"{target.iam_endpoint}/v3/projects?{signing.canonical_query([('name', target.region)])}"


def read_project(answer: HttpAnswer, redact: MessageRedactor, region: str) -> str:
    """The one project of that region. Raises ApiError when there is none, or more than one."""
    try:
        projects = msgspec.json.decode(answer.body, type=_ProjectsAnswer).projects
    except UNDECODABLE:
        projects = None
    if projects is None:
        raise undecodable("the answer is no list of projects; check iam_endpoint", answer.status)
    ids = {project.id for project in projects if project.id and project.name in (None, region)}
    if len(ids) != 1:
        count = "no project" if not ids else f"{len(ids)} projects"
        text = f"these credentials see {count} named {region}; set project_id for this target"
        raise ApiError(ErrorKind.CLIENT, redact(text), status=answer.status)
    return ids.pop()
