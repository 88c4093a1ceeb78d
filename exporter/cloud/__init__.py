"""Talks to the cloud: MetaStudio's job list, IAM, and the machine's metadata service.

Knows requests, credentials, rate limits, clocks of servers, and what answers look like. Must not know what is
counted or stored, or when and why a page is asked for.

``build_client`` makes a ``Client`` of a target's configuration; its ``list_jobs`` gives one page of decoded
records or raises ApiError, ``ask_list`` an answer as it came. What happens on the way is reported to the
target's ``ApiEvents``. In ``http`` a request is sent and its answer read, in ``auth`` it is signed. Only this
package uses httpx.
"""

import sys

# httpx loads a command line of its own, and rich for it, wherever that is installed: 6 MiB that a running
# exporter does not need, and half as much time again for its import.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # Python's own way to say "not there"

from exporter.cloud.auth import (
    POD_URI,
    EnvironmentSource,
    ProfileSource,
    credentials_key,
    credentials_names,
)
from exporter.cloud.client import Client
from exporter.cloud.connect import build_client, network_of
from exporter.cloud.events import OPERATIONS, ApiEvents
from exporter.cloud.http import (
    ApiRefusedError,
    Claims,
    HttpAnswer,
    Network,
    check_network,
    run_event_loop,
)
from exporter.cloud.shared_limits import COMMAND_PART, SharedLimits
from exporter.cloud.times import TimeFormat, format_time, parse_http_date, parse_time

__all__ = [
    "COMMAND_PART",
    "OPERATIONS",
    "POD_URI",
    "ApiEvents",
    "ApiRefusedError",
    "Claims",
    "Client",
    "EnvironmentSource",
    "HttpAnswer",
    "Network",
    "ProfileSource",
    "SharedLimits",
    "TimeFormat",
    "build_client",
    "check_network",
    "credentials_key",
    "credentials_names",
    "format_time",
    "network_of",
    "parse_http_date",
    "parse_time",
    "run_event_loop",
]
