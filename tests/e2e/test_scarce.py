"""A start without enough memory, files or threads: one line that says what is missing, and exit code 1."""

from __future__ import annotations

import asyncio
import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.ledger.record import JobsQuery
from exporter.process import exhausted
from exporter.store.sqlite import SqliteStore
from testkit.processes import ROOT, write_config
from tests.fake_api import PollerHarness

MEMORY, FILES = "not enough memory: raise", "too many open files: raise"
LIMITS = {
    "memory-for-imports": ("RLIMIT_AS", 45 << 20, "memory"),
    "memory-60-mib": ("RLIMIT_AS", 60 << 20, "memory"),
    "files-4": ("RLIMIT_NOFILE", 4, FILES),
    "files-5": ("RLIMIT_NOFILE", 5, FILES),
    "files-8": ("RLIMIT_NOFILE", 8, FILES),
    "files-10": ("RLIMIT_NOFILE", 10, FILES),
    "files-11": ("RLIMIT_NOFILE", 11, FILES),
    "files-12": ("RLIMIT_NOFILE", 12, FILES),
    "size-of-files-0": ("RLIMIT_FSIZE", 0, "no file may be larger than 0 bytes: raise that limit"),
    "size-of-files-4k": ("RLIMIT_FSIZE", 4096, "no file may be larger than 4096 bytes: raise that limit"),
}
LIMITED = """
import resource, runpy, sys
limit = getattr(resource, sys.argv[1])
resource.setrlimit(limit, (int(sys.argv[2]),) * 2)
del sys.argv[1:3]
runpy.run_module("exporter", run_name="__main__", alter_sys=True)
"""


@pytest.mark.e2e
@pytest.mark.parametrize(("limit", "value", "missing"), LIMITS.values(), ids=LIMITS)
def test_a_start_without_resources_says_what_is_missing(
    tmp_path: Path, limit: str, value: int, missing: str
) -> None:
    """Never a traceback, and nothing else is blamed for it."""
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
    assert missing in ended.stderr
    assert "permissions" not in ended.stderr


BROKEN_IMPORT = """
import resource, sys
from exporter.process import run_command

def command():
    import broken

sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2)
run_command(command)
"""


@pytest.mark.parametrize("limit", ["limited", "unlimited"])
@pytest.mark.parametrize(
    "module",
    ["raise SystemError('error return without exception set')", "while True\n", "raise KeyError('x')"],
    ids=["system error", "syntax error", "other"],
)
def test_an_import_that_fails_under_a_limit_lacks_memory(module: str, limit: str, tmp_path: Path) -> None:
    """Python without memory raises all kinds of errors there; without a limit, they are defects."""
    (tmp_path / "broken.py").write_text(module)
    ended = subprocess.run(
        [sys.executable, "-c", BROKEN_IMPORT, str(tmp_path), limit],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert (f"metastudio-tts-exporter: {MEMORY}" in ended.stderr) == (limit == "limited")
    assert ("Traceback" in ended.stderr) == (limit == "unlimited")


def test_what_is_missing_is_found_in_a_group_of_errors() -> None:
    """Tasks that fail together are reported together."""
    group = ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [MemoryError()])])
    assert (exhausted(group) or "").startswith("not enough memory")
    assert exhausted(ExceptionGroup("tasks", [ValueError()])) is None


SCARCE = {
    "memory": (MemoryError(), MEMORY),
    "threads": (RuntimeError("can't start new thread"), "no thread can be started: raise"),
    "files": (OSError(errno.EMFILE, "Too many open files"), FILES),
    "defect": (ValueError("x"), "defect of this program: ValueError"),
}


@pytest.mark.parametrize(("error", "said"), SCARCE.values(), ids=SCARCE)
def test_a_poll_without_resources_says_what_is_missing(
    tmp_path: Path, error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no defect, and the next poll goes on."""
    harness = PollerHarness(SqliteStore(tmp_path / "books.db"))

    def fail(query: JobsQuery) -> None:
        raise error

    harness.api.before_page = fail
    assert asyncio.run(harness.poll()) == "failed"
    assert harness.view.last_poll.problem.startswith(said)
    assert ("defect" in caplog.text) == ("defect" in said)
    harness.api.before_page = lambda query: None
    assert asyncio.run(harness.poll(2)) == "complete"
    harness.store.close()


@pytest.mark.parametrize("name", ["memory", "threads"])
def test_books_that_cannot_be_written_for_want_of_resources(tmp_path: Path, name: str) -> None:
    """The same words; the program does not end."""
    error, said = SCARCE[name]
    harness = PollerHarness(SqliteStore(tmp_path / "books.db"))
    asyncio.run(harness.poll())

    async def fail(now: int | None) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.repository, "commit", fail)
        asyncio.run(harness.poll())
    assert harness.repository.problem.startswith(said)
    assert asyncio.run(harness.poll(2)) == "complete"
    harness.store.close()
