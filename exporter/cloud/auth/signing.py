"""SDK-HMAC-SHA256, Huawei Cloud's request signature, as pure functions of text and bytes.

Knows the algorithm and nothing of clocks, of where credentials come from, or of HTTP libraries. Tests compare
it with the official SDK's signer, whose results are in ``tests/cloud/auth/signing_vectors.json``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

ALGORITHM: Final = "SDK-HMAC-SHA256"
DATE_HEADER: Final = "X-Sdk-Date"
DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
CONTENT_HASH_HEADER: Final = "X-Sdk-Content-Sha256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
_EMPTY_HASH: Final = hashlib.sha256(b"").hexdigest()

QueryPairs = Iterable[tuple[str, object]]


class Signature(NamedTuple):
    """The signature with every step that led to it, so that a refusal can be explained."""

    canonical_request: str
    string_to_sign: str
    signed_headers: str
    signature: str
    authorization: str


def encode(text: str) -> str:
    """Percent-encode everything but ``A-Z a-z 0-9 - _ . ~``: a blank is ``%20``, never ``+``."""
    return quote(text, safe="~")


def canonical_query(pairs: QueryPairs) -> str:
    """The query text to sign, which is also the one to send: sorted before it is encoded."""
    flat: list[tuple[str, str]] = []
    for name, value in pairs:
        values = value if isinstance(value, list) else [value]
        flat.extend((name, _text(item)) for item in values)
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in sorted(flat))


def canonical_uri(path: str) -> str:
    """The path to sign: it always ends with a slash, although the path that is sent may not."""
    uri = "/".join(encode(segment) for segment in unquote(path).split("/"))
    return uri if uri.endswith("/") else uri + "/"


def payload_marker(content_type: str | None) -> str | None:
    """Value of ``X-Sdk-Content-Sha256`` that such a body needs: only JSON and BSON bodies are hashed."""
    if content_type and not content_type.startswith(("application/json", "application/bson")):
        return UNSIGNED_PAYLOAD
    return None


def sign(
    *,
    method: str,
    path: str,
    query: QueryPairs,
    headers: Mapping[str, str],
    body: bytes | None,
    access_key: str,
    secret_key: str,
) -> Signature:
    """Sign all of ``headers``, which hold ``X-Sdk-Date`` and ``Host``, whatever their case.

    Names with an underscore are left out: gateways drop such headers.
    """
    signed = {name.lower(): value.strip() for name, value in headers.items() if "_" not in name}
    names = ";".join(sorted(signed))
    canonical_request = "\n".join(
        (
            method.upper(),
            canonical_uri(path),
            canonical_query(query),
            "".join(f"{name}:{signed[name]}\n" for name in sorted(signed)),
            names,
            _payload_hash(signed, body),
        )
    )
    date = signed[DATE_HEADER.lower()]
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    string_to_sign = f"{ALGORITHM}\n{date}\n{digest}"
    signature = hmac.new(secret_key.encode(), string_to_sign.encode(), hashlib.sha256).hexdigest()
    return Signature(
        canonical_request,
        string_to_sign,
        names,
        signature,
        f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}",
    )


def _payload_hash(signed: Mapping[str, str], body: bytes | None) -> str:
    if not body:
        return _EMPTY_HASH
    return signed.get(CONTENT_HASH_HEADER.lower()) or hashlib.sha256(body).hexdigest()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
