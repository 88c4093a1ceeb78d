"""A real Prometheus scrapes the real server and answers queries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from exporter.exposition.render import Exposition
from exporter.ledger.snapshot import LastPoll
from exporter.ledger.totals import Exemplar
from exporter.web.app import create_app
from exporter.web.server import Server
from testkit.processes import free_port
from tests.conftest import Tool
from tests.exposition.views import LLM, PROCESS, full_api, full_view

PATIENCE = 30.0
"""Seconds until Prometheus must have answered; it takes about two."""

CONFIG = """\
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
  - job_name: metastudio-tts
    static_configs:
      - targets: ["{exporter}"]
"""


@contextlib.contextmanager
def prometheus(program: Path, folder: Path, exporter: str) -> Iterator[str]:
    """A Prometheus of our own; its address. Ended by its process, whatever happens."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(exporter=exporter), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    flags = {
        "config.file": config,
        "web.listen-address": address,
        "storage.tsdb.path": folder / "data",
        "log.level": "error",
        "enable-feature": "exemplar-storage",
    }
    with subprocess.Popen([program, *(f"--{name}={value}" for name, value in flags.items())]) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.asynccontextmanager
async def serving(exposition: Exposition) -> AsyncIterator[str]:
    app = create_app(exposition=exposition, ready=lambda: True, telemetry_path="/metrics")
    server, stop = Server(app, ["127.0.0.1:0"]), asyncio.Event()
    task = asyncio.create_task(server.serve(stop))
    try:
        yield server.urls[0].removeprefix("http://")
    finally:
        stop.set()
        await task


async def eventually(client: httpx.AsyncClient, query: str, expected: float) -> None:
    """Ask until the answer is right; at the end of patience say what it was."""
    answer: Any = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while answer != expected:
                answer = await ask(client, query)
                await asyncio.sleep(0.1)
    assert answer == expected, query


async def ask(client: httpx.AsyncClient, query: str) -> float | None:
    """The only sample's value; None while there is none, or nobody answers yet."""
    try:
        response = await client.get("/api/v1/query", params={"query": query})
        result = json.loads(response.content)["data"]["result"]
    except (httpx.TransportError, ValueError, KeyError):
        return None
    assert len(result) <= 1, query
    return float(result[0]["value"][1]) if result else None


@pytest.mark.e2e
def test_prometheus_scrapes_and_answers(release: Tool, tmp_path: Path) -> None:
    """Every number arrives, nothing is dropped, and what is published next arrives as well."""
    program = release("prometheus")
    view = full_view()
    assert view.gauges is not None
    exposition = Exposition(full_api("production"), PROCESS, created_timestamps=False)
    exposition.publish((view,))
    text_length = view.text_length[LLM]
    label_set = f'job_type="{LLM[0]}",tts_service_enum="{LLM[1]}"'
    expected = {
        "up": 1.0,
        "metastudio_up": 1.0,
        "sum(metastudio_tts_jobs_created_total)": float(sum(view.created.values())),
        "sum(metastudio_tts_job_failures_total)": float(sum(view.failures.values())),
        "count(metastudio_tts_open_jobs)": float(len(view.gauges.open_jobs)),
        f"metastudio_tts_text_length_characters_count{{{label_set}}}": float(sum(text_length.counts)),
        f"sum(metastudio_tts_text_length_characters_bucket{{{label_set},le=~'100(.0)?'}})": float(
            sum(text_length.counts[:2])
        ),
        "metastudio_tts_counted_until_timestamp_seconds": 1_700_000_000.125,
        "metastudio_exporter_clock_skew_seconds": -1.5,
        "scrape_samples_post_metric_relabeling - scrape_samples_scraped": 0.0,
    }

    async def run() -> None:
        async with serving(exposition) as exporter:
            with prometheus(program, tmp_path, exporter) as url:
                async with httpx.AsyncClient(base_url=url) as client:
                    for query, value in expected.items():
                        await eventually(client, query, value)
                    exposition.publish((msgspec.structs.replace(view, last_poll=LastPoll()),))
                    await eventually(client, "metastudio_up", 0.0)
                    metadata = (await client.get("/api/v1/metadata")).json()["data"]
                    assert metadata["metastudio_tts_jobs"][0]["type"] == "gauge"
                    assert metadata["metastudio_tts_text_length_characters"][0]["type"] == "histogram"

    asyncio.run(run())


async def exemplars(client: httpx.AsyncClient, query: str) -> list[tuple[str, float, float]]:
    """Job id, value and time of every stored exemplar, whenever it happened."""
    try:
        parameters = {"query": query, "start": "0", "end": "4000000000"}
        response = await client.get("/api/v1/query_exemplars", params=parameters)
        series = json.loads(response.content)["data"]
    except (httpx.TransportError, ValueError, KeyError):
        return []
    return [
        (found["labels"]["job_id"], float(found["value"]), float(found["timestamp"]))
        for one in series
        for found in one["exemplars"]
    ]


async def eventually_exemplars(
    client: httpx.AsyncClient, query: str, expected: list[tuple[str, float, float]]
) -> None:
    found: list[tuple[str, float, float]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while found != expected:
                found = await exemplars(client, query)
                await asyncio.sleep(0.1)
    assert found == expected, query


@pytest.mark.e2e
def test_exemplars_arrive(release: Tool, tmp_path: Path) -> None:
    """From a failure or a slow bucket, Prometheus leads to the job; the next one is added to the first."""
    program = release("prometheus")
    view = full_view()
    exposition = Exposition(full_api("production"), PROCESS, created_timestamps=False)
    exposition.publish((view,))
    failures = "metastudio_tts_job_failures_total"
    durations = f'metastudio_tts_job_duration_%s_bound_seconds_bucket{{job_type="{LLM[0]}"}}'
    first, slow = ("failed-job", 1.0, 1_700_000_000.125), ("slow-job", 61.5, 1_700_000_000.25)
    key = next(iter(view.failure_exemplars))
    later = Exemplar("next-job", 1, 1_700_000_060_000)
    of_one_type = sum(label_set[0] == LLM[0] for label_set in view.duration_upper_bound)

    async def run() -> None:
        async with serving(exposition) as exporter:
            with prometheus(program, tmp_path, exporter) as url:
                async with httpx.AsyncClient(base_url=url) as client:
                    await eventually_exemplars(client, failures, [first])
                    for bound in ("upper", "lower"):
                        await eventually_exemplars(client, durations % bound, [slow] * of_one_type)
                    moved = msgspec.structs.replace(view, failure_exemplars={key: later})
                    exposition.publish((moved,))
                    second = (later.job_id, 1.0, 1_700_000_060.0)
                    await eventually_exemplars(client, failures, [first, second])

    asyncio.run(run())
