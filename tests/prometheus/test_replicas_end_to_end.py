"""Three replicas on one database, and a Prometheus that scrapes all of them. Only the cloud is not real."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from testkit.postgres import PostgresServer
from testkit.processes import Exporter, exporter, simulator, total, wait_for, write_config
from testkit.tcp_proxy import tcp_proxy
from tests.conftest import Tool
from tests.prometheus.rules import quickened
from tests.prometheus.stack import Stack, stack

FACTOR = 60
CALM = json.dumps({"rhythm": 0, "noise": 0, "stuck": 0})
BEHIND = "MetaStudioTTSReplicaBehind"
STALE = "MetaStudioTTSPollStale"
FINISHED = "metastudio_tts_jobs_finished_total"
INCREASE = "target:metastudio_tts_jobs_finished:increase5m"


def finished(program: Exporter) -> float:
    return total(program.samples() or {}, FINISHED)


@pytest.mark.e2e
def test_a_replica_that_is_cut_off_changes_no_number(
    tool: Tool, postgres: PostgresServer, tmp_path: Path
) -> None:
    """One alert names it; when it comes back, what it missed is nowhere taken for news."""
    poll = {"interval": "1s", "timeout": "5s", "overlap": "5s", "window": "10m"}
    database = postgres.empty_database()
    with ExitStack() as ends:
        cloud = ends.enter_context(simulator(tmp_path, "--rate", "600", "--world", CALM))
        proxy = ends.enter_context(tcp_proxy(postgres.port))
        programs = []
        for number, port in enumerate((None, None, proxy.port)):
            folder = tmp_path / f"replica{number}"
            folder.mkdir()
            storage = {"url": postgres.tcp_url(database, port=port), "lease": "3s"}
            config = write_config(folder, cloud, poll=poll, storage=storage)
            programs.append(ends.enter_context(exporter(config, folder)))
        first, _, last = programs
        places = [f"127.0.0.1:{program.port}" for program in programs]
        running = ends.enter_context(stack(tool, tmp_path, quickened(FACTOR), *places))
        wait_for("jobs to finish", lambda: all(finished(program) > 100 for program in programs), 60)
        wait_for("an increase", lambda: running.value(INCREASE) > 20, 30)
        wait_for("three scrapes", lambda: running.value('count(up{job="metastudio-tts"} == 1)') == 3, 30)

        proxy.swallows = True
        alert = wait_for("the alert", lambda: running.receiver.got(BEHIND, "firing"), 60)
        assert alert["labels"]["instance"] == places[2]
        stood_still = finished(last)
        wait_for("some more jobs", lambda: finished(first) > stood_still + 150, 60)
        assert finished(last) == stood_still
        assert STALE not in running.firing(), "the others go on"
        wait_for("one that polls", lambda: running.value("sum(metastudio_exporter_lease_held)") == 1, 30)

        proxy.swallows = False
        proxy.cut()
        wait_for("its return", lambda: finished(last) > stood_still, 60)
        wait_for("its burst", lambda: burst(running, places[2]) > 100, 30)
        wait_for("the end of the alert", lambda: running.receiver.got(BEHIND, "resolved"), 60)
        highest = running.value(f"max_over_time({INCREASE}[2m])")
        usual = burst(running, places[0])
        assert highest < 1.5 * usual < burst(running, places[2])
        assert running.receiver.got(STALE, "firing") is None


def burst(running: Stack, instance: str) -> float:
    """The most that finished, as this replica alone shows it, within five of the rules' minutes."""
    each = f'sum(increase({FINISHED}{{instance="{instance}"}}[{300 // FACTOR}s]))'
    return running.value(f"max_over_time({each}[2m:500ms])")
