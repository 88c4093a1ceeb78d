"""Who gets an answer: TLS, client certificates, passwords, rate limits (``--web.config.file``).

Knows the file format of Prometheus' exporter-toolkit; must not know what is served.
"""

from exporter.web.access.clients import client_of
from exporter.web.access.config import WebConfig, load_web_config
from exporter.web.access.middleware import AccessMiddleware
from exporter.web.access.reloader import WebConfigReloader
from exporter.web.access.tls import NETWORK, Tls, TlsProtocol

__all__ = [
    "NETWORK",
    "AccessMiddleware",
    "Tls",
    "TlsProtocol",
    "WebConfig",
    "WebConfigReloader",
    "client_of",
    "load_web_config",
]
