"""Backfilled and live samples as one series, in the real Prometheus and the real VictoriaMetrics."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from testkit.processes import free_port, get, wait_for
from testkit.world import MINUTE, SECOND
from tests.commands.backfill.support import HOUR, WithPast
from tests.conftest import Tool
from tests.prometheus.stack import program

METRICS = (
    "metastudio_tts_jobs_created_total",
    "metastudio_tts_jobs_finished_total",
    "metastudio_tts_job_failures_total",
    "metastudio_tts_text_length_characters_sum",
    "metastudio_tts_text_length_characters_count",
    "metastudio_tts_synthesized_characters_total",
)


def increase(url: str, metric: str, start: int, end: int, more: str = "") -> float:
    """From ``start`` to ``end``, both times of samples; the range is longer by ``more``."""
    query = f"sum(increase({metric}[{(end - start) // SECOND}s{more}]))"
    answer = get(f"{url}/api/v1/query?" + urllib.parse.urlencode({"query": query, "time": end // SECOND}))
    (result,) = json.loads(answer or "")["data"]["result"]
    return float(result["value"][1])


def starts(past: WithPast) -> list[int]:
    return [past.since, past.since + 37 * MINUTE, past.since + 2 * HOUR, past.baseline // MINUTE * MINUTE]


@pytest.mark.e2e
def test_prometheus_counts_across_the_seam(release: Tool, tmp_path: Path) -> None:
    """increase() from any minute of the past to now is the truth: no step where live counting began.

    Since release 3 a range does not hold the sample at its left end: one that does is a millisecond
    longer, and increase() adds a little for that, less than half a job or character.
    """
    promtool, prometheus = release("promtool"), release("prometheus")
    past = WithPast(tmp_path)
    for name, samples in (("past.om", past.backfill()[0]), ("live.om", past.live_samples())):
        (tmp_path / name).write_bytes(samples)
        subprocess.run(
            [promtool, "tsdb", "create-blocks-from", "openmetrics", tmp_path / name, tmp_path / "data"],
            check=True,
            capture_output=True,
        )
    (tmp_path / "prometheus.yml").write_text("{}")
    address = f"127.0.0.1:{free_port()}"
    flags: list[str | Path] = [
        prometheus,
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
        "--storage.tsdb.retention.time=100y",
    ]
    with program(flags, tmp_path / "prometheus.log"):
        url = f"http://{address}"
        wait_for("Prometheus", lambda: get(f"{url}/-/ready"))
        version = json.loads(get(f"{url}/api/v1/status/buildinfo") or "")["data"]["version"]
        more = "1ms" if int(version.split(".")[0]) >= 3 else ""
        for metric in METRICS:
            for start in starts(past):
                expected = past.truth(start, metric)
                found = increase(url, metric, start, past.end, more)
                error = 0.4 if more else 1e-9 * expected
                assert found == pytest.approx(expected, rel=0, abs=error), metric
    past.store.close()


@pytest.mark.e2e
def test_victoriametrics_counts_across_the_seam(tool: Tool, tmp_path: Path) -> None:
    """The same by its own import endpoint."""
    victoria = tool("victoria-metrics")
    past = WithPast(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    flags: list[str | Path] = [victoria, f"-storageDataPath={tmp_path / 'vm'}", f"-httpListenAddr={address}"]
    flags.append("-retentionPeriod=100y")
    with program(flags, tmp_path / "victoria.log"):
        url = f"http://{address}"
        wait_for("VictoriaMetrics", lambda: get(f"{url}/health"))
        for samples in (past.backfill("victoriametrics")[0], past.live_samples("victoriametrics")):
            request = urllib.request.Request(f"{url}/api/v1/import/prometheus", samples)  # noqa: S310 - loopback
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                assert answer.status == 204
        assert get(f"{url}/internal/force_flush") is not None
        for metric in METRICS:
            for start in starts(past):
                expected = past.truth(start, metric)
                assert increase(url, metric, start, past.end) == pytest.approx(expected, rel=1e-9), metric
    past.store.close()
