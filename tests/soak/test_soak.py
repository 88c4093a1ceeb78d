"""The soak, scaled down: an hour and a half of a busy service. ``make soak`` runs ten days."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import UNKNOWABLE, soak


@pytest.mark.slow
def test_ninety_minutes_with_faults_and_kills_are_exact(tmp_path: Path) -> None:
    """Every counter by label equals the truth, and every publication on the way balanced."""
    result = soak(tmp_path, days=0.0625, jobs_per_day=100_000, seed=11)
    assert result.expected == result.counted
    assert result.imbalances == 0
    assert result.total("created") > 2_000
    assert result.happened["kills"] >= 1
    assert result.happened["records deleted"] >= 1
    assert result.happened["finished jobs shown as open"] >= 1
    assert result.happened["open jobs shown with another service"] >= 1
    assert result.samples[-1].remembered == 0


@pytest.mark.slow
def test_jobs_that_vanish_go_back_or_change_count_at_most_once(tmp_path: Path) -> None:
    """No more is missed than was deleted, or shown as open again, before a poll saw it; nothing doubles."""
    result = soak(tmp_path, days=0.04, jobs_per_day=100_000, seed=12, oddities=UNKNOWABLE)
    assert result.explained
    assert result.total("created") > 2_000
    assert min(result.regressing, result.vanishing) > 5
