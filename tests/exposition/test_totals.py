"""What is counted is published."""

from __future__ import annotations

import pytest

from exporter.exposition.catalog import JOB_METRICS, POLL_METRICS
from exporter.exposition.samples import Samples
from exporter.ledger import totals
from exporter.ledger.snapshot import TargetView, take_snapshot
from testkit.world import START
from tests.ledger.support import LABEL_SET, new_ledger

NO_TOTALS = {"INF", "SUM", "OTHER"}
NAMES = sorted(
    value
    for name, value in vars(totals).items()
    if name.isupper() and isinstance(value, str) and name not in NO_TOTALS
)
NO_LABELS = ("", "")
PLACES = [
    (LABEL_SET, ""),
    (LABEL_SET, "SUCCEED"),
    (LABEL_SET, totals.INF),
    (NO_LABELS, ""),
    (NO_LABELS, "one"),
    (NO_LABELS, totals.INF),
]
"""Labels and details that totals have: by label set, of histograms, without labels."""


def published_with(name: str | None) -> dict[str, Samples]:
    """Every metric of a ledger in which the total with this name, if any, is not zero."""
    ledger = new_ledger()
    for label_set, detail in PLACES if name else ():
        ledger.totals.add(name or "", label_set, detail)
    before = TargetView(target="t", region="r", project_id="", api_endpoint="https://api")
    view = take_snapshot(before, ledger, START, project_id="p", last_complete_poll=None)
    return {metric.name: list(metric.samples(view)) for metric in (*JOB_METRICS, *POLL_METRICS)}


@pytest.mark.parametrize("name", NAMES)
def test_every_total_reaches_what_is_published(name: str) -> None:
    """One that no metric shows would be counted for nobody."""
    assert published_with(name) != published_with(None), f"no metric shows the total {name!r}"


def test_a_total_of_no_name_is_not_published() -> None:
    """So the comparison above can fail."""
    assert published_with("nothing") == published_with(None)
