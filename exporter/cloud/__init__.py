"""Talks to the cloud: MetaStudio's job list, IAM, and the machine's metadata service.

Knows requests, credentials, rate limits, clocks of servers, and what answers look like. Must not know what is
counted or stored, or when and why a page is asked for.

``build_client`` makes a ``Client`` of a target's configuration; its ``list_jobs`` gives one page of decoded
records or raises ApiError. What happens on the way is reported to the target's ``ApiEvents``. In ``http`` a
request is sent and its answer read, in ``auth`` it is signed. Only this package uses httpx.
"""

from exporter.cloud.auth.sources import POD_URI, EnvironmentSource, ProfileSource, credentials_key
from exporter.cloud.client import Client
from exporter.cloud.connect import build_client, network_of
from exporter.cloud.events import OPERATIONS, ApiEvents
from exporter.cloud.http.event_loop import run_event_loop
from exporter.cloud.http.network import Network, check_network
from exporter.cloud.shared_limits import SharedLimits

__all__ = [
    "OPERATIONS",
    "POD_URI",
    "ApiEvents",
    "Client",
    "EnvironmentSource",
    "Network",
    "ProfileSource",
    "SharedLimits",
    "build_client",
    "check_network",
    "credentials_key",
    "network_of",
    "run_event_loop",
]
