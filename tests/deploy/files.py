"""The deployment's files as data, for tests that compare them with each other and with the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
UNIT = ROOT / "deploy" / "systemd" / "metastudio-tts-exporter.service"

USER = 65532
STATE = "/var/lib/metastudio-tts-exporter"
CONFIG = "/etc/metastudio-tts-exporter/exporter.yaml"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def instructions(name: str) -> list[str]:
    """What the Dockerfile says after this word, continued lines joined."""
    lines = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} ")]
