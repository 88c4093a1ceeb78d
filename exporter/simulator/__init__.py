"""A stand-in for MetaStudio: speaks the documented API over HTTP and knows the truth about every job.

Tests compare the exporter's counts with that truth, so it shares no code and no constants with the exporter.
Start reading at ``simulation.py``. It listens on loopback only.
"""

from .api import build_app
from .incidents import DEMO_SCRIPT, INCIDENTS, Entry, Script
from .server import serve_simulator
from .simulation import PROJECT_ID, REGION, new_simulation

__all__ = [
    "DEMO_SCRIPT",
    "INCIDENTS",
    "PROJECT_ID",
    "REGION",
    "Entry",
    "Script",
    "build_app",
    "new_simulation",
    "serve_simulator",
]
