"""From a job that fails in the cloud to a notification in somebody's hands: every program real but the cloud.

The rules are those of ``prometheus/rules`` with every time divided by ``FACTOR``. The exporter's overlap is
divided alike, so that what is stale for the one is so for the other.
"""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from testkit.processes import exporter, post, simulator, total, wait_for, write_config
from tests.conftest import Tool
from tests.prometheus.rules import quickened
from tests.prometheus.stack import stack

FACTOR = 60
CALM = '{"rhythm": 0, "noise": 0, "stuck": 0}'
FAST = "MetaStudioTTSFailureBudgetBurningFast"
STALE = "MetaStudioTTSPollStale"
QUANTILE = "target_job_type:metastudio_tts_job_duration_lower_bound_seconds:p95_increase30m"


def end_incidents(cloud: str) -> None:
    request = urllib.request.Request(f"{cloud}/simulator/incidents", method="DELETE")  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - loopback
        pass


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("programs", "native"),
    [pytest.param("tool", False, id="system"), pytest.param("prometheus_3", True, id="prometheus-3-native")],
)
def test_incidents_become_notifications_and_end(
    programs: str, native: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Failing jobs and an outage each give the right alert, only that one while blind, and its resolution."""
    tool: Tool = request.getfixturevalue(programs)
    poll = {"interval": "1s", "timeout": "5s", "overlap": "5s", "window": "10m"}
    with simulator(tmp_path, "--rate", "600", "--world", CALM) as cloud:
        config = write_config(tmp_path, cloud, poll=poll)
        with (
            exporter(config, tmp_path) as program,
            stack(tool, tmp_path, quickened(FACTOR), f"127.0.0.1:{program.port}", native=native) as running,
        ):
            got = running.receiver.got
            wait_for("jobs to finish", lambda: finished(program.samples()) > 50, 30)
            wait_for("a quantile of their durations", lambda: running.has(QUANTILE), 30)
            assert running.firing() == set(), "an ordinary day"

            post(f"{cloud}/simulator/incidents", {"incident": "failure_burst", "duration": 60})
            alert = wait_for("the failure alert", lambda: got(FAST, "firing"), 40)
            end_incidents(cloud)
            assert alert["labels"] == {"alertname": FAST, "target": "t", "severity": "critical"}
            annotations = alert["annotations"]
            assert annotations["summary"].startswith("t: ")
            assert annotations["runbook_url"] == f"docs/runbook.md#{FAST.lower()}"
            assert annotations["dashboard_url"] == "/d/metastudio-tts-failures?var-target=t"
            assert got(STALE, "firing") is None, "the books were never behind"
            wait_for("its resolution", lambda: got(FAST, "resolved"), 60)

            post(f"{cloud}/simulator/incidents", {"incident": "outage", "duration": 60})
            alert = wait_for("the alert for stale books", lambda: got(STALE, "firing"), 40)
            assert alert["labels"] == {"alertname": STALE, "target": "t", "severity": "critical"}
            assert "requests fail: server" in alert["annotations"]["description"], "it names the cause"
            assert running.firing() == {STALE}
            end_incidents(cloud)
            wait_for("its resolution", lambda: got(STALE, "resolved"), 40)


def finished(samples: object) -> float:
    """Jobs counted as finished; 0 while nobody answers."""
    return total(samples, "metastudio_tts_jobs_finished_total") if isinstance(samples, dict) else 0.0
