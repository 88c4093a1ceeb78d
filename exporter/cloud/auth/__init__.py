"""How a request proves who sends it, and where the credentials for that come from.

Knows signatures, tokens, IAM and the usual places of keys; must not know jobs.
"""

from exporter.cloud.auth.iam import endpoint, password_source
from exporter.cloud.auth.metadata import METADATA_URL, agency_source
from exporter.cloud.auth.request_auth import Credential, KeyPair, auth_for
from exporter.cloud.auth.sources import (
    POD_URI,
    AkskSource,
    ChainSource,
    CredentialSource,
    EnvironmentSource,
    ProfileSource,
    TokenSource,
    credentials_key,
    credentials_names,
)

__all__ = [
    "METADATA_URL",
    "POD_URI",
    "AkskSource",
    "ChainSource",
    "Credential",
    "CredentialSource",
    "EnvironmentSource",
    "KeyPair",
    "ProfileSource",
    "TokenSource",
    "agency_source",
    "auth_for",
    "credentials_key",
    "credentials_names",
    "endpoint",
    "password_source",
]
