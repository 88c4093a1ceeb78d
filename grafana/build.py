"""Writes ``grafana/dashboards/*.json``: ``python -m grafana.build``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from exporter.exposition.catalog import METRICS
from grafana import exporter_api, failures, further, overview, usage

FOLDER: Final = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """The text of every file by its name."""
    texts = {
        "overview.json": overview.build(),
        "failures.json": failures.build(),
        "usage.json": usage.build(),
        "exporter-api.json": exporter_api.build(),
    }
    if others := further.panels(METRICS, "".join(texts.values())):
        texts["exporter-api.json"] = exporter_api.build(others)
    return texts


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
