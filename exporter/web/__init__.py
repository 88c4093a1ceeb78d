"""Serves metrics, the status page and health over HTTP, and bounds what a client may cost.

Knows sockets, TLS and paths; must not know the cloud, the store or the ledger.
"""

import sys
from types import ModuleType


class _LeftOut(ModuleType):
    """A module in which everything is ``None``."""

    def __getattr__(self, name: str) -> None:
        return None


# uvicorn loads its own command line with itself, and click and multiprocessing for it: 2 MiB that a running
# exporter does not need, and 20 ms of its start. What is used here is in ``uvicorn.server``.
sys.modules.setdefault("uvicorn.main", _LeftOut("uvicorn.main"))
# Its configuration of logging, with pickle and more, is half a MiB. Nothing here configures logging so; who
# imports ``logging.config`` later gets the real one.
_logging_config = sys.modules.setdefault("logging.config", _LeftOut("logging.config"))

from exporter.web.access import WebConfig, WebConfigReloader, load_web_config
from exporter.web.app import check_telemetry_path, create_app
from exporter.web.connections import Limits
from exporter.web.server import Server
from exporter.web.status_routes import check_status_page

if isinstance(_logging_config, _LeftOut):
    del sys.modules["logging.config"]

__all__ = [
    "Limits",
    "Server",
    "WebConfig",
    "WebConfigReloader",
    "check_status_page",
    "check_telemetry_path",
    "create_app",
    "load_web_config",
]
