"""With the lines that doctor proposes, counts are exact; where it says "unusable", they cannot be."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from exporter.commands.doctor.report import config_lines
from tests.commands.doctor.corners import CORNERS, Corner
from tests.commands.doctor.counting import difference, fresh_cloud
from tests.commands.doctor.support import SimulatedCloud

ANSWERED = {name: corner for name, corner in CORNERS.items() if corner.verdict != "unusable"}
UNUSABLE = {name: corner for name, corner in CORNERS.items() if corner.verdict == "unusable"}
OTHERS_JOBS = "isolated-own-jobs"
"""What this user cannot see, nobody counts."""
QUICK = ("documented", "naive-china", "only-unix", "count-of-all", "offset-by-page", "no-create-times")
PAIRED = (
    "oldest-first", "no-order", "naive-china", "unix-ms-times", "only-unix", "no-time-filters",
    "bounds-in-local-time", "exclusive-ends", "count-of-all", "count-of-page", "no-count", "clipped-pages",
    "offset-by-page", "offset-ignored", "shallow-offsets-refused", "ignored-job-id", "no-job-ids",
    "some-create-times-missing",
)  # fmt: skip
"""One of each kind of corner that can be answered."""


@pytest.mark.parametrize("name", QUICK)
def test_the_proposed_lines_make_counts_exact_in_brief(name: str, tmp_path: Path) -> None:
    """Of each kind one, with few jobs."""
    corner = CORNERS[name]
    assert difference(fresh_cloud(corner), corner.config, tmp_path, jobs_per_minute=40.0) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ANSWERED if name != OTHERS_JOBS])
def test_the_proposed_lines_make_counts_exact(name: str, tmp_path: Path) -> None:
    """Five jobs a second: a stretch takes several pages, a second less than one."""
    corner = CORNERS[name]
    assert difference(fresh_cloud(corner), corner.config, tmp_path) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_called_unusable_cannot_be_counted(name: str, tmp_path: Path) -> None:
    """Ten jobs a second."""
    assert difference(fresh_cloud(CORNERS[name]), (), tmp_path, jobs_per_minute=600.0) != ""


def pairs() -> list[object]:
    """Those that do not contradict each other: every fourth, or all where ALL_PAIRS is set (ten minutes)."""
    found: list[object] = [
        pytest.param(_both(CORNERS[one], CORNERS[other]), id=f"{one}+{other}")
        for one, other in itertools.combinations(PAIRED, 2)
        if not CORNERS[one].options.keys() & CORNERS[other].options.keys()
    ]
    return found if "ALL_PAIRS" in os.environ else found[::4]


def _both(one: Corner, other: Corner) -> Corner:
    return Corner({**one.options, **other.options}, {**one.world, **other.world})


@pytest.mark.slow
@pytest.mark.parametrize("corner", pairs())
def test_a_pair_of_corners_is_exact_or_called_unusable(corner: Corner, tmp_path: Path) -> None:
    """Doctor sees an hour of jobs; the exporter counts new ones with the lines that doctor proposed."""
    findings = SimulatedCloud(corner.options, corner.world).findings()
    reasons = [finding.text for finding in findings.values() if finding.verdict == "unusable"]
    lines = config_lines(findings.values())
    assert len({line.partition(":")[0] for line in lines}) == len(lines), "two values for one key"
    if not reasons:
        assert difference(fresh_cloud(corner), lines, tmp_path, jobs_per_minute=200.0) == ""
    assert all(reasons)
