"""A stand-in for MetaStudio: speaks the documented API over HTTP and knows the truth about every job.

Tests compare the exporter's counts with that truth, so it shares no code and no constants with the exporter.
Start reading at ``simulation.py``. It listens on loopback only.
"""

from exporter.simulator.api import build_app
from exporter.simulator.incidents import DEMO_SCRIPT
from exporter.simulator.server import serve
from exporter.simulator.simulation import PROJECT_ID, REGION, new_simulation

__all__ = ["DEMO_SCRIPT", "PROJECT_ID", "REGION", "build_app", "new_simulation", "serve"]
