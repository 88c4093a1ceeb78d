"""What is counted is published."""

from __future__ import annotations

import pytest

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
    (LABEL_SET, "SUCCEED"),
    (LABEL_SET, totals.INF),
    (NO_LABELS, ""),
    (NO_LABELS, "one"),
    (NO_LABELS, totals.INF),
]
"""Labels and details that totals have: by label set, of histograms, without labels."""


def snapshot_with(name: str | None) -> TargetView:
    """Of a ledger in which the total with this name, if any, is not zero."""
    ledger = new_ledger()
    for label_set, detail in PLACES if name else ():
        ledger.totals.add(name or "", label_set, detail)
    before = TargetView(target="t", region="r", project_id="", api_endpoint="https://api")
    return take_snapshot(before, ledger, START, project_id="p", last_complete_poll=None)


@pytest.mark.parametrize("name", NAMES)
def test_every_total_reaches_what_is_published(name: str) -> None:
    """One that ``take_snapshot`` leaves out would be a metric that stays 0."""
    assert snapshot_with(name) != snapshot_with(None), f"take_snapshot leaves the total {name!r} out"


def test_a_total_of_no_name_is_not_published() -> None:
    """So the comparison above can fail."""
    assert snapshot_with("nothing") == snapshot_with(None)
