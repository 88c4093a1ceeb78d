"""The committed dashboards: what an operator, Grafana and links from outside rely on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from exporter.exposition.catalog import METRICS
from exporter.failures import BUILTIN_RULES, Classifier
from grafana import exporter_api
from grafana.build import FOLDER, dashboards
from grafana.further import NOT_SHOWN
from grafana.further import panels as further_panels
from grafana.panels import CLASSES
from tests.grafana.queries import LABELS_OF_PROMETHEUS, DashboardQuery, Panel, panels, queries, resolved

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(dashboards())
UIDS = {
    "overview.json": "metastudio-tts-overview",
    "failures.json": "metastudio-tts-failures",
    "usage.json": "metastudio-tts-usage",
    "exporter-api.json": "metastudio-tts-exporter",
}
"""Bookmarks and the alerts' dashboard_url hold these."""

PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
TABLE = {metric.name: metric for metric in METRICS}


def model(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return loaded


every_dashboard = pytest.mark.parametrize("name", NAMES)
every_panel = pytest.mark.parametrize("panel", panels(), ids=str)
every_query = pytest.mark.parametrize("query", queries(), ids=str)


@every_dashboard
def test_a_committed_file_is_what_the_code_builds(name: str) -> None:
    """``make dashboards`` was run after the last change."""
    assert (FOLDER / name).read_text() == dashboards()[name], "stale: run make dashboards"


def test_there_are_four_files_and_no_forgotten_one() -> None:
    """The folder is what the provider hands to Grafana."""
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES == sorted(UIDS)


@pytest.mark.parametrize("name", sorted(TABLE.keys() - NOT_SHOWN))
def test_every_metric_is_on_a_panel(name: str) -> None:
    """What the exporter knows, an operator finds without writing a query."""
    assert any(name in query.expr for query in queries())


def test_a_metric_that_no_panel_asks_for_is_given_one() -> None:
    """Of whatever type it is, with a query that Prometheus understands, and its help beside it."""
    board = json.loads(exporter_api.build(further_panels(METRICS, "")))
    made = {panel["title"]: panel for panel in board["panels"] if panel["title"] in TABLE}
    assert made.keys() == TABLE.keys() - NOT_SHOWN
    for name, panel in made.items():
        (target,) = panel["targets"]
        assert name in target["expr"]
        promql_parser.parse(resolved(target["expr"]))
        assert panel["description"] == TABLE[name].help


@every_dashboard
def test_identity_is_stable(name: str) -> None:
    """Uid, model and tag stay, and there is no database id of somebody's Grafana."""
    board = model(name)
    assert board["uid"] == UIDS[name]
    assert board["schemaVersion"] >= 41
    assert "metastudio-tts" in board["tags"]
    assert board.get("id") is None
    assert board["title"]
    assert board["description"]


@every_dashboard
def test_the_others_are_one_click_away(name: str) -> None:
    """The link finds all of them by tag, and carries time and variables along."""
    (link,) = model(name)["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["metastudio-tts"])
    assert link["keepTime"]
    assert link["includeVars"]


@every_dashboard
def test_variables_choose_any_number_of_targets_and_types(name: str) -> None:
    """A data source, and three multi-value variables that begin at All."""
    variables = {each["name"]: each for each in model(name)["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for label in ("target", "job_type", "tts_service_enum"):
        made = variables[label]
        assert made["type"] == "query"
        assert made["multi"], label
        assert made["includeAll"], label
        assert made["allValue"] == ".*", label
        assert made["current"]["value"] == "$__all", label
        assert made["datasource"]["uid"] == "${datasource}", label


@every_dashboard
def test_panel_ids_are_unique_and_nothing_overlaps(name: str) -> None:
    """Links to a panel stay good, and no panel hides another."""
    board = model(name)["panels"]
    ids = [panel["id"] for panel in board]
    assert ids == list(range(1, len(board) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in board:
        at = {"x": 0, "y": 0, **panel["gridPos"]}
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@every_panel
def test_a_panel_explains_itself(panel: Panel) -> None:
    """Title, description, unit and data source are there, and each query has its own refId."""
    made = panel.model
    assert made["title"]
    assert len(made["description"]) > 20
    assert made["datasource"]["uid"] == "${datasource}"
    assert made["fieldConfig"]["defaults"]["unit"]
    ref_ids = [target["refId"] for target in made["targets"]]
    assert ref_ids
    assert len(set(ref_ids)) == len(ref_ids)
    assert {target["datasource"]["uid"] for target in made["targets"]} == {"${datasource}"}


@every_query
def test_a_query_is_promql(query: DashboardQuery) -> None:
    """With the variables filled in, Prometheus' grammar accepts it."""
    promql_parser.parse(resolved(query.expr))


@every_query
def test_a_query_uses_only_metrics_and_labels_that_we_publish(query: DashboardQuery) -> None:
    """A renamed metric or label, or a suffix of another type, fails here and not at three in the morning."""
    found = list(selectors(promql_parser.parse(resolved(query.expr))))
    assert found or "vector(" in query.expr
    for selector in found:
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert selector.name, "a selector without a name"
        if selector.name == "ALERTS":
            assert labels <= {"alertstate", "alertname", "severity", "target"}
        elif selector.name in PROCESS:
            assert "and on (job, instance) metastudio_exporter_build_info" in query.expr
        else:
            assert labels <= labels_of(selector.name)


@every_query
def test_labels_that_are_grouped_by_exist(query: DashboardQuery) -> None:
    """``sum by (typo)`` is valid PromQL, and quietly one number."""
    ours = set().union(*(metric.labels for metric in METRICS))
    known = ours | LABELS_OF_PROMETHEUS | {"le", "alert", "severity"}
    for node in nodes(promql_parser.parse(resolved(query.expr))):
        modifier = getattr(node, "modifier", None)
        grouped = getattr(modifier, "labels", None) if isinstance(node, promql_parser.AggregateExpr) else None
        assert set(grouped or ()) <= known


@every_query
def test_rates_follow_the_resolution(query: DashboardQuery) -> None:
    """Panels that are drawn along time use $__rate_interval, except where a window is part of the meaning."""
    if query.instant or "rate(" not in query.expr:
        return
    assert "[$__rate_interval]" in query.expr or query.says_its_window()


WITH_EXEMPLARS = [
    query
    for query in queries()
    if not query.instant and ("duration_upper_bound" in query.expr or "by (fail_msg_class)" in query.expr)
]


@pytest.mark.parametrize("query", WITH_EXEMPLARS, ids=str)
def test_exemplars_are_on_where_the_exporter_has_them(query: DashboardQuery) -> None:
    """A click on a point leads to a job's id; the median needs no second set of them."""
    targets = query.panel.model["targets"]
    assert any(target["exemplar"] for target in targets)


@pytest.mark.parametrize("query", [q for q in queries() if "duration_upper_bound" in q.expr], ids=str)
def test_an_empty_panel_of_histograms_says_why(query: DashboardQuery) -> None:
    """A value is chosen of a label that ``metrics.histogram_labels`` leaves out."""
    assert "metrics.histogram_labels" in query.panel.model["fieldConfig"]["defaults"]["noValue"]


@pytest.mark.parametrize(
    "query", [q for q in queries() if "text_length_characters" in q.expr and " by (" in q.expr], ids=str
)
def test_a_series_without_the_label_is_called_all(query: DashboardQuery) -> None:
    """Where ``metrics.histogram_labels`` leaves it out, a legend would be empty."""
    for label in ("job_type", "tts_service_enum"):
        if query.panel.model["targets"][0]["legendFormat"] == f"{{{{{label}}}}}":
            assert query.expr.startswith("label_replace(")
            assert query.expr.endswith(f', "{label}", "all", "{label}", "")')


COSTS = [query for query in queries() if "price_per_million" in query.expr]


@pytest.mark.parametrize("query", COSTS, ids=str)
def test_cost_is_hidden_without_a_price(query: DashboardQuery) -> None:
    """At a price of 0, the default, there is no number at all, and the panel says why."""
    assert query.expr.endswith(" and on () (vector($price_per_million) > 0)")
    assert query.panel.model["fieldConfig"]["defaults"]["noValue"] == "set a price"
    variables = {each["name"]: each for each in model("usage.json")["templating"]["list"]}
    assert variables["price_per_million"]["query"] == "0"


def test_every_built_in_class_of_failure_has_its_own_colour() -> None:
    """A class looks the same in every picture, whatever else failed."""
    assert set(CLASSES) == set(Classifier(BUILTIN_RULES).classes)
    assert len(set(CLASSES.values())) == len(CLASSES)


@pytest.mark.parametrize("name", ["datasources/prometheus.yaml", "dashboards/metastudio-tts.yaml"])
def test_provisioning_is_complete(name: str) -> None:
    """The data source has a uid that stays and an interval that $__rate_interval depends on."""
    loaded = yaml.safe_load((ROOT / "grafana" / "provisioning" / name).read_text())
    assert loaded["apiVersion"] == 1
    if "datasources" in loaded:
        (source,) = loaded["datasources"]
        assert source["uid"] == "prometheus"
        assert source["jsonData"]["timeInterval"] == "15s"
    else:
        (provider,) = loaded["providers"]
        assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_has_its_picture(name: str) -> None:
    """One for each dashboard, small enough for a page that loads at once."""
    picture = ROOT / "docs" / "images" / name.replace(".json", ".png")
    assert picture.stat().st_size < 300_000
    assert f"docs/images/{picture.name}" in (ROOT / "README.md").read_text()


# --- what a query is made of ------------------------------------------------------------------------------


def nodes(node: Any) -> Iterator[Any]:
    """The expression and all its parts."""
    yield node
    for name in ("expr", "lhs", "rhs", "param", "vs", "vector_selector"):
        part = getattr(node, name, None)
        if part is not None and not isinstance(part, str):
            yield from nodes(part)
    for part in getattr(node, "args", None) or ():
        yield from nodes(part)


def selectors(node: Any) -> Iterator[Any]:
    return (each for each in nodes(node) if isinstance(each, promql_parser.VectorSelector))


def labels_of(sample: str) -> set[str]:
    """The labels that a sample of this name has; fails for a name that no scrape holds."""
    if sample in TABLE:  # a histogram without a suffix is a native one
        return set(TABLE[sample].labels)
    base, _, suffix = sample.rpartition("_")
    assert TABLE[base].type == "histogram"
    assert suffix in ("bucket", "sum", "count")
    return {*TABLE[base].labels, *(("le",) if suffix == "bucket" else ())}
