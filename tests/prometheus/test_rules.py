"""The rules: valid, true to the table of metrics, silent on stale books, the same for any replicas."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser as promql
import pytest
import yaml

from exporter.exposition.catalog import METRICS
from tests.prometheus.fewer import only_seen, with_fewer_labels
from tests.prometheus.native import HISTOGRAMS, converted, has_histograms
from tests.prometheus.rules import (
    DURATION,
    MS,
    ROOT,
    RULES,
    SECONDS,
    TESTS,
    Rule,
    groups,
    needed,
    quickened,
    read_yaml,
    rules,
)

Tool = Callable[[str], Path]

TEST_FILES: Final = sorted(TESTS.glob("*.yaml"))
TABLE: Final = {metric.name: metric for metric in METRICS}
OF_PROMETHEUS: Final = {"job", "instance"}
"""What tells replicas apart."""
LABELS: Final = {label for metric in METRICS for label in metric.labels} | OF_PROMETHEUS
ALERTS: Final = {rule["alert"]: rule for rule in rules("alert")}
RECORDS: Final = {rule["record"]: rule for rule in rules("record")}
NOT_AGGREGATED: Final = {
    "up": "Prometheus' own, about each scrape target",
    "metastudio_exporter_build_info": "only whether there is any",
    "metastudio_exporter_config_last_reload_successful": "each replica reads its own file",
}
ALSO_WHILE_STALE: Final = {
    "MetaStudioTTSPollStale": "it is the one that fires",
    "MetaStudioTTSNothingCounted": "there are no books, so none that are stale",
    "MetaStudioTTSClocksDisagree": "a clock may be why the books seem stale",
    "MetaStudioTTSExporterDown": "about a scrape target, not about a target's books",
    "MetaStudioTTSExporterAbsent": "about no target at all",
    "MetaStudioTTSReloadFailed": "about a process, not about a target's books",
    "MetaStudioTTSReplicaMissing": "about no target at all",
    "MetaStudioTTSReplicaBehind": "about a replica, not about a target's books",
    "MetaStudioTTSNotPolled": "it may be why the books are stale",
}
FRESH: Final = r"target:metastudio_tts_counted_until_timestamp_seconds:fresh"
CLAUSE: Final = re.compile(rf"\s*(?:and on \(target\) {FRESH}\w+|unless on \(target\) [\w:]+:stale)")

TOLD_BY_ZERO: Final = ("NoJobs", "FailureBudgetBurningSlowly")
"""That nothing came two weeks ago, the first knows by a counter that stood at 0 then (docs/metrics.md). The
other one's text has a percentage of four digits, the last of which is another one in Prometheus 3 without
that 0.
"""

FEWER_LABELS: Final[dict[str, tuple[str, ...]]] = {
    "by-job-type": ("job_type",),
    "by-service": ("tts_service_enum",),
    "alone": (),
}

every_rule = pytest.mark.parametrize(
    "rule", [pytest.param(rule, id=name) for name, rule in (RECORDS | ALERTS).items()]
)
every_alert = pytest.mark.parametrize("alert", [pytest.param(rule, id=name) for name, rule in ALERTS.items()])


def run(*arguments: str | Path) -> str:
    """Output of a program that must succeed."""
    environ = {**os.environ, "GOGC": "400"}  # a fifth less time, for some memory
    done = subprocess.run(arguments, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- promtool ---------------------------------------------------------------------------------------------


def test_promtool_finds_no_fault(release: Tool) -> None:
    """Warnings are faults."""
    run(release("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.glob("*.yaml")))


def test_the_sample_configuration_is_valid(release: Tool) -> None:
    """With the rule files it names."""
    said = run(release("promtool"), "check", "config", "--lint=all", ROOT / "prometheus" / "prometheus.yml")
    assert "2 rule files found" in said


def run_tests(promtool: Path, test: Any, folder: Path) -> None:
    """Each test of a file with only the rules that it needs."""
    paths = []
    for number, each in enumerate(test["tests"]):
        made = needed(each)
        names = {group["name"] for group in made}
        order = [name for name in test["group_eval_order"] if name in names]
        rules = folder / f"rules-{number}.yaml"
        rules.write_text(json.dumps({"groups": made}))
        paths.append(folder / f"test-{number}.yaml")
        one = {**test, "rule_files": [rules.name], "group_eval_order": order, "tests": [each]}
        paths[-1].write_text(json.dumps(one))
    run(promtool, "test", "rules", *paths)


every_test_file = pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)


@pytest.mark.slow
@every_test_file
def test_the_rules_do_as_their_tests_say(tool: Tool, path: Path) -> None:
    """Firing and silent cases, labels and annotations."""
    run(tool("promtool"), "test", "rules", path)


@pytest.mark.slow
@every_test_file
def test_in_prometheus_3_they_do_the_same(prometheus_3: Tool, path: Path, tmp_path: Path) -> None:
    """Its ranges do not hold their left end."""
    run_tests(prometheus_3("promtool"), yaml.safe_load(path.read_text()), tmp_path)


@every_alert
def test_a_test_gets_every_rule_it_needs(alert: Rule) -> None:
    """And no alert besides, or little would be gained."""
    made = [rule for group in needed({"alertname": alert["alert"]}) for rule in group["rules"]]
    assert [rule["alert"] for rule in made if "alert" in rule] == [alert["alert"]]
    read = {
        selector.name
        for rule in made
        for expr in (rule["expr"], *asked(rule))
        for selector, _ in selectors(promql.parse(expr))
    }
    assert read & RECORDS.keys() == {rule["record"] for rule in made if "record" in rule}


WITH_HISTOGRAMS: Final = [path for path in TEST_FILES if any(map(has_histograms, read_yaml(path)["tests"]))]


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_HISTOGRAMS, ids=lambda path: path.stem)
def test_native_histograms_give_the_same_alerts(prometheus_3: Tool, path: Path, tmp_path: Path) -> None:
    """Also where Prometheus converts classic ones, and keeps no ``_bucket``, ``_sum`` and ``_count``."""
    test = yaml.safe_load(path.read_text())
    test["tests"] = [each for each in test["tests"] if has_histograms(each)]
    for each in test["tests"]:
        each["input_series"] = converted(each["input_series"])
    run_tests(prometheus_3("promtool"), test, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "kept"),
    [
        pytest.param(path, kept, id=f"{path.stem}-{name}")
        for path in TEST_FILES
        for name, kept in FEWER_LABELS.items()
        if not kept or "_bucket{" in path.read_text()
    ],
)
def test_fewer_series_give_the_same_alerts(
    prometheus_3: Tool, path: Path, kept: tuple[str, ...], tmp_path: Path
) -> None:
    """With fewer ``histogram_labels``, and ``zero_series: seen``: no pair is there before its first job.

    By Prometheus 3 alone: what the releases differ in is tested with all series.
    """
    test = yaml.safe_load(path.read_text())
    for each in test["tests"]:
        fewer = with_fewer_labels(each["input_series"], kept)
        each["input_series"] = fewer if each["name"].startswith(TOLD_BY_ZERO) else only_seen(fewer)
    text = json.dumps(test)
    if "job_type" not in kept:
        text = text.replace("one ASYNC_JOB in twenty", "one job in twenty")
        text = text.replace(', "job_type": "ASYNC_JOB"}, "exp_annotations"', '}, "exp_annotations"')
    run_tests(prometheus_3("promtool"), json.loads(text), tmp_path)


@every_alert
def test_an_alert_has_a_firing_and_a_silent_case(alert: Rule) -> None:
    """An alert that was never seen firing may never fire; one never seen silent may never stop."""
    tests = [test for path in TEST_FILES for test in read_yaml(path)["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    expected = [case["exp_alerts"] for case in cases if case["alertname"] == alert["alert"]]
    assert any(expected)
    assert not all(expected)


# --- what they are made of --------------------------------------------------------------------------------


@every_rule
def test_a_rule_uses_only_what_there_is(rule: Rule) -> None:
    """Metrics and labels of the table, recorded series and their labels, and each metric by its scope."""
    for expr in (rule["expr"], *asked(rule)):
        for selector, within in selectors(promql.parse(expr)):
            labels = {matcher.name for matcher in selector.matchers.matchers}
            if selector.name in RECORDS:
                assert labels <= level(selector.name), selector.name
            elif selector.name in NOT_AGGREGATED:
                assert labels <= {"job"}
            else:
                assert labels <= labels_of(selector.name)
                check_scope(selector.name, within)
        for node in nodes(promql.parse(expr)):
            assert set(grouping(node)) <= LABELS | {"le"}


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_series_is_named_for_what_it_is(name: str) -> None:
    """level:metric:operations, where the level is its labels."""
    _, metric, operations = name.split(":")
    assert level(name) <= LABELS
    if operations not in ("ratio", "seconds"):
        assert metric in TABLE or f"{metric}_total" in TABLE or metric.removesuffix("_count") in TABLE
    for rule in rules("record"):
        if rule["record"] == name and level(name) and "labels" not in rule:
            assert set(outer_labels(promql.parse(rule["expr"]))) in (level(name), set())


def check_scope(name: str, within: list[Any]) -> None:
    """Books: ``max by`` all labels before anything is summed, ``avg by`` of histograms. Process: ``sum``."""
    metric = TABLE.get(name) or TABLE[name.rpartition("_")[0]]
    inner = next(node for node in reversed(within) if isinstance(node, promql.AggregateExpr))
    by = set(grouping(inner))
    if by >= OF_PROMETHEUS:
        by -= OF_PROMETHEUS  # of each replica by itself
    if metric.scope == "books" or metric.type == "gauge":
        numbers = name not in HISTOGRAMS or any(
            isinstance(node, promql.Call) and node.func.name == "histogram_count" for node in within
        )
        one_of_equals = ("max" if numbers else "avg", labels_of(name))
        assert (str(inner.op), by) == one_of_equals, f"{name} is the same on every replica"
    else:
        assert str(inner.op) == "sum", f"{name} is each replica's own"
        assert by <= labels_of(name)


def labels_of(sample: str) -> set[str]:
    """Labels of a sample, or of a native histogram, by its name. KeyError for one that no scrape holds."""
    if sample in TABLE:
        return set(TABLE[sample].labels)
    base, _, suffix = sample.rpartition("_")
    assert TABLE[base].type == "histogram"
    return set(TABLE[base].labels) | ({"le"} if suffix == "bucket" else set())


def level(name: str) -> set[str]:
    """``target_job_type:...`` -> {target, job_type}. Labels hold underscores themselves: longest first."""
    rest, found = name.split(":")[0], set()
    for label in sorted(LABELS, key=len, reverse=True):
        if re.search(rf"(^|_){label}(_|$)", rest):
            found.add(label)
            rest = re.sub(rf"(^|_){label}(_|$)", "_", rest)
    assert rest.strip("_") in ("", "global"), name
    return found


def asked(rule: Rule) -> Iterator[str]:
    """The queries inside an alert's annotations."""
    for text in rule.get("annotations", {}).values():
        for query in re.findall(r'printf "([^"]+)" \S+ \| query', text):
            yield query.replace("%q", '"t"')


def grouping(node: Any) -> list[str]:
    if isinstance(node, promql.AggregateExpr):
        return list(node.modifier.labels) if node.modifier else []
    matching = node.modifier.matching if isinstance(node, promql.BinaryExpr) and node.modifier else None
    return list(matching.labels) if matching else []


def outer_labels(node: Any) -> list[str]:
    """What the outermost aggregation leaves."""
    for each in nodes(node):
        if isinstance(each, promql.AggregateExpr):
            return [label for label in grouping(each) if label != "le"]
    return []


def children(node: Any) -> Iterator[Any]:
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if (child := getattr(node, name, None)) is not None:
            yield child
    yield from getattr(node, "args", ())


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in children(node):
        yield from nodes(child)


def selectors(node: Any, within: tuple[Any, ...] = ()) -> Iterator[tuple[Any, list[Any]]]:
    """Every selector with the expressions around it, outermost first."""
    if isinstance(node, promql.VectorSelector):
        yield node, list(within)
    for child in children(node):
        yield from selectors(child, (*within, node))


# --- what an operator gets --------------------------------------------------------------------------------


@every_alert
def test_an_alert_tells_what_it_must(alert: Rule) -> None:
    """Severity, what happened to whom, and where to read on: both addresses lead somewhere."""
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    said = alert["annotations"]
    assert set(said) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert said["description"].endswith((".", "end }}"))
    page, _, anchor = said["runbook_url"].partition("#")
    assert anchor in anchors((ROOT / page).read_text(encoding="utf-8"))
    uid = re.fullmatch(
        r"/d/([a-z-]+)(\?var-target={{ \$labels\.target \| urlquery }})?", said["dashboard_url"]
    )
    assert uid is not None
    assert uid[1] in {json.loads(path.read_text())["uid"] for path in ROOT.glob("grafana/dashboards/*.json")}
    if alert["alert"] not in ALSO_WHILE_STALE or uid[2]:
        assert said["summary"].startswith("{{ $labels.target }}: ")


@every_alert
def test_the_runbook_says_what_to_do(alert: Rule) -> None:
    """Meaning, impact, what to check and what to do, for each alert."""
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {alert['alert']}\n")[1].split("\n## ")[0]
    parts = re.findall(r"^\*\*(Meaning|Impact|Check|Do)\.\*\* \S", section, re.MULTILINE)
    assert parts == ["Meaning", "Impact", "Check", "Do"]


def test_the_runbook_knows_no_other_alert() -> None:
    """A section whose alert is gone misleads."""
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (MetaStudio\w+)$", page, re.MULTILINE) == list(ALERTS)


def anchors(page: str) -> set[str]:
    """As GitHub and GitLab make them of headings without punctuation."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {heading.lower().replace(" ", "-") for heading in headings}


# --- stale books ------------------------------------------------------------------------------------------


@every_alert
def test_an_alert_asks_whether_the_books_are_fresh(alert: Rule) -> None:
    """Every range an alert looks at has its own freshness; the exceptions are named with their reason."""
    clauses = CLAUSE.findall(alert["expr"])
    assert bool(clauses) != (alert["alert"] in ALSO_WHILE_STALE)
    used = "".join(selector.name for selector, _ in selectors(promql.parse(alert["expr"])))
    if "metastudio_api" not in used and alert["alert"] not in ALSO_WHILE_STALE:
        ranges = set(re.findall(r"(?:jobs|finished|created|expired|failures|count|bound_seconds|anomalies)"
                                r":\w*?increase(\d+[mhd])", used))  # fmt: skip
        compared = {"1d"} if alert["alert"] == "MetaStudioTTSFailureClassSurging" else set()
        assert ranges - compared <= set(re.findall(rf"{FRESH}(\w+)", alert["expr"]))


@pytest.mark.slow
def test_without_these_clauses_alerts_would_fire_on_old_counts(tool: Tool, tmp_path: Path) -> None:
    """So the outage in ``stale.yaml`` proves something about each of them (NoJobs has a case of its own)."""
    made = {"groups": groups()}
    for group in made["groups"]:
        for rule in group["rules"]:
            rule["expr"] = CLAUSE.sub("", rule["expr"]) if "alert" in rule else rule["expr"]
    (tmp_path / "rules.yaml").write_text(json.dumps(made))
    test = yaml.safe_load((TESTS / "stale.yaml").read_text())
    would = set(ALERTS) - set(ALSO_WHILE_STALE) - {"MetaStudioTTSNoJobs"} | {"MetaStudioTTSPollStale"}
    ever = 'count by (alertname) (count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[12h])))'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(would)]
    test["tests"] = test["tests"][:1]
    test["tests"][0]["promql_expr_test"] = [{"expr": ever, "eval_time": "760m", "exp_samples": samples}]
    (tmp_path / "test.yaml").write_text(json.dumps({**test, "rule_files": ["rules.yaml"]}))
    run(tool("promtool"), "test", "rules", tmp_path / "test.yaml")


# --- the quicker world of the end to end test -------------------------------------------------------------


def test_quicker_rules_are_the_same_rules() -> None:
    """Every time is divided, and only times are: undoing it gives the rules as they are."""
    original = [rule for group in groups() for rule in group["rules"]]
    quick = [rule for group in quickened(60)["groups"] for rule in group["rules"]]
    for before, after in zip(original, quick, strict=True):
        times = [*DURATION.findall(before["expr"]), *re.findall(r"^\S+$", before.get("for", ""))]
        shorter = [
            *re.findall(r"(?<=\[)\d+ms|(?<=offset )\d+ms", after["expr"]),
            *re.findall(r"^\S+$", after.get("for", "")),
        ]
        assert [ms(time) for time in times] == [60 * ms(time) for time in shorter]
        assert not DURATION.search(after["expr"])
        assert len(SECONDS.findall(before["expr"])) == after["expr"].count("* (60 / 60)")
        same_words = {**before, "expr": bare(before["expr"]), "for": ""}
        assert same_words == {**after, "expr": bare(after["expr"]), "for": ""}


@every_rule
def test_numbers_of_seconds_can_be_told_from_other_numbers(rule: Rule) -> None:
    """They are written <n> * 60, and others are numbers of jobs: another would escape the division."""
    rest = re.sub(rf'"[^"]*"|[\d.]+ {SECONDS.pattern}|>= \d+', "", rule["expr"])
    assert all(int(number) <= 30 for number in re.findall(r"(?<![\w.:\[])\d+(?![\w.:])", rest))


def ms(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", duration).groups()  # type: ignore[union-attr]  # or it fails
    return int(number) * MS[unit]


def bare(expr: str) -> str:
    """The expression without its times."""
    expr = re.sub(r"(?<=\[)\w+(?=\])|(?<=offset )\w+", "", expr)
    return re.sub(r"\* \(60 / 60\)|\* 60\b", "", expr)
