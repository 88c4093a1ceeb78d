"""What a start of the exporter loads, and what only when it is used: it runs for months."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

LATER = {
    "bcrypt": "a web configuration with users",
    "click": "uvicorn's own command line",
    "ctypes": "the end of many connections, the text of many targets",
    "difflib": "an unknown key in a file",
    "exporter.commands.check": "a command",
    "exporter.simulator": "the demo",
    "httpx._main": "httpx' own command line",
    "jinja2": "the status page",
    "logging.config": "uvicorn's configuration of logging",
    "multiprocessing": "uvicorn's own command line",
    "rich": "commands with tables",
    "statistics": "nothing",
    "zoneinfo": "a target in a named time zone",
}
"""By module: what loads it."""


@pytest.mark.program
def test_a_start_loads_nothing_that_few_exporters_need() -> None:
    """Whoever imports one of these again at the top of a module is told here."""
    without_coverage = {name: it for name, it in os.environ.items() if not name.startswith("COVERAGE_")}
    code = "import sys, exporter.app, exporter.cli; print(*(name for name, it in sys.modules.items() if it))"
    started = subprocess.run(
        [sys.executable, "-c", code],
        env={**without_coverage, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(started.stdout.split())
    assert "exporter.app" in loaded
    assert loaded & LATER.keys() == set()
