"""A start without enough memory, files or threads: one line that says what is missing, and exit code 1."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.process import exhausted
from tests.processes import ROOT, write_config

LIMITS = {
    "memory-for-imports": ("RLIMIT_AS", 45 << 20),
    "memory-60-mib": ("RLIMIT_AS", 60 << 20),
    "files-8": ("RLIMIT_NOFILE", 8),
    "files-10": ("RLIMIT_NOFILE", 10),
    "files-12": ("RLIMIT_NOFILE", 12),
}
LIMITED = """
import resource, runpy, sys
limit = getattr(resource, sys.argv[1])
resource.setrlimit(limit, (int(sys.argv[2]),) * 2)
del sys.argv[1:3]
runpy.run_module("exporter", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(("limit", "value"), LIMITS.values(), ids=LIMITS)
def test_a_start_without_resources_says_what_is_missing(tmp_path: Path, limit: str, value: int) -> None:
    """Never a traceback."""
    config = write_config(tmp_path, "http://127.0.0.1:9")
    arguments = [limit, str(value), f"--config.file={config}", "--web.listen-address=127.0.0.1:0"]
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert re.fullmatch(r"metastudio-tts-exporter: [^\n]+\n", ended.stderr), ended.stderr


def test_what_is_missing_is_found_in_a_group_of_errors() -> None:
    """Tasks that fail together are reported together."""
    group = ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [MemoryError()])])
    assert (exhausted(group) or "").startswith("not enough memory")
    assert exhausted(ExceptionGroup("tasks", [ValueError()])) is None
