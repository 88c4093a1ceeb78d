"""What the README tells users to do works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from exporter.config import AkskAuth, load_config
from exporter.exposition.catalog import METRICS
from tests.conftest import Tool

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_its_make_targets_exist() -> None:
    """The two commands, as they are written."""
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")]
    assert commands == ["make demo", "make test"]
    for command in commands:
        subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, timeout=30, check=True)


def test_the_build_server_runs_the_same_command() -> None:
    """One command for people and machines."""
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("\nmake test")


def test_its_minimal_configuration_is_complete(tmp_path: Path) -> None:
    """It loads as it stands, given the secret files that it names."""
    text = blocks("yaml")[0]
    for name in ("access-key", "secret-key"):
        (tmp_path / name).write_text("made-up\n", encoding="utf-8")
        assert f"/etc/metastudio-tts-exporter/{name}" in text
    config = tmp_path / "exporter.yaml"
    config.write_text(text.replace("/etc/metastudio-tts-exporter", str(tmp_path)), encoding="utf-8")
    loaded = load_config(config)
    assert [target.name for target in loaded.targets] == ["production"]
    assert isinstance(loaded.targets[0].auth, AkskAuth)


def test_its_scrape_configuration_is_valid(tool: Tool, tmp_path: Path) -> None:
    """Prometheus accepts it as it stands."""
    config = tmp_path / "prometheus.yml"
    config.write_text(blocks("yaml")[1], encoding="utf-8")
    checked = subprocess.run(
        [tool("promtool"), "check", "config", config], capture_output=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stderr.decode()


def test_its_queries_name_metrics_that_exist() -> None:
    """Spelled as declared."""
    names = set(re.findall(r"metastudio_\w+", "".join(blocks("promql"))))
    assert names
    assert names <= {metric.name for metric in METRICS}


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_its_links_lead_somewhere(target: str) -> None:
    """Within this repository."""
    assert (ROOT / target).exists()
