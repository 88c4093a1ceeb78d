"""The names in a web configuration -> OpenSSL's names; and why some of them cannot be honoured.

Knows names only. The format uses those of Go's crypto/tls: TLS 1.2 suites go by their IANA names.
"""

from __future__ import annotations

from typing import Final

from exporter.config import ValueRefusedError, YamlValue, values

CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
_FIXED: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_version = values.choice("TLS13", "TLS12", "TLS11", "TLS10")
_client_auth = values.choice(
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)


def tls_version(value: YamlValue) -> str:
    name = _version(value)
    if name in ("TLS10", "TLS11"):
        raise ValueRefusedError(f"must be TLS12 or TLS13: {name} was retired (RFC 8996) and is not offered")
    return name


def client_auth_type(value: YamlValue) -> str:
    name = _client_auth(value)
    if name in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        raise ValueRefusedError(
            f"{name} is not offered: a certificate that nobody verifies protects nothing, and Python's TLS"
            " library always verifies; use RequireAndVerifyClientCert or VerifyClientCertIfGiven"
        )
    return name


def cipher_suite(value: YamlValue) -> str:
    """The OpenSSL name of a suite for TLS 1.2."""
    if isinstance(value, str) and value in _FIXED:
        raise ValueRefusedError("is a suite of TLS 1.3, which are always all on: remove it (Go ignores it)")
    if not isinstance(value, str) or value not in SUITES:
        raise ValueRefusedError(
            "is no cipher suite for TLS 1.2 that is still safe; known: " + ", ".join(SUITES)
        )
    return SUITES[value]
