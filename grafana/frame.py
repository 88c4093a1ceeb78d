"""What all dashboards share: identity, variables, links, order. Knows no panel of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import DataSourceRef

from grafana.panels import Panel, as_builder

TAG: Final = "metastudio-tts"
Section = tuple[str, Sequence[Panel]]
"""A row's title, empty for none, and its panels from left to right."""

Variable = builders.QueryVariable | builders.CustomVariable | builders.TextBoxVariable

_ALL: Final = models.VariableOption(text="All", value="$__all", selected=True)
_DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")


def variable(name: str, label: str, query: str) -> builders.QueryVariable:
    """Several values of a label, or all of them."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(_DATASOURCE)
        .query({"qryType": 1, "query": query, "refId": name})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(_ALL)
    )


def choices(
    name: str, label: str, description: str, values: Sequence[str], chosen: str
) -> builders.CustomVariable:
    """One of a few numbers, or one's own."""
    options = [models.VariableOption(text=v, value=v, selected=v == chosen) for v in values]
    current = models.VariableOption(text=chosen, value=chosen, selected=True)
    return (
        builders.CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(values))
        .options(options)
        .current(current)
        .allow_custom_value(True)
    )


def text_box(name: str, label: str, description: str, value: str) -> builders.TextBoxVariable:
    current = models.VariableOption(text=value, value=value, selected=True)
    return (
        builders.TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value(value)
        .current(current)
        .options([current])
    )


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    since: str = "now-6h",
    timezone: str = "browser",
    by_job: bool = True,
    variables: Sequence[Variable] = (),
) -> str:
    """The dashboard as it is committed: JSON, ended by a newline."""
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG, "tts"])
        .timezone(timezone)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("30s")
        .editable()
        .version(1)
        .link(
            builders.DashboardLink("MetaStudio TTS")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for each in (*_variables(by_job), *variables):
        made.with_variable(each)
    for row, panels in sections:
        if row:
            made.with_row(builders.Row(row))
        for panel in panels:
            made.with_panel(as_builder(panel))
    return _text(made.build())


def _variables(by_job: bool) -> Sequence[Variable]:
    of_target = 'metastudio_tts_jobs_created_total{target=~"$target"}'
    target = variable("target", "Target", "label_values(metastudio_up, target)")
    job_type = variable("job_type", "Job type", f"label_values({of_target}, job_type)")
    service = variable("tts_service_enum", "Service", f"label_values({of_target}, tts_service_enum)")
    if not by_job:  # still there, so that links carry the choice along
        job_type.hide(models.VariableHide.HIDE_VARIABLE)
        service.hide(models.VariableHide.HIDE_VARIABLE)
    return target, job_type, service


def _text(built: models.Dashboard) -> str:
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
