"""A command and the exporter that runs beside it never send more than ``rate_limit`` together."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testkit.postgres import PostgresServer
from testkit.processes import ROOT, Exporter, exporter, get, simulator, total, wait_for, write_config

RATE = 4.0
MEASURED = 6.0
"""Seconds."""


def configured(folder: Path, cloud: str, store: str, **lease: str) -> Path:
    """Six targets with the same keys that poll each second: more than the rate allows."""
    path = write_config(folder, cloud, storage={"url": store, **lease}, target={"rate_limit": RATE})
    config = json.loads(path.read_text())
    config["targets"] = [{**config["targets"][0], "name": f"t{number}"} for number in range(6)]
    path.write_text(json.dumps(config))
    return path


def answered(cloud: str) -> int:
    """Requests that the API got."""
    return sum(number for _, _, number in json.loads(get(f"{cloud}/simulator") or "")["requests"])


def in_force(program: Exporter, rate: float) -> bool:
    samples = program.samples() or {}
    return total(samples, "metastudio_api_rate_limit_requests_per_second", target="t0") == rate


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("kind", "ended_by", "code"),
    [("sqlite", signal.SIGKILL, -signal.SIGKILL), ("postgresql", signal.SIGINT, 130)],
)
def test_both_together_stay_within_the_rate(
    tmp_path: Path, kind: str, ended_by: int, code: int, request: pytest.FixtureRequest
) -> None:
    """While the command runs the exporter has half of it; afterwards, however it ended, all again."""
    store, lease = "sqlite:///books.db", dict[str, str]()
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        store, lease = server.url(server.empty_database()), {"lease": "3s"}
    with simulator(tmp_path, "--rate=60", "--history=86400") as cloud:
        config = configured(tmp_path, cloud, store, **lease)
        with exporter(config, tmp_path) as program:
            wait_for("the whole rate", lambda: in_force(program, RATE))
            arguments = ["classify", f"--config.file={config}", "--target=t0", "--since=20h"]
            command = subprocess.Popen(
                [sys.executable, "-m", "exporter", *arguments],
                cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                wait_for("half of the rate", lambda: in_force(program, RATE / 2))
                before, since, own = answered(cloud), time.monotonic(), requests_of(program)
                time.sleep(MEASURED)
                after, until, own = answered(cloud), time.monotonic(), requests_of(program) - own
                assert command.poll() is None
                assert after - before <= RATE * (until - since) + 3
                assert after - before - own >= MEASURED / 2, "the command asked nothing"
                assert own >= MEASURED / 2, "the exporter asked nothing"
                command.send_signal(ended_by)
                assert command.wait(30) == code
            finally:
                command.kill()
                command.wait(30)
            wait_for("the whole rate again", lambda: in_force(program, RATE))


def requests_of(program: Exporter) -> float:
    return total(program.samples() or {}, "metastudio_api_requests_total")
