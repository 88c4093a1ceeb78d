"""The status page: ``Status`` -> HTML that needs no script, no other file, and nothing from outside.

Every value is escaped by Jinja2: much of it was written by strangers. The style is in the page, allowed by
its hash alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from exporter.status.model import Jobs, MinuteOfJobs, Status

REFRESH_SECONDS: Final = 10
TEMPLATES: Final = Path(__file__).parent / "templates"

SHOWN_ROWS: Final = 8
"""Label sets in sight; more of them are folded away."""
CHART_WIDTH: Final = 240
CHART_HEIGHT: Final = 44
_STEPS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class StatusPage:
    """The page and the policy that goes with it. Making one reads the template."""

    def __init__(self, links: dict[str, str]) -> None:
        """``links``: text -> path, for the foot of the page."""
        style = (TEMPLATES / "status.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self.policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "span": span,
            "clock": clock,
            "number": with_thousands,
            "bars": bars,
            "sums": sums,
        }
        # Our own file; as Markup, because escaped it would no longer be what was hashed.
        environment.globals |= {"style": Markup(style), "icons": _ICONS}  # noqa: S704
        # Relative: a proxy may serve the page under a prefix of which we do not know.
        environment.globals["links"] = {text: f".{path}" for text, path in links.items()}
        self._template = environment.get_template("status.html")

    def render(self, status: Status, *, refresh: bool) -> str:
        """``refresh``: the page loads itself again, every ten seconds."""
        return self._template.render(
            status=status,
            refresh=REFRESH_SECONDS if refresh else None,
            shown_rows=SHOWN_ROWS,
            troubled=[
                (index, target.name)
                for index, target in enumerate(status.targets)
                if target.state not in ("ok", "starting")
            ],
        )


def span(seconds: float) -> str:
    """``4 m 12 s``: the two largest units that are not zero."""
    rest = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in _STEPS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


def clock(timestamp: float) -> str:
    """UTC."""
    try:
        return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "out of range"


def with_thousands(value: float) -> str:
    """With a thin blank between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def bars(minutes: Sequence[MinuteOfJobs], name: str) -> dict[str, object]:
    """One chart: the outline of its bars as an SVG path, the peak and the last whole minute."""
    values: list[int] = [getattr(minute, name) for minute in minutes]
    peak = max(values, default=0)
    step = CHART_WIDTH / max(1, len(values))
    path = ""
    for index, value in enumerate(values):
        if value:
            height = max(1.5, value / peak * CHART_HEIGHT)
            path += f"M{index * step:.1f} {CHART_HEIGHT}v-{height:.1f}h{step - 0.8:.1f}v{height:.1f}z"
    return {
        "path": path,
        "peak": peak,
        "total": sum(values),
        "peak_at": minutes[values.index(peak)].start if peak else None,
    }


def sums(rows: Iterable[Jobs]) -> dict[str, int]:
    """All rows of the table of jobs together."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.states)
    return dict(total)


def _icon(colour: str) -> str:
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>"
        f"<circle cx='8' cy='8' r='7' fill='{colour}'/></svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


_ICONS: Final = {"good": _icon("#1a7f37"), "bad": _icon("#c6283b")}
