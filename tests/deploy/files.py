"""The deployment's files as data, for tests that compare them with each other and with the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
OVERLAYS = KUBERNETES / "overlays"
UNIT = ROOT / "deploy" / "systemd" / "metastudio-tts-exporter.service"

USER = 65532
STATE = "/var/lib/metastudio-tts-exporter"
CONFIG = "/etc/metastudio-tts-exporter/exporter.yaml"


def load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)  # ten times as fast


def manifests(overlay: str) -> dict[str, Any]:
    """What ``kubectl kustomize`` makes of it, by kind; of kustomize only what our overlays use."""
    return {each["kind"]: each for each in _kustomized(OVERLAYS / overlay)}


def _kustomized(folder: Path) -> list[Any]:
    said = load(folder / "kustomization.yaml")
    assert said.keys() <= {"apiVersion", "kind", "resources", "patches"}
    found: list[Any] = []
    for name in said["resources"]:
        path = folder / name
        found += _kustomized(path) if path.is_dir() else [load(path)]
    for patch in said.get("patches", ()):
        target = patch["target"]
        (patched,) = (each for each in found if each["kind"] == target["kind"])
        assert patched["metadata"]["name"] == target["name"]
        for operation in load(folder / patch["path"]):
            _apply(patched, **operation)
    return found


def _apply(manifest: Any, op: str, path: str, value: Any = None) -> None:
    """One operation of a JSON patch."""
    *steps, last = path.strip("/").split("/")
    for step in steps:
        manifest = manifest[int(step)] if isinstance(manifest, list) else manifest[step]
    if op == "remove":
        del manifest[last]
    elif isinstance(manifest, list):
        assert (op, last) == ("add", "-")
        manifest.append(value)
    else:
        assert (last in manifest) == (op == "replace")
        manifest[last] = value


def instructions(name: str) -> list[str]:
    """What the Dockerfile says after this word, continued lines joined."""
    lines = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} ")]
