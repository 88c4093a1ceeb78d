"""Every YAML file of the deployment is well-formed and of its kind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import Tool
from tests.deploy.files import COMPOSE, KUBERNETES, ROOT, load, manifests

NOT_OF_THE_CLUSTER = {"Kustomization", "ServiceMonitor", "PrometheusRule"}
CORE = [
    path
    for path in [*sorted(KUBERNETES.rglob("*.yaml")), KUBERNETES / "secret.yaml.example"]
    if isinstance(loaded := load(path), dict) and loaded["kind"] not in NOT_OF_THE_CLUSTER
]
FOLDERS = ("deploy", "grafana", "prometheus")
FILES = [COMPOSE, ROOT / "exporter.yaml", KUBERNETES / "secret.yaml.example"]
FILES += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.y*ml"))]


def run(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout.decode()


@pytest.mark.slow
def test_yamllint_finds_nothing(tool: Tool) -> None:
    """No duplicate key, no stray indentation (.yamllint)."""
    code, said = run(tool("yamllint"), "--strict", *(path.relative_to(ROOT) for path in FILES))
    assert code == 0, said


def test_the_compose_file_follows_the_compose_specification(tool: Tool) -> None:
    """By the schema that check-jsonschema carries."""
    code, said = run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert code == 0, said


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_a_manifest_follows_its_schema(tool: Tool, path: Path) -> None:
    """Strictly: a key that Kubernetes does not know is a mistake."""
    code, said = run(tool("kubernetes-validate"), "--strict", path)
    assert code == 0, said


@pytest.mark.parametrize("overlay", ["single", "replicas"])
def test_what_an_overlay_makes_follows_its_schema(tool: Tool, overlay: str, tmp_path: Path) -> None:
    """Each manifest, patched."""
    made = tmp_path / "made.yaml"
    made.write_text(yaml.safe_dump_all(manifests(overlay).values()))
    code, said = run(tool("kubernetes-validate"), "--strict", made)
    assert code == 0, said
