"""Every query of the dashboards, asked of a real Prometheus that holds the demo's history."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from exporter.simulator.incidents import DEMO_SCRIPT
from tests.conftest import Tool
from tests.grafana.history import DAY, Alert, Blocks, Scrape, live, own_samples, replica, samples
from tests.grafana.queries import Query, queries, resolved
from tests.processes import free_port, get, wait_for

END = 1_795_000_800.0
"""A whole hour; wherever in time the machine is that tests."""
ROUND = 20 * 60.0
"""All of the demo's incidents once."""
OWN = ("process_", "metastudio_exporter_build_info")
"""Queries with these speak of each process by itself."""
GAUGES = ("metastudio_api_rate_limit", "metastudio_api_credentials")
"""The API's metrics that are the same on every replica."""


def history() -> list[Scrape]:
    """The demo as the exporter shows it, polled every quarter and scraped every half of a minute."""
    times = [END - ROUND + 15.0 * step for step in range(int(ROUND / 15) + 1)]

    async def collect() -> list[Scrape]:
        return [scrape async for scrape in live(times, script=DEMO_SCRIPT, rate=60.0)]

    return asyncio.run(collect())[::2]


def idle(scrape: Scrape) -> Scrape:
    """A replica that does not poll: the same books, and nothing of its own done."""
    lines = (
        f"{line.rpartition(' ')[0]} 0"
        if line.startswith("metastudio_api_") and not line.startswith(GAUGES)
        else line
        for line in scrape.text.splitlines()
    )
    return scrape._replace(text="\n".join(lines))


def write(blocks: Blocks, scrapes: list[Scrape]) -> None:
    """Target ``demo`` from three replicas, and ``alone``, the same from one; yesterday and last week too."""
    alerts = [
        Alert("MetaStudioTTSThrottled", "warning", END - 600, END, f'target="{name}"')
        for name in ("demo", "alone")
    ]
    for back in (7 * DAY, DAY, 0.0):
        for scrape in scrapes:
            past = scrape._replace(at=scrape.at - back)
            alone = past._replace(text=past.text.replace('target="demo"', 'target="alone"'))
            for number, shown in enumerate((past, idle(past), idle(past), alone)):
                blocks.add(samples(shown, replica(number)))
            blocks.add(own_samples(past.at, replica(0), alerts))
        blocks.flush()


@pytest.fixture(scope="module")
def prometheus(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with that history."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    program, blocks = tool("prometheus"), Blocks(tool("promtool"), folder)
    write(blocks, history())
    blocks.close()
    (folder / "prometheus.yml").write_text("{}")
    flags = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=100y",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, *flags], stderr=log, stdout=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("Prometheus", lambda: get(f"{url}/-/ready"))
        yield url
    finally:
        process.terminate()
        process.wait(10)


Series = dict[tuple[tuple[str, str], ...], list[tuple[float, str]]]


def ask(prometheus: str, query: Query, target: str) -> Series:
    """What the panel would get: series by their labels, the target's name aside."""
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
    return {
        tuple(sorted((k, v) for k, v in one["metric"].items() if k not in ("target", "instance"))): [
            (at, value) for at, value in one.get("values") or [one["value"]]
        ]
        for one in body["data"]["result"]
    }


def test_every_query_returns_numbers_that_replicas_do_not_change(prometheus: str) -> None:
    """No panel stays empty on the demo's history, and three replicas show what one shows.

    One test for all of them: the history takes longer than the questions.
    """
    empty, different = [], []
    for query in queries():
        of_three, of_one = ask(prometheus, query, "demo"), ask(prometheus, query, "alone")
        if not any(value != "NaN" for values in of_three.values() for _, value in values):
            empty.append(str(query))
        if not any(name in query.expr for name in OWN) and not same(of_three, of_one):
            different.append(str(query))
    assert not empty
    assert not different


def same(one: Series, other: Series) -> bool:
    """Equal but for the last digits: sums are not associative."""
    if one.keys() != other.keys():
        return False
    return all(
        [at for at, _ in one[labels]] == [at for at, _ in other[labels]]
        and all(
            float(left) == pytest.approx(float(right), rel=1e-9, abs=1e-12, nan_ok=True)
            for (_, left), (_, right) in zip(one[labels], other[labels], strict=True)
        )
        for labels in one
    )
