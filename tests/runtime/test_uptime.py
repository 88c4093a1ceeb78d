"""The uptime that tells how long a first start has failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exporter.runtime.uptime import uptime
from testkit.processes import ROOT


def test_it_goes_on_in_another_process() -> None:
    """A restart of the program is none of the machine."""
    before = uptime()
    command = "from exporter.runtime.uptime import uptime; print(*uptime())"
    other = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    boot, ms = other.stdout.split()
    assert boot == before.boot
    assert before.ms <= int(ms) <= uptime().ms


def test_without_a_boot_id_each_process_is_a_boot(tmp_path: Path) -> None:
    """Uptimes that may be of two machines are never compared."""
    missing = tmp_path / "boot_id"
    assert uptime(missing).boot == uptime(missing).boot != uptime().boot
