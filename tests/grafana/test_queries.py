"""Every query of the dashboards, asked of a real Prometheus that holds the demo's history."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from exporter.config.model import MetricsConfig
from exporter.exposition.catalog import METRICS
from exporter.simulator.incidents import DEMO_SCRIPT
from tests.conftest import Tool
from tests.grafana.backfill import exposition, prometheus
from tests.grafana.history import DAY, DEFAULT, Alert, TimedScrape, live, own, replica
from tests.grafana.queries import DashboardQuery, queries, resolved

END = 1_736_946_000.0
"""A whole hour; wherever in time the machine is that tests. Prometheus refuses samples from the future."""
ROUND = 20 * 60.0
"""All of the demo's incidents once."""
OWN = ("process_", "metastudio_exporter_build_info", "by (instance)")
"""Queries with these speak of each process by itself."""
LAST_COMMIT = re.compile(r"^(metastudio_exporter_last_commit_timestamp_seconds\{.*\} )(\S+)$", re.MULTILINE)
FLAGS = ("metastudio_up", "metastudio_api_credentials_rejected", "metastudio_api_access_denied")
"""Gauges of the replica that polls: 0 on the others, which do not have the rest of such gauges."""
OF_THE_PROCESS = {
    metric.name: metric.type for metric in METRICS if metric.scope == "process" and "target" in metric.labels
}
CUT_OFF, BACK = END - ROUND / 2, END - 100.0
"""When replicas lose the database, and when one of them reads it again."""


def history(metrics: MetricsConfig = DEFAULT) -> list[TimedScrape]:
    """The demo as the exporter shows it, polled every quarter and scraped every half of a minute."""
    # No sample lies on the edge of a range: whether it belongs to it depends on Prometheus' release.
    times = [END - 8 - ROUND + 15.0 * step for step in range(int(ROUND / 15) + 1)]

    async def collect() -> list[TimedScrape]:
        return [scrape async for scrape in live(times, script=DEMO_SCRIPT, rate=60.0, metrics=metrics)]

    return asyncio.run(collect())[::2]


def idle(scrape: TimedScrape) -> TimedScrape:
    """A replica that does not poll: the same books, and nothing of its own done."""
    lines = []
    for line in scrape.text.splitlines():
        series, _, _ = line.rpartition(" ")
        name = re.sub(r"_(bucket|sum|count)$", "", series.partition("{")[0])
        if name not in OF_THE_PROCESS or line.startswith("#"):
            lines.append(line)
        elif OF_THE_PROCESS[name] != "gauge" or name in FLAGS or name.endswith("lease_held"):
            lines.append(f"{series} 0")
    return scrape._replace(text="\n".join(lines))


def replicas(scrapes: list[TimedScrape]) -> Iterator[tuple[TimedScrape, ...]]:
    """Each scrape of three: one polls, one is cut off from the database for a while, one until the end."""
    cut_off = next(scrape for scrape in scrapes if scrape.at >= CUT_OFF)
    for scrape in scrapes:
        old = scrape._replace(text=cut_off.text)
        returned = scrape if scrape.at >= BACK else old
        yield scrape, *map(idle, (returned, old) if scrape.at >= CUT_OFF else (scrape, scrape))


def earlier(scrape: TimedScrape, seconds: float) -> TimedScrape:
    """The same so long before: when it was committed, too."""
    text = LAST_COMMIT.sub(lambda found: f"{found[1]}{float(found[2]) - seconds}", scrape.text)
    return TimedScrape(scrape.at - seconds, text)


Series = dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]


def ask(prometheus: str, query: DashboardQuery, target: str) -> Series:
    """What the panel would get: series by their labels, without the target's; of histograms, each bucket."""
    expr = resolved(query.expr, target=target, __range="20m")
    asked: dict[str, Any] = {"query": expr}
    if query.instant:
        asked["time"] = END
    else:
        asked |= {"start": END - ROUND, "end": END, "step": 60}
    kind = "query" if query.instant else "query_range"
    url = f"{prometheus}/api/v1/{kind}?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - loopback only
        body = json.loads(answer.read())
    found: Series = {}
    for one in body["data"]["result"]:
        labels = {name: value for name, value in one["metric"].items() if name not in ("target", "instance")}
        for at, value in one.get("values") or ([one["value"]] if "value" in one else []):
            found.setdefault(tuple(sorted(labels.items())), []).append((at, float(value)))
        for at, histogram in one.get("histograms", ()):
            below = 0.0
            for _, _, upper, count in histogram.get("buckets", ()):
                below += float(count)
                found.setdefault(tuple(sorted({**labels, "le": upper}.items())), []).append((at, below))
    return found


def past(scrapes: list[TimedScrape]) -> Iterator[str]:
    """Target ``demo`` from three replicas, and ``alone``, the same from one; yesterday and last week too."""
    alerts = [
        Alert("MetaStudioTTSThrottled", "warning", END - 600, END, f'target="{name}"')
        for name in ("demo", "alone")
    ]
    for back in (7 * DAY, DAY, 0.0):
        for of_now in replicas(scrapes):
            all_of_them = [earlier(scrape, back) for scrape in of_now]
            at = all_of_them[0].at
            for number, scrape in enumerate(all_of_them):
                yield from exposition(scrape, replica(number))
            alone = all_of_them[0].text.replace('target="demo"', 'target="alone"')
            yield from exposition(TimedScrape(at, alone), replica(3))
            yield from exposition(own(at, alerts), replica(0))


class Panels(NamedTuple):
    """What every query returns, of target ``demo`` with three replicas and of ``alone`` with one."""

    of_three: dict[str, Series]
    of_one: dict[str, Series]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Panels]:
    """Asks all queries of a Prometheus with the history: ``shown(tool, native=False)``."""
    scrapes = history()

    @functools.cache
    def panels(tool: Tool, *, native: bool = False) -> Panels:
        folder = tmp_path_factory.mktemp("prometheus")
        with prometheus(tool, folder, past(scrapes), native=native) as url:
            return Panels(
                *(
                    {str(query): ask(url, query, target) for query in queries()}
                    for target in ("demo", "alone")
                )
            )

    return panels


@pytest.mark.e2e
def test_replicas_do_not_change_what_a_query_returns(tool: Tool, shown: Callable[..., Panels]) -> None:
    """No panel stays empty on the demo's history, and three replicas show what one shows.

    One test for all of them: the history takes longer than the questions.
    """
    check(shown(tool))


@pytest.mark.e2e
def test_prometheus_3_shows_the_same_with_either_histogram(
    tool: Tool, prometheus_3: Tool, shown: Callable[..., Panels]
) -> None:
    """Also where it converts them to native ones, and there is no ``_bucket``, ``_sum`` or ``_count``."""
    usual = shown(tool)
    for native in (False, True):
        panels = shown(prometheus_3, native=native)
        check(panels, native=native)
        assert not [name for name, series in panels.of_one.items() if not alike(series, usual.of_one[name])]


@pytest.mark.e2e
@pytest.mark.parametrize("kept", [("job_type",), ()], ids=["by-job-type", "alone"])
def test_fewer_series_leave_no_panel_empty(kept: tuple[str, ...], tool: Tool, tmp_path: Path) -> None:
    """With ``zero_series: seen`` and fewer ``histogram_labels``, while nothing is chosen."""
    scrapes = history(MetricsConfig(histogram_labels=kept, zero_series="seen"))
    with prometheus(tool, tmp_path, past(scrapes)) as url:
        check(
            Panels(
                *({str(query): ask(url, query, name) for query in queries()} for name in ("demo", "alone"))
            )
        )


def check(panels: Panels, *, native: bool = False) -> None:
    """``native``: a quantile that falls between two buckets may be either's, by the last digit of a sum."""
    numbers = {
        name: [value for values in series.values() for _, value in values if not math.isnan(value)]
        for name, series in panels.of_three.items()
    }
    assert not [name for name, values in numbers.items() if not values]
    own = {str(query) for query in queries() if any(name in query.expr for name in OWN)}
    either = {str(query) for query in queries() if native and "histogram_quantile" in query.expr}
    assert not [
        name
        for name in panels.of_one.keys() - own
        if not same(panels.of_three[name], panels.of_one[name], but=2 if name in either else 0)
    ]


def points(series: Series) -> dict[object, float]:
    """Each number by its labels and its time; of classic buckets, as of native ones, what is new in each."""
    found: dict[object, float] = {}
    below: dict[object, float] = {}
    for labels in sorted(series, key=lambda labels: float(dict(labels).get("le", "inf"))):
        le = dict(labels).get("le")
        for at, value in series[labels]:
            key = (tuple(label for label in labels if label[0] != "le"), at)
            found[(*key, le and float(le))] = value - below.get(key, 0.0)
            if le is not None:
                below[key] = value
    return {key: value for key, value in found.items() if not math.isnan(value) and abs(value) > 1e-6}


def alike(one: Series, other: Series) -> bool:
    """Most points are equal, but not all.

    The first job in a bucket counts for less in ``rate()`` of that bucket than in that of all of them at
    once, and a quantile that falls between two buckets may be either's.
    """
    left, right = points(one), points(other)
    equal = [key for key in left.keys() & right.keys() if left[key] == pytest.approx(right[key], rel=0.05)]
    return len(equal) >= 0.75 * len(left.keys() | right.keys())


def same(one: Series, other: Series, but: int = 0) -> bool:
    """Equal but for the last digits: sums are not associative. Except for so many points."""
    if one.keys() != other.keys():
        return False
    pairs = [pair for labels in one for pair in zip(one[labels], other[labels], strict=True)]
    differ = [
        at
        for (at, left), (_, right) in pairs
        if left != pytest.approx(right, rel=1e-9, abs=1e-12, nan_ok=True)
    ]
    return all(at == other_at for (at, _), (other_at, _) in pairs) and len(differ) <= but
