"""Serves metrics, the status page and health over HTTP, and bounds what a client may cost.

Knows sockets, TLS and paths; must not know the cloud, the store or the ledger.
"""

from exporter.web.access import WebConfig, WebConfigReloader, load_web_config
from exporter.web.app import check_telemetry_path, create_app
from exporter.web.connections import Limits
from exporter.web.server import Server

__all__ = [
    "Limits",
    "Server",
    "WebConfig",
    "WebConfigReloader",
    "check_telemetry_path",
    "create_app",
    "load_web_config",
]
