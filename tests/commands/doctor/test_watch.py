"""``--watch``: how records appear, change and vanish, and the overlap that is proposed for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from exporter.commands.doctor.findings import Finding, Verdict
from exporter.commands.doctor.report import config_lines
from exporter.commands.doctor.watch import findings_of, watch, with_proposed
from exporter.config import Config
from tests.commands.doctor.corners import CORNERS, Corner
from tests.commands.doctor.counting import difference, fresh_cloud
from tests.commands.doctor.support import SimulatedCloud, configuration, new_target

SECONDS = 300.0
STEADY: dict[str, Any] = {"noise": 0.0}


def watched(corner: Corner, lines: tuple[str, ...] = (), seconds: float = SECONDS) -> dict[str, Finding]:
    """What five minutes of watching that API show."""
    cloud = SimulatedCloud(corner.options, {**STEADY, **corner.world}, rate=60.0, hours=0.5)
    target = with_proposed(new_target(), lines)
    config: Config = configuration(target)

    async def run() -> tuple[Finding, ...]:
        client = cloud.client(target)
        try:
            seen = await watch(
                client, target, seconds, monotonic=cloud.time.monotonic, sleep=cloud.time.sleep
            )
            return findings_of(seen, config, seconds)
        finally:
            await client.aclose()

    return {finding.name: finding for finding in asyncio.run(run())}


@pytest.mark.slow
def test_an_orderly_list_shows_nothing_odd() -> None:
    """Jobs appear at once, stay, keep their labels and their final state."""
    findings = watched(Corner())
    assert [finding.verdict for finding in findings.values()] == [Verdict.OK] * 4
    assert "300 jobs" not in findings["late records"].text  # some were there before


@pytest.mark.slow
def test_late_records_lead_to_an_overlap_that_counts_them(tmp_path: Path) -> None:
    """Without it some are lost; with it none."""
    corner = Corner(world={"late": 0.3, "late_seconds": 280.0})
    found = watched(corner)["late records"]
    assert found.verdict is Verdict.DIFFERS
    (line,) = found.poll
    assert difference(fresh_cloud(corner), (), tmp_path, jobs_per_minute=60.0) != ""
    assert difference(fresh_cloud(corner), (), tmp_path, jobs_per_minute=60.0, poll=line) == ""


@pytest.mark.slow
def test_an_overlap_that_is_enough_is_kept() -> None:
    """Records that are late by seconds."""
    found = watched(Corner(world={"late": 0.3, "late_seconds": 60.0}))["late records"]
    assert (found.verdict, found.poll) == (Verdict.OK, ())
    assert "up to" in found.text


def test_a_short_watch_proves_no_overlap() -> None:
    """Nothing late within twenty seconds says nothing of a minute."""
    found = watched(Corner(), seconds=20.0)["late records"]
    assert found.verdict is Verdict.NOT_KNOWN
    assert "too short: watch for 5m or longer" in found.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "name"),
    [
        ({"vanish": 0.3, "vanish_seconds": 20.0}, "vanished records"),
        ({"label_change": 0.3}, "changed labels"),
        ({"regression": 0.3}, "final states"),
    ],
    ids=["vanish", "labels", "states"],
)
def test_what_changes_is_seen(world: dict[str, Any], name: str) -> None:
    """And no other finding speaks of it."""
    findings = watched(Corner(world=world))
    assert {it.name for it in findings.values() if it.verdict is not Verdict.OK} == {name}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["naive-china", "only-unix-ms", "no-time-filters", "clipped-pages", "no-order", "count-of-all"]
)
def test_the_list_is_read_with_the_proposed_lines(name: str) -> None:
    """Otherwise nothing could be watched there."""
    corner = CORNERS[name]
    lines = config_lines(SimulatedCloud(corner.options, corner.world).findings().values())
    assert [finding.verdict for finding in watched(corner, lines).values()] == [Verdict.OK] * 4


def test_a_list_without_jobs_shows_nothing() -> None:
    """It is said, instead of four times ok."""
    findings = watched(Corner({"isolated": True}))
    assert [(it.name, it.verdict) for it in findings.values()] == [("late records", Verdict.NOT_KNOWN)]
