"""The gateway's side of authentication: who may call, and the documented error texts for those who may not.

A SDK-HMAC-SHA256 signature is checked by computing it again from the raw request. By the API signing guide,
the date may be off by 15 minutes, and an access key with too many bad signatures in a row is locked for five
minutes. Also issues IAM tokens and temporary keys. Knows no HTTP server; ``now`` is an argument.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

import msgspec

ACCESS_KEY: Final = "SIMULATEDACCESSKEY01"
SECRET_KEY: Final = "simulated+secret/key+that+opens+nothing0"  # noqa: S105  made up, opens nothing
_AUTHORIZATION: Final = re.compile(
    r"SDK-HMAC-SHA256 Access=(?P<ak>[^,\s]+), ?SignedHeaders=(?P<signed>[^,\s]+), ?"
    r"Signature=(?P<signature>[0-9a-f]+)"
)
_BAD_SIGNATURE: Final = "verify aksk signature fail"


class RawRequest(NamedTuple):
    """A request as it came over the wire, not decoded where signatures are made from it."""

    method: str
    path: str
    """Still percent-encoded."""
    query: str
    """Still percent-encoded, without the question mark."""
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes = b""


class RequestRefusedError(Exception):
    """The request is refused with this HTTP status, error code and text."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class AccessKeys(NamedTuple):
    """An access key and its secret; temporary ones have a token and an end."""

    ak: str
    sk: str
    security_token: str | None = None
    expires_at: float = math.inf


class Accounts(msgspec.Struct, kw_only=True):
    """The accounts and keys that exist."""

    keys: dict[str, str] = msgspec.field(default_factory=lambda: {ACCESS_KEY: SECRET_KEY})
    """Permanent access keys with their secrets."""
    domain: str = "simulated-account"
    username: str = "exporter"
    password: str = "simulated-password"  # noqa: S105  made up, opens nothing
    projects: dict[str, str] = msgspec.field(default_factory=dict)
    """Name (region id) by project id."""
    pod_token: str = "simulated-pod-token"  # noqa: S105  made up, opens nothing


class Authenticator:
    """Checks who sent a request, and issues tokens and temporary keys."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.required = True
        """``False`` accepts every request, for tests and benchmarks of something else."""
        self.date_tolerance = 900.0
        self.lock_after = 5
        self.lock_seconds = 300.0
        self.token_life = 86400.0
        self.temporary_life = 3600.0
        self._tokens: dict[str, tuple[str, float]] = {}
        self._bad_signatures: dict[str, int] = {}
        self._locked_until: dict[str, float] = {}

    # -- checking ----------------------------------------------------------------------------------

    def check(self, request: RawRequest, now: float, project_id: str | None = None) -> None:
        """Check token or signature, and that the credentials fit the project. Raises RequestRefusedError."""
        if not self.required:
            return
        headers = request.headers
        if "x-auth-token" in headers:
            self._check_token(headers["x-auth-token"], now, project_id)
            return
        if "authorization" not in headers:
            raise _unauthorized("x-auth-token not found")
        self._check_signature(request, now)
        if project_id is not None and headers.get("x-project-id") != project_id:
            text = "X-Project-Id is required with AK/SK and must equal the project id in the path"
            raise RequestRefusedError(400, "MSS.00010009", text)

    def _check_token(self, token: str, now: float, project_id: str | None) -> None:
        known = self._tokens.get(token)
        if known is None:
            raise _unauthorized("decrypt token fail")
        scope, expires = known
        if now >= expires:
            text = f"The token must be updated. token expires, expires_at: {iso_micro(expires)}"
            raise RequestRefusedError(401, "APIG.0307", text)
        if project_id is not None and scope != project_id:
            raise RequestRefusedError(400, "MSS.00010009", "urlTenantId is not equal tokenTenantId")

    def _check_signature(self, request: RawRequest, now: float) -> None:
        match = _AUTHORIZATION.fullmatch(request.headers["authorization"])
        if match is None:
            raise _unauthorized(f"{_BAD_SIGNATURE}, Authorization format is incorrect")
        keys = self._keys_of(match["ak"], now)
        if now < self._locked_until.get(keys.ak, 0.0):
            raise _unauthorized("AK access failed to reach the limit,forbidden")
        date = request.headers.get("x-sdk-date", "")
        self._check_date(date, now)
        signed = match["signed"].split(";")
        genuine = "x-sdk-date" in signed and "host" in signed
        genuine = genuine and keys.security_token == request.headers.get("x-security-token")
        expected = signature_of(request, signed, date, keys.sk)
        if genuine and hmac.compare_digest(expected, match["signature"]):
            self._bad_signatures[keys.ak] = 0
            return
        in_a_row = self._bad_signatures.get(keys.ak, 0) + 1
        self._bad_signatures[keys.ak] = in_a_row % self.lock_after
        if in_a_row >= self.lock_after:
            self._locked_until[keys.ak] = now + self.lock_seconds
        raise _unauthorized(_BAD_SIGNATURE)

    def _check_date(self, date: str, now: float) -> None:
        try:
            at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise _unauthorized(f"{_BAD_SIGNATURE}, X-Sdk-Date is missing or malformed") from None
        if abs(at - now) > self.date_tolerance:
            raise _unauthorized(f"{_BAD_SIGNATURE}, signature expired")

    def _keys_of(self, ak: str, now: float) -> AccessKeys:
        if ak in self.accounts.keys:
            return AccessKeys(ak, self.accounts.keys[ak])
        number = re.fullmatch(r"TEMPORARY(\d{1,12})", ak)
        keys = self._temporary(int(number[1])) if number else None
        if keys is None:
            raise _unauthorized("Get secretKey failed, ak not exist")
        if now >= keys.expires_at:
            raise _unauthorized(f"{_BAD_SIGNATURE}, security token expired")
        return keys

    # -- issuing -----------------------------------------------------------------------------------

    def issue_token(self, project_id: str, now: float) -> tuple[str, float]:
        """A new IAM token for one project, and when it ends. Older ones stay valid."""
        text = f"{project_id}/{now}/{len(self._tokens)}"
        token = "MIIS" + "".join(hashlib.sha256(f"{text}/{n}".encode()).hexdigest() for n in range(24))
        expires = now + self.token_life
        self._tokens[token] = (project_id, expires)
        return token, expires

    def revoke_tokens(self) -> None:
        """End every token now, as a change of the user's password does."""
        self._tokens.clear()

    def temporary_keys(self, now: float) -> AccessKeys:
        """The machine's keys at this time: replaced when a sixth of their life is left."""
        return self._temporary(math.floor(now / (self.temporary_life * 5.0 / 6.0)))

    def _temporary(self, number: int) -> AccessKeys:
        secret = hashlib.sha256(f"temporary/{number}".encode()).hexdigest()
        starts = number * self.temporary_life * 5.0 / 6.0
        return AccessKeys(f"TEMPORARY{number}", secret[:40], f"token-{secret}", starts + self.temporary_life)


def signature_of(request: RawRequest, signed: list[str], date: str, sk: str) -> str:
    """The signature that the request should carry (SDK-HMAC-SHA256)."""
    segments = unquote(request.path).split("/")
    path = "/".join(_encode(segment) for segment in segments)
    if not path.endswith("/"):
        path += "/"
    headers = "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in signed)
    digest = request.headers.get("x-sdk-content-sha256") or hashlib.sha256(request.body).hexdigest()
    if not request.body:
        digest = hashlib.sha256(b"").hexdigest()
    canonical = "\n".join(
        (request.method.upper(), path, _canonical_query(request.query), headers, ";".join(signed), digest)
    )
    to_sign = f"SDK-HMAC-SHA256\n{date}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.new(sk.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


def _canonical_query(query: str) -> str:
    pairs = [part.partition("=") for part in query.split("&") if part]
    plain = sorted((unquote(name), unquote(value)) for name, _, value in pairs)
    return "&".join(f"{_encode(name)}={_encode(value)}" for name, value in plain)


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _unauthorized(reason: str) -> RequestRefusedError:
    return RequestRefusedError(401, "APIG.0301", f"Incorrect IAM authentication information: {reason}")


def iso_micro(at: float) -> str:
    """UTC with microseconds, as IAM writes times."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
