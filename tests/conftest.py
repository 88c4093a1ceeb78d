"""What every test may use: tools that are not Python, a full disk, and hypothesis within bounds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from testkit.postgres import PostgresServer, postgres_server, server_programs

Tool = Callable[[str], Path]
Golden = Callable[[Path, str], None]

PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "chromium": "chromium",
    "systemd-analyze": "systemd",
    "initdb": "postgresql",
    "pgbouncer": "pgbouncer",
}
"""Command -> the Debian package that has it."""

PROMETHEUS_3 = Path(__file__).parent.parent / ".tools" / "prometheus-3"
"""Where ``make tools`` puts that release, beside the system's."""

NO_PROMETHEUS_3 = "no Prometheus 3 beside the system's (`make tools` gets it on Debian)"

# Two shared cores: a slow example is not a defect, and an unlucky seed must not fail somebody else's build.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files again")


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> Golden:
    """Compares a text with the file that holds what it must be: ``golden(path, text)``.

    With ``--update-golden`` the file is written first: then read what ``git diff`` shows, users will see it.
    """

    def compare(path: Path, text: str) -> None:
        if pytestconfig.getoption("update_golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), "if this is meant: pytest --update-golden"

    return compare


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Path of a program by name: ``tool("promtool")``.

    Without it the test is skipped, and says so; where ``CI=true`` it fails, because there nobody reads skips.
    """

    def find(name: str) -> Path:
        # Beside this Python too: what pip installed is not on the PATH of `.venv/bin/pytest`.
        path = shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)
        if path is not None:
            return Path(path)
        reason = f"{name} is not installed (Debian package {PACKAGES.get(name, name)})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture(scope="session")
def prometheus_3(tool: Tool) -> Tool:
    """As ``tool``, with Prometheus' own programs of release 3, which may be beside the system's.

    Not every Debian has it: where ``make tools`` could not get it, tests are skipped even where ``CI=true``.
    """
    if not (PROMETHEUS_3 / "promtool").exists():
        pytest.skip(NO_PROMETHEUS_3)
    return lambda name: PROMETHEUS_3 / name if (PROMETHEUS_3 / name).exists() else tool(name)


@pytest.fixture(scope="session")
def postgres(tool: Tool) -> Iterator[PostgresServer]:
    """A running PostgreSQL server, for all tests of this process: each takes a new database of it."""
    with postgres_server(server_programs() or tool("initdb").parent) as server:
        yield server


@pytest.fixture(scope="session", params=["tool", "prometheus_3"], ids=["system", "prometheus-3"])
def release(request: pytest.FixtureRequest) -> Tool:
    """As ``tool``, once with the system's Prometheus and once with release 3.

    They differ: since 3, a range does not hold its left end, and histograms may be kept as native ones.
    """
    chosen: Tool = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def mortal() -> tuple[str, ...]:
    """What to put before a command so that permissions hold for it, whoever runs the tests."""
    if os.geteuid() != 0:
        return ()
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    works = shutil.which("setpriv") and subprocess.run([*prefix, "true"], check=False).returncode == 0
    if not works:
        pytest.skip("root is above permissions, and setpriv cannot take that away here")
    return prefix


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 384 KiB, real errors included."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=384k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The one skip that ``CI=true`` allows is told at the end."""
    skipped = [it for it in terminalreporter.stats.get("skipped", ()) if NO_PROMETHEUS_3 in str(it.longrepr)]
    if skipped:
        text = f"NOT tested with Prometheus 3: {len(skipped)} tests skipped, {NO_PROMETHEUS_3}"
        terminalreporter.write_line(text, yellow=True)
