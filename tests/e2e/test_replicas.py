"""Three replicas on one database, with all that can happen to them: each shows the truth at the end."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from testkit.postgres import PostgresServer
from testkit.processes import Samples, simulator, total, wait_for
from tests.e2e.chaos import KINDS, LEASE, NAMES, Replicas, run


@pytest.mark.e2e
def test_every_replica_ends_with_the_truth(tmp_path: Path, postgres: PostgresServer) -> None:
    """Killed, paused for longer than a lease, restarted, reloaded; the database crashes, the network swallows
    bytes, clocks jump, the API fails. No counter goes back; a target is polled as often as by one poller.
    """
    outcome = run(2, 0.0, tmp_path, postgres)
    assert outcome.events == len(KINDS)
    assert outcome.jobs > 100
    assert outcome.takings > len(NAMES)
    assert outcome.scrapes > 50


@pytest.mark.e2e
def test_wrong_keys_are_sent_four_times_at_most(tmp_path: Path, postgres: PostgresServer) -> None:
    """By all replicas together, which get them at once; corrected ones are used by all of them soon."""
    with simulator(tmp_path, "--rate=60") as cloud, ExitStack() as stack:
        replicas = Replicas(tmp_path, cloud, postgres, stack)
        good = json.loads(replicas.programs[0].config.read_text())["targets"][0]["auth"]["aksk"]
        replicas.start()
        wait_for("targets that are spread", lambda: replicas.spread(1, 2, 2), 60)
        wait_for("polls of all", lambda: fewest(replicas, "metastudio_up") == 1, 60)
        replicas.reload(secret_key="wrong")
        wait_for("polls that fail", lambda: fewest(replicas, FAILED) >= 2 * LEASE, 60)
        assert 1 <= sum(refused(replicas.last)) <= 4, refused(replicas.last)
        replicas.reload(**good)
        wait_for("polls that do not", lambda: fewest(replicas, "metastudio_up") == 1, 60)
        assert sum(refused(replicas.last)) <= 4, refused(replicas.last)


FAILED = "metastudio_exporter_polls_total"


def fewest(replicas: Replicas, name: str) -> float:
    """Of a metric of every target, as its holder shows it; of polls, those that failed."""
    labels = {"outcome": "failed"} if name == FAILED else {}
    shown = dict.fromkeys(NAMES, 0.0)
    for number in range(3):
        samples = replicas.look(number) or {}
        for target in NAMES:
            if total(samples, "metastudio_exporter_lease_held", target=target):
                shown[target] = total(samples, name, target=target, **labels)
    return min(shown.values())


def refused(scrapes: list[Samples]) -> list[float]:
    """By replica: how many requests were answered with 401."""
    return [total(samples, "metastudio_api_requests_total", code="401") for samples in scrapes]
