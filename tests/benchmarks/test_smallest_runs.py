"""Each benchmark runs to its end, with as little to measure as there can be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import freshness, memory, memory_cost, page_cost, poll_cost, process_cost, publication
from benchmarks.hostile import __main__ as hostile
from benchmarks.replicas import __main__ as replicas
from benchmarks.replicas import commits, follow, week
from benchmarks.scrape import __main__ as scrape
from benchmarks.scrape import data
from benchmarks.scrape import poll as scrape_poll
from benchmarks.scrape.servers import SERVERS
from benchmarks.targets import __main__ as targets
from testkit.postgres import server_programs
from tests.conftest import Tool

Printed = pytest.CaptureFixture[str]


def called_with(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])


def test_the_benchmark_of_polls_runs(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    quiet = poll_cost.Workload("quiet", per_minute=1.0, warm_up=60.0, measured=60.0)
    monkeypatch.setattr(poll_cost, "WORKLOADS", (quiet,))
    called_with(monkeypatch, "quiet")
    poll_cost.main()
    assert '"workload":"quiet"' in capsys.readouterr().out


def test_the_benchmark_of_freshness_runs(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    short = poll_cost.Workload("short", per_minute=30.0, warm_up=60.0, measured=120.0)
    monkeypatch.setattr(poll_cost, "WORKLOADS", (short,))
    called_with(monkeypatch)
    freshness.main()
    assert '"workload":"short"' in capsys.readouterr().out


def test_the_benchmark_of_pages_runs(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr(page_cost, "PAGES", 18)
    page_cost.main()
    assert "settle and forget" in capsys.readouterr().out


def test_the_benchmark_of_memory_runs(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    called_with(monkeypatch, "1000")
    memory_cost.main()
    assert '"open jobs":1000' in capsys.readouterr().out


def test_the_benchmark_of_publication_runs(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    for name, value in (("INTERVAL", 0.1), ("LONGEST_GAP", 0.1), ("ROUNDS", 1), ("SCRAPE_EVERY", (0.02,))):
        monkeypatch.setattr(publication, name, value)
    called_with(monkeypatch, "2")
    publication.main()
    assert '"targets":2' in capsys.readouterr().out


@pytest.mark.program
def test_the_benchmark_of_what_a_target_costs_runs(tmp_path: Path) -> None:
    """Polled targets are larger than loaded ones, and every import was made."""
    cost = memory.cost_of_targets(tmp_path, targets=2, jobs=100)
    assert cost["the same, polling, with its connection, KiB"] > cost["a target with all 24 pairs, KiB"] > 0
    assert [name for name, _, _ in memory.cost_of_imports()] == ["Python", *memory.IMPORTS]


@pytest.mark.e2e
def test_the_benchmark_of_the_process_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process_cost, "STORED_JOBS", 1000)
    monkeypatch.setattr(process_cost, "STARTS", 1)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "")  # the benchmark sets it: it is set back afterwards
    for name in ("catch-up", "start"):
        (tmp_path / name).mkdir()
    assert process_cost.catch_up(tmp_path / "catch-up", hours=0.3, watch=0.1)["jobs"] > 0
    assert process_cost.start(tmp_path / "start")["seconds, best"] > 0


@pytest.mark.e2e
def test_the_benchmark_of_scrapes_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The peers in Go and nginx need programs that few have."""
    names = [scrape.OURS, "prometheus-client"]
    monkeypatch.setattr(scrape, "SERVERS", {name: SERVERS[name] for name in names})
    cells = scrape.row(data.SIZES[0], True, 0.1, tmp_path)
    assert [cell.server for cell in cells] == names


@pytest.mark.e2e
def test_the_benchmark_of_scrapes_during_a_poll_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scrape_poll, "AWAY_SECONDS", 600)
    monkeypatch.setattr(scrape_poll, "PAUSE", 0.0)
    assert scrape_poll.run(tmp_path).scrapes > 0


@pytest.mark.e2e
def test_the_benchmark_of_targets_runs(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setattr(targets, "PLAN", targets.Plan(0.0, 0.5, 0.5))
    monkeypatch.setattr(targets, "INTERVAL", 1)
    monkeypatch.setattr(targets, "SCRAPE_EVERY", 0.5)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "")  # the benchmark sets it: it is set back afterwards
    monkeypatch.setenv("PROBE_FILE", "")
    called_with(monkeypatch, "--targets=2")
    targets.main()
    out = capsys.readouterr().out
    assert "\n| 2, 1 s |" in out
    assert '"targets":2' in out


@pytest.mark.e2e
def test_the_benchmark_of_hostile_clients_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, tool: Tool
) -> None:
    tool("prometheus")
    for name in ("WARM_SECONDS", "AFTER_SECONDS", "QUIET_SECONDS"):
        monkeypatch.setattr(hostile, name, 0.1)
    called_with(monkeypatch, "--targets=1", "--clients=2", "--seconds=1", "--kind=half closes")
    hostile.main()
    assert capsys.readouterr().out.count("\n| ") >= 2


@pytest.fixture
def database_server(tool: Tool) -> None:
    """Is installed: each benchmark starts one of its own."""
    if server_programs() is None:
        tool("initdb")


@pytest.mark.e2e
def test_the_benchmark_of_commits_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, database_server: None
) -> None:
    monkeypatch.setattr(commits, "WARM_UP", 4)
    monkeypatch.setattr(commits, "MEASURED", 4)
    commits.main()
    assert capsys.readouterr().out.count("\n| with ") == 4


@pytest.mark.e2e
def test_the_benchmark_of_following_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, database_server: None
) -> None:
    for name, value in (("POLLS", 8), ("MEASURED", 4)):
        monkeypatch.setattr(follow, name, value)
    follow.main()
    printed = capsys.readouterr().out
    assert "the same either way: True" in printed
    assert "| what changed |" in printed


@pytest.mark.e2e
def test_the_benchmark_of_replicas_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, database_server: None
) -> None:
    for name, value in (("WARM_UP", 0.0), ("MEASURED", 0.5), ("INTERVAL", 1)):
        monkeypatch.setattr(replicas, name, value)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "")  # the benchmark sets it: it is set back afterwards
    called_with(monkeypatch, "--targets=2", "--replicas=2")
    replicas.main()
    assert '"targets":2,"replicas":2' in capsys.readouterr().out


@pytest.mark.e2e
def test_the_benchmark_of_a_week_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, database_server: None
) -> None:
    called_with(monkeypatch, "--days=0.02")
    week.main()
    assert "the same in SQLite: " in capsys.readouterr().out
