"""The unit: valid, locked down, and in step with the program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from exporter.config import load_config
from tests.conftest import Tool
from tests.deploy.files import CONFIG, ROOT, STATE, UNIT

DOCUMENT = ROOT / "docs" / "deployment.md"
TEXT = UNIT.read_text(encoding="utf-8")


def test_its_exposure_is_low(tool: Tool) -> None:
    """Under 2.0 of 10 by systemd's own measure."""
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", "--no-pager", UNIT],
        capture_output=True,
        timeout=60,
        check=False,
    )
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout.decode())
    assert level, done.stderr.decode()
    assert float(level[1]) < 2.0


def test_systemd_understands_every_line(tool: Tool, tmp_path: Path) -> None:
    """Given a program where it says that one is."""
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", TEXT), encoding="utf-8")
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", unit], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")


def test_it_keeps_the_books_where_the_configuration_says() -> None:
    """One folder is writable: the state folder of its name."""
    assert f"StateDirectory={STATE.removeprefix('/var/lib/')}\n" in TEXT
    assert f"--config.file={CONFIG}\n" in TEXT
    assert "ReadWritePaths" not in TEXT


def test_systemd_is_told_when_the_exporter_is_ready() -> None:
    """The exporter says so itself; otherwise the start would fail."""
    assert "Type=notify\n" in TEXT


def test_the_documented_configuration_names_what_it_is_handed(tmp_path: Path) -> None:
    """The sample for systemd loads; its secrets are the unit's credentials, its books in the state folder."""
    sample = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[1]
    handed = f"/run/credentials/{UNIT.name}/"
    credentials = re.findall(r"^LoadCredential=([^:]+):", TEXT, re.MULTILINE)
    assert re.findall(rf"{re.escape(handed)}(\S+)", sample) == credentials
    for name in credentials:
        (tmp_path / name).write_text("made-up", encoding="utf-8")
    config = tmp_path / "exporter.yaml"
    config.write_text(sample.replace(handed, f"{tmp_path}/"), encoding="utf-8")
    assert load_config(config).storage.url == f"sqlite:///{STATE}/books.db"
