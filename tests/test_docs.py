"""The generated pages are those that the code would generate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from exporter.exposition.catalog import METRICS

ROOT = Path(__file__).parent.parent


def test_the_metrics_page_is_fresh() -> None:
    """Otherwise: ``make docs``."""
    generated = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--print"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert (ROOT / "docs" / "metrics.md").read_bytes() == generated.stdout, "stale: run make docs"


def test_the_metrics_page_has_every_metric_once() -> None:
    """Sections are chosen by hand: none may be forgotten."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [page.count(f"| `{metric.name}` |") for metric in METRICS] == [1] * len(METRICS)
