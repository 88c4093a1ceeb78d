"""How our panels look: a few kinds, one way each. Knows the SDK's builders, and no metric.

Colours have one meaning on all dashboards: green succeeded, red failed, yellow waiting, blue at work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as h
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

GREEN, RED, YELLOW, ORANGE, BLUE, PURPLE, GREY = (
    "green",
    "red",
    "yellow",
    "orange",
    "blue",
    "purple",
    "#8e8e8e",
)
STATES: Final = {
    "SUCCEED": GREEN,
    "FAILED": RED,
    "WAITING": YELLOW,
    "PROCESSING": BLUE,
    "unknown": GREY,
    "expired": PURPLE,
    "created": BLUE,
}

STEP: Final = "1m"
"""Finer steps would show single jobs, not the course of things."""

CLASSES: Final = {
    "sensitive_content": "orange",
    "text_unsupported": "light-orange",
    "text_too_long": "semi-dark-yellow",
    "bad_request": "dark-orange",
    "voice_asset": "purple",
    "billing_quota": "light-purple",
    "auth": "dark-purple",
    "internal": "red",
    "timeout": "light-red",
    "storage": "dark-red",
    "throttled": "blue",
    "disconnected": "light-blue",
    "unclassified": GREY,
    "no_message": "#5c5c5c",
}
"""By whose concern they are: the text's, the account's, the service's, the way there's, unknown."""

Steps = Sequence[tuple[float | None, str]]
"""Colour from this value on; the first has no bound."""
Panel = stat.Panel | timeseries.Panel | heatmap.Panel | table.Panel | bargauge.Panel
P = TypeVar("P", stat.Panel, timeseries.Panel, heatmap.Panel, table.Panel, bargauge.Panel)

_DATASOURCE: Final = c.DataSourceRef(type_val="prometheus", uid="${datasource}")


def query(
    expr: str,
    legend: str = "",
    *,
    at: Literal["range", "instant", "table", "heatmap"] = "range",
    exemplar: bool = False,
) -> prometheus.Dataquery:
    """``at``: along the time range, or at its end as numbers or as table rows; ``heatmap``: buckets."""
    made = prometheus.Dataquery().datasource(_DATASOURCE).expr(expr).exemplar(exemplar)
    made = made.instant() if at in ("instant", "table") else made.range()
    if at == "table":
        made = made.format(PromQueryFormat.TABLE)
    if at == "heatmap":
        made, legend = made.format(PromQueryFormat.HEATMAP), "{{le}}"
    return made.legend_format(legend or "__auto")


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    made = [models.Threshold(value, color) for value, color in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def fixed(color: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})


def prop(name: str, value: object) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(name, value)


def _frame(
    panel: P, title: str, description: str, queries: Sequence[prometheus.Dataquery], size: tuple[int, int]
) -> P:
    panel.title(title).description(description).datasource(_DATASOURCE).span(size[0]).height(size[1])
    for ref_id, made in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(made.ref_id(ref_id))
    return panel


def number(
    title: str,
    description: str,
    made: prometheus.Dataquery,
    *,
    unit: str,
    steps: Steps | None = None,
    color: str = BLUE,
    decimals: int | None = None,
    size: tuple[int, int] = (3, 4),
    calc: str = "lastNotNull",
    background: bool = False,
    spark: bool = True,
    named: bool = False,
    letters: int | None = None,
) -> stat.Panel:
    """One number to be read from across the room; coloured by ``steps``, else plainly.

    ``named`` adds its series' name; ``letters`` is their height in pixels, else as large as they fit.
    """
    panel = _frame(stat.Panel(), title, description, [made], size)
    panel.unit(unit).reduce_options(common.ReduceDataOptions().calcs([calc]))
    panel.graph_mode(c.BigValueGraphMode.AREA if spark else c.BigValueGraphMode.NONE)
    panel.color_mode(c.BigValueColorMode.BACKGROUND if background else c.BigValueColorMode.VALUE)
    panel.thresholds(thresholds(steps or [(None, color)]))
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    if named:
        panel.text_mode(c.BigValueTextMode.VALUE_AND_NAME)
    if letters is not None:
        panel.text(common.VizTextDisplayOptions().value_size(letters))
    return panel if decimals is None else panel.decimals(decimals)


def words(panel: stat.Panel, mapping: Mapping[str, tuple[str, str]]) -> stat.Panel:
    """Show words and their colours instead of numbers."""
    options = {
        value: models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(mapping.items())
    }
    return panel.mappings([models.ValueMap(options)])


def state(
    title: str,
    description: str,
    expr: str,
    good: tuple[str, str],
    *bad: tuple[str, str],
    width: int = 3,
) -> Panel:
    """One of two words or more; each pair is the value and its word."""
    panel = number(
        title,
        description,
        query(expr, at="instant"),
        unit="none",
        size=(width, 4),
        background=True,
        spark=False,
    )
    return words(panel, {good[0]: (good[1], GREEN), **{value: (word, RED) for value, word in bad}})


def lines(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    unit: str,
    size: tuple[int, int] = (12, 8),
    stacked: bool = False,
    bars: bool = False,
    steps: Steps | None = None,
    colors: Mapping[str, str] | None = None,
    legend: Sequence[str] = (),
    at_least: float | None = 0,
    log: bool = False,
) -> timeseries.Panel:
    """Values over time. ``steps`` draws lines at the thresholds; ``legend`` is what it calculates beside."""
    panel = _frame(timeseries.Panel(), title, description, queries, size)
    panel.interval(STEP).max_data_points(180 if bars else 360)
    # no outline on stacks: it would draw what is 0 on top of everything
    panel.unit(unit).line_width(0 if stacked else 2).fill_opacity(70 if stacked else 8)
    panel.show_points(c.VisibilityMode.NEVER).span_nulls(False)
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    if bars:
        panel.draw_style(c.GraphDrawStyle.BARS)
    if stacked:
        panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if steps:
        panel.thresholds(thresholds(steps))
        style = common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    if at_least is not None and not log:
        panel.min(at_least)
    if log:
        panel.scale_distribution(common.ScaleDistributionConfig().type(c.ScaleDistribution.LOG).log(2))
    for name, color in (colors or {}).items():
        panel.override_by_name(name, [fixed(color)])
    return _explained(panel, legend)


def _explained(panel: timeseries.Panel, calcs: Sequence[str]) -> timeseries.Panel:
    """With a legend, and all values at the pointer, the greatest first."""
    shape = c.LegendDisplayMode.TABLE if calcs else c.LegendDisplayMode.LIST
    where = c.LegendPlacement.RIGHT if calcs else c.LegendPlacement.BOTTOM
    panel.legend(
        common.VizLegendOptions().show_legend(True).display_mode(shape).placement(where).calcs(list(calcs))
    )
    tooltip = common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI)
    return panel.tooltip(tooltip.sort(c.SortOrder.DESCENDING))


def band(panel: timeseries.Panel, low: str, high: str, color: str) -> timeseries.Panel:
    """Fill between two of its series: the truth lies somewhere inside."""
    panel.override_by_name(
        high,
        [
            fixed(color),
            prop("custom.fillBelowTo", low),
            prop("custom.fillOpacity", 30),
            prop("custom.lineWidth", 1),
        ],
    )
    panel.override_by_name(low, [fixed(color), prop("custom.fillOpacity", 0), prop("custom.lineWidth", 1)])
    return panel


def buckets(
    title: str, description: str, made: prometheus.Dataquery, *, unit: str, size: tuple[int, int], scheme: str
) -> heatmap.Panel:
    """How a distribution moves over time."""
    panel = _frame(heatmap.Panel(), title, description, [made], size)
    panel.interval(STEP).max_data_points(180)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(c.AxisPlacement.LEFT))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(h.HeatmapColorMode.SCHEME)
        .scheme(scheme)
        .scale(h.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
        .reverse(False)
    )
    panel.filter_values(heatmap.FilterValueRange().le(1e-9)).cell_gap(1).show_legend()
    panel.tooltip(heatmap.HeatmapTooltip().mode(c.TooltipDisplayMode.SINGLE).y_histogram(True))
    return panel.exemplars_color("rgba(255,0,255,0.7)").unit("short")


def bars(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    unit: str,
    size: tuple[int, int],
    steps: Steps | None = None,
    color: str = BLUE,
    ends: tuple[float, float] | None = None,
) -> bargauge.Panel:
    """One horizontal bar for each series, now."""
    panel = _frame(bargauge.Panel(), title, description, queries, size)
    panel.unit(unit).min(ends[0] if ends else 0).orientation(c.VizOrientation.HORIZONTAL)
    panel.display_mode(c.BarGaugeDisplayMode.BASIC).value_mode(c.BarGaugeValueMode.COLOR)
    panel.name_placement(c.BarGaugeNamePlacement.LEFT)
    panel.text(common.VizTextDisplayOptions().title_size(13).value_size(15))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.thresholds(thresholds(steps or [(None, color)]))
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    return panel if ends is None else panel.max(ends[1])


def rows(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    size: tuple[int, int],
    columns: Mapping[str, str],
    before: Sequence[tuple[str, Mapping[str, Any]]] = (),
    sort: str | None = None,
    widths: Mapping[str, int] | None = None,
) -> table.Panel:
    """A table with these columns first, renamed so; ``before`` are Grafana's transformations, by id.

    ``widths`` are pixels by the new names.
    """
    panel = _frame(table.Panel(), title, description, queries, size)
    order = {
        "excludeByName": {"Time": True, "Value": True},
        "indexByName": {name: index for index, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    panel.transformations(
        [
            models.DataTransformerConfig(id_val=name, options=how)
            for name, how in (*before, ("organize", order))
        ]
    )
    panel.unit("short").thresholds(thresholds([(None, GREEN)]))
    panel.override_by_regexp(".*", [prop("custom.minWidth", 60)])
    for name, width in (widths or {}).items():
        panel.override_by_name(name, [prop("custom.width", width)])
    return panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)]) if sort else panel


def leads_to(panel: P, title: str, uid: str) -> P:
    """A link in the panel's corner to the dashboard that knows more, with the same time and variables."""
    link = builders.DashboardLink(title).type(models.DashboardLinkType.LINK)
    panel.links([link.url(f"/d/{uid}?${{__url_time_range}}&${{__all_variables}}")])
    return panel


def of_histograms(panel: P) -> P:
    """Says, where it is empty, that what it stands on may not be kept by what is chosen."""
    return panel.no_value("No data (histograms without this label? See metrics.histogram_labels)")


def as_builder(panel: Panel) -> Any:  # noqa: ANN401 - Builder is invariant, and each kind is one of Panel
    """The SDK's dashboards take any builder of a panel."""
    return panel
