"""The same numbers and alerts, however many replicas there are and whatever happens to one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.prometheus.native import Series, converted
from tests.prometheus.replicas import NOW, SCHEDULES, kept, with_replicas
from tests.prometheus.rules import MS, Rule, groups, rules
from tests.prometheus.test_rules import OF_PROMETHEUS, TEST_FILES, Tool, level, run, run_tests

RECORDED: Final = sorted(
    rule["record"]
    for rule in rules("record")
    if "target" in (found := level(rule["record"])) and not found & OF_PROMETHEUS
)


@pytest.mark.slow
def test_one_replica_and_three_give_the_same_numbers(release: Tool, tmp_path: Path) -> None:
    """Books are the same on each of them but for one that is behind, a process' requests are divided."""
    compare(release("promtool"), tmp_path, kept)


@pytest.mark.slow
def test_so_they_do_with_native_histograms(prometheus_3: Tool, tmp_path: Path) -> None:
    """Of which there is no greatest."""
    compare(prometheus_3("promtool"), tmp_path, lambda behind: converted(kept(behind)))


def compare(promtool: Path, tmp_path: Path, kept: Callable[[int], Series]) -> None:
    stale = [name for name in RECORDED if name.endswith(":stale")]
    fresh = [name for name in RECORDED if name not in stale]
    tests = [
        {
            "interval": "1m",
            "input_series": kept(behind),
            "promql_expr_test": [same(name, target) for name in names for target in SCHEDULES],
        }
        for behind, names in ((300, fresh), (3000, stale))
    ]
    order = [group["name"] for group in groups()]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": groups()}))
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "group_eval_order": order}
    (tmp_path / "test.yaml").write_text(json.dumps({**test, "tests": tests}))
    run(promtool, "test", "rules", tmp_path / "test.yaml")


def same(name: str, target: str) -> dict[str, Any]:
    """The target, scraped from several replicas, has what target ``one`` has; and that is not nothing."""
    difference = f'abs({name}{{target="one"}} - ignoring (target) {name}{{target="{target}"}})'
    expr = f'count({name}{{target="one"}}) - count({difference} < 1e-9)'
    return {"expr": expr, "eval_time": f"{NOW}m", "exp_samples": [{"labels": "{}", "value": 0}]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in TEST_FILES if path.stem != "replicas"], ids=lambda path: path.stem
)
def test_three_replicas_give_the_same_alerts(tool: Tool, path: Path, tmp_path: Path) -> None:
    """While one of them joins, and another one's books stand still and go on."""
    test = yaml.safe_load(path.read_text())
    for each in test["tests"]:
        number, unit = re.fullmatch(r"(\d+)(\w+)", each["interval"]).groups()  # type: ignore[union-attr]
        each["input_series"] = with_replicas(each["input_series"], int(number) * MS[unit] // 1000)
    other = 'alertstate=\\"firing\\",alertname!=\\"MetaStudioTTSReplicaBehind\\"'  # which is right
    text = json.dumps(test).replace('alertstate=\\"firing\\"', other)
    run_tests(tool("promtool"), json.loads(text), tmp_path)


@pytest.mark.slow
def test_without_these_clauses_numbers_would_differ(tool: Tool, tmp_path: Path) -> None:
    """So the schedules prove something."""

    def bare(rule: Rule) -> Rule:
        expr = re.sub(r"unless on \(job, instance, target\)\s+[\w:]+", "", rule["expr"])
        return {**rule, "expr": expr}

    made = [{**group, "rules": [bare(rule) for rule in group["rules"]]} for group in groups()]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": made}))
    names = ["target:metastudio_tts_open_jobs:sum", "target:metastudio_tts_jobs_finished:increase5m"]
    expected = [
        same(names[0], "cut_off"),
        same(names[1], "cut_off_and_back"),
        same(names[1], "stopped_and_resumed"),
    ]
    for each in expected:
        each["exp_samples"] = []
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": kept(300), "promql_expr_test": expected}],
    }
    (tmp_path / "test.yaml").write_text(json.dumps(test))
    run(tool("promtool"), "test", "rules", tmp_path / "test.yaml")
