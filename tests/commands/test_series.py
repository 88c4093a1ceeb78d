"""``check --estimate``: the series that it counts are those that the program shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.series import SCRAPES_A_DAY, SeriesEstimate, estimate_series
from exporter.config import load_config
from testkit.processes import Samples, exporter, simulator, total, wait_for, write_config
from tests.paths import ROOT

TARGET = "{name: a, region: r}"


def estimated(folder: Path, metrics: str = "{}", target: str = TARGET) -> SeriesEstimate:
    path = folder / "exporter.yaml"
    path.write_text(f"metrics: {metrics}\ntargets: [{target}]\n")
    _, (one,) = estimate_series(load_config(path))
    return one


def test_each_setting_makes_fewer_series(tmp_path: Path) -> None:
    """Fewer histogram labels once jobs are seen, and fewer pairs at 0 before."""
    default = estimated(tmp_path)
    by_type, alone = (estimated(tmp_path, f"{{histogram_labels: {kept}}}") for kept in ("[job_type]", "[]"))
    seen = estimated(tmp_path, "{zero_series: seen}")
    histograms = (9 + 3) + 2 * (13 + 3)
    assert default.first == by_type.first == alone.first
    assert default.full - by_type.full == (24 - 4) * histograms
    assert default.full - alone.full == (24 - 1) * histograms
    assert (seen.first < default.first / 2, seen.full) == (True, default.full)


def test_filters_and_created_timestamps_are_counted(tmp_path: Path) -> None:
    """They change what a scrape holds."""
    default = estimated(tmp_path)
    one_type = estimated(tmp_path, target="{name: a, region: r, filters: {job_type: PRELOAD}}")
    assert one_type.full < default.full
    assert estimated(tmp_path, "{created_timestamps: true}").full > default.full


def test_the_page_on_metrics_has_these_numbers(tmp_path: Path) -> None:
    """Its table of settings: series of a target, and millions of samples a day, from and to."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^ *\| (defaults|`.*_.*`) \| ([\d,]+) to ([\d,]+) \| (\S+) to (\S+) million \|$", page, re.M
    )
    assert len(rows) == 5
    for setting, *shown in rows:
        made = estimated(tmp_path, "{}" if setting == "defaults" else f"{{{setting.replace('`', '')}}}")
        assert shown == [
            *(f"{series:,}" for series in (made.first, made.full)),
            *(f"{series * SCRAPES_A_DAY / 1e6:.1f}" for series in (made.first, made.full)),
        ]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "metrics",
    [{}, {"histogram_labels": [], "zero_series": "seen"}, {"created_timestamps": True}],
    ids=["default", "fewest", "created"],
)
def test_the_program_shows_as_many(metrics: dict[str, Any], tmp_path: Path) -> None:
    """After its first complete polls of an API that has no jobs, to the series."""
    with simulator(tmp_path, "--rate", "0.000001", "--history", "0") as cloud:
        config = write_config(tmp_path, cloud, metrics=metrics)
        process, (one,) = estimate_series(load_config(config))
        with exporter(config, tmp_path) as program:

            def polled() -> Samples | None:
                found = program.samples()
                name = "metastudio_exporter_polls_total"
                return found if found and total(found, name, outcome="complete") >= 2 else None

            samples = wait_for("polls", polled)
    assert total(samples, "metastudio_tts_jobs_created_total") == 0
    assert len(samples) == process + one.first
