"""One request, one bounded answer: connections, proxies, certificates, limits, and what an error means.

Knows httpx; must not know credentials' origin or jobs.
"""

from exporter.cloud.http.breaker import TRIALS, Breaker, CredentialUse
from exporter.cloud.http.destination import Destination, place
from exporter.cloud.http.error_codes import Remedy
from exporter.cloud.http.errors import ApiRefusedError, bad_page, undecodable
from exporter.cloud.http.event_loop import run_event_loop
from exporter.cloud.http.exchange import MAX_LIST_BYTES, Exchange, HttpAnswer, too_large
from exporter.cloud.http.loose_json import UNDECODABLE
from exporter.cloud.http.network import Network, check_network, read_network
from exporter.cloud.http.pool import Connections
from exporter.cloud.http.rate_limit import NoTimeLeft, RateLimiter, fingerprint
from exporter.cloud.http.refusals import PlaceRecord
from exporter.cloud.http.shared_breaker import Claims, SharedBreaker

__all__ = [
    "MAX_LIST_BYTES",
    "TRIALS",
    "UNDECODABLE",
    "ApiRefusedError",
    "Breaker",
    "Claims",
    "Connections",
    "CredentialUse",
    "Destination",
    "Exchange",
    "HttpAnswer",
    "Network",
    "NoTimeLeft",
    "PlaceRecord",
    "RateLimiter",
    "Remedy",
    "SharedBreaker",
    "bad_page",
    "check_network",
    "fingerprint",
    "place",
    "read_network",
    "run_event_loop",
    "too_large",
    "undecodable",
]
