"""``assets``: what Grafana and Prometheus need of this version, as files, without the source tree.

The wheel has them in ``exporter/assets``; a source tree has them at its top.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

import exporter
from exporter.commands.console import whole_file
from exporter.errors import ExporterError
from exporter.process import reason

ASSETS: Final = (
    "exporter.yaml",
    "exporter.schema.json",
    "grafana/dashboards",
    "grafana/provisioning",
    "prometheus/prometheus.yml",
    "prometheus/rules",
)
"""Files and folders. `pyproject.toml` puts the same into the wheel."""


def write_assets(folder: Path, *, force: bool, out: TextIO) -> int:
    """0. Raises ExporterError when one cannot be written, or exists and differs; then none is written."""
    if folder.exists() and not folder.is_dir():
        raise ExporterError(f"cannot write into {folder}: it is no folder")
    package = Path(exporter.__file__).parent
    source = package / "assets" if (package / "assets").is_dir() else package.parent
    try:
        wanted = {folder / path.relative_to(source): path.read_bytes() for path in _files(source)}
        present = {path: path.read_bytes() for path in wanted if path.exists()}
        differing = [path for path, content in present.items() if content != wanted[path]]
        if differing and not force:
            names = ", ".join(str(path) for path in differing)
            say = "differs: --force replaces it" if len(differing) == 1 else "differ: --force replaces them"
            raise ExporterError(f"nothing written: {names} {say}")
        for path, content in wanted.items():
            if present.get(path) != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as file:
                    file.write(content)
                print(path, file=out)
    except OSError as error:
        raise ExporterError(f"cannot write {folder}: {reason(error)}") from error
    print(f"{len(wanted)} files in {folder}, of version {exporter.__version__}", file=out)
    return 0


def _files(source: Path) -> Iterator[Path]:
    for name in ASSETS:
        path = source / name
        yield from sorted(it for it in path.rglob("*") if it.is_file()) if path.is_dir() else (path,)
