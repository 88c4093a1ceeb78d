"""The panels and queries of the committed dashboards, one by one, and with their variables filled in."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from grafana.build import FOLDER

LABELS_OF_PROMETHEUS: Final = {"job", "instance"}
VALUES: Final = {
    "$__rate_interval": "1m",
    "$__range": "30m",
    "$target": ".*",
    "$job_type": ".*",
    "$tts_service_enum": ".*",
    "$slo": "97",
    "$price_per_million": "20",
}
"""As Grafana fills them in; All is ``.*``."""


class Panel(NamedTuple):
    dashboard: str
    title: str
    model: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title}"


class DashboardQuery(NamedTuple):
    panel: Panel
    ref_id: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.panel} {self.ref_id}"

    def says_its_window(self) -> bool:
        """The panel's text names the fixed window that is used."""
        text = f"{self.panel.title} {self.panel.model['description']}"
        return any(word in text for word in ("minutes", "an hour", "seven days"))


def panels() -> list[Panel]:
    """Every panel that shows data."""
    return [
        Panel(path.stem, panel["title"], panel)
        for path in sorted(FOLDER.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        if panel["type"] != "row"
    ]


def queries() -> list[DashboardQuery]:
    return [
        DashboardQuery(panel, target["refId"], target["expr"], bool(target.get("instant")))
        for panel in panels()
        for target in panel.model["targets"]
    ]


def resolved(expr: str, **values: str) -> str:
    """``values`` by name without the dollar, instead of the usual ones."""
    for name, value in (VALUES | {f"${name}": value for name, value in values.items()}).items():
        expr = expr.replace(name, value)
    return expr
