"""``assets`` and ``demo --incident``: what they write and refuse."""

from __future__ import annotations

import asyncio
import io
import tomllib
from pathlib import Path

import pytest

from exporter import log
from exporter.commands.assets import ASSETS, write_assets
from exporter.commands.demo import demo
from exporter.errors import ExporterError
from tests.paths import ROOT


def test_every_file_is_written_once(tmp_path: Path) -> None:
    """As the source tree has it; a second run changes nothing."""
    out = io.StringIO()
    assert write_assets(tmp_path / "a", force=False, out=out) == 0
    assert (tmp_path / "a/exporter.yaml").read_bytes() == (ROOT / "exporter.yaml").read_bytes()
    for folder in ("grafana/dashboards", "grafana/provisioning", "prometheus/rules"):
        there = {path.name for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {path.name for path in (tmp_path / "a" / folder).rglob("*") if path.is_file()} == there
    again = io.StringIO()
    write_assets(tmp_path / "a", force=False, out=again)
    assert len(again.getvalue().splitlines()) == 1


def test_files_that_differ_are_left_alone(tmp_path: Path) -> None:
    """And nothing else is written; ``--force`` replaces them."""
    (tmp_path / "exporter.yaml").write_text("mine")
    with pytest.raises(ExporterError, match=r"nothing written: .*exporter\.yaml differ"):
        write_assets(tmp_path, force=False, out=io.StringIO())
    assert [path.name for path in tmp_path.iterdir()] == ["exporter.yaml"]
    write_assets(tmp_path, force=True, out=io.StringIO())
    assert (tmp_path / "exporter.yaml").read_bytes() == (ROOT / "exporter.yaml").read_bytes()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """One line with the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(ExporterError, match=r"cannot write .*: Not a directory"):
        write_assets(tmp_path / "file" / "x", force=False, out=io.StringIO())


def test_a_file_is_no_folder_to_write_into(tmp_path: Path) -> None:
    """It stays."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExporterError, match="it is no folder"):
        write_assets(tmp_path / "file", force=True, out=io.StringIO())
    assert (tmp_path / "file").read_text() == "mine"


def test_the_wheel_has_what_the_command_writes() -> None:
    """The build copies these and no others."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {name: f"exporter/assets/{name}" for name in ASSETS}


def test_an_unknown_incident_is_refused_with_those_there_are() -> None:
    """Before anything starts."""
    with pytest.raises(ExporterError, match=r"--incident 'x' is unknown; there are .*stuck_queue"):
        asyncio.run(
            demo(
                asyncio.Event,
                listen_addresses=[],
                telemetry_path="/metrics",
                incidents=["x"],
                redactor=log.Redactor(),
            )
        )
