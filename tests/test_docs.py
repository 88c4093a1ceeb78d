"""The generated pages are those that the code would generate."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.exposition.catalog import METRICS

ROOT = Path(__file__).parent.parent
COSTS = [ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "capacity.md"]


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


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", COSTS, ids=lambda page: page.name)
def test_links_of_pages_on_costs_lead_somewhere(page: Path) -> None:
    """Within this repository, and to a heading that exists."""
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8"))
    assert links
    for path, anchor in links:
        there = page.parent / path if path else page
        assert there.exists()
        assert not anchor or anchor in anchors(there)


def test_the_benchmarks_that_are_named_exist() -> None:
    """As modules that run, or as what make knows."""
    text = COSTS[0].read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (benchmarks[.\w]*)", text))
    assert "benchmarks.targets" in modules
    for module in modules:
        assert importlib.util.find_spec(module) is not None
    targets = set(re.findall(r"(?:`|^    )make ([\w-]+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {target for target in targets if f"\n{target}:" not in makefile} == set()


def test_the_page_on_capacity_names_what_exists() -> None:
    """Its flags are those of ``tests/e2e/test_shards.py``."""
    text = COSTS[1].read_text(encoding="utf-8")
    ours = set(re.findall(r"`(metastudio_\w+)`", text))
    assert ours
    assert ours <= {metric.name for metric in METRICS}
