"""Three replicas on one database, with all that can happen to them: each shows the truth at the end."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from testkit.postgres import PostgresServer
from testkit.processes import Exporter, Samples, end_all, get, post, simulator, total, wait_for, write_config
from tests.e2e.test_differential import COUNTERS, SCALE, WORLD, balanced, counted, differences, expected
from tests.e2e.test_reload import of_target

NAMES = ("t0", "t1", "t2", "t3", "t4")
LEASE = 5.0


class Replicas:
    """Processes with the same configuration. Each scrape is checked against the one before."""

    def __init__(self, folder: Path, cloud: str, url: str) -> None:
        self.programs = []
        for number in range(3):
            own = folder / f"replica{number}"
            own.mkdir()
            storage = {"url": url, "lease": f"{LEASE:.0f}s"}
            path = write_config(own, cloud, storage=storage)
            config = json.loads(path.read_text())
            config["targets"] = [{**config["targets"][0], "name": name} for name in NAMES]
            path.write_text(json.dumps(config))
            self.programs.append(Exporter(path, own))
        self.last: list[Samples] = [{} for _ in self.programs]
        self.scrapes = 0

    def reload(self, **auth: str) -> None:
        """Other keys for all targets, in every configuration."""
        for program in self.programs:
            config = json.loads(program.config.read_text())
            for target in config["targets"]:
                target["auth"]["aksk"] |= auth
            program.config.write_text(json.dumps(config))
        for program in self.programs:
            assert program.process is not None
            program.process.popen.send_signal(signal.SIGHUP)

    def start(self) -> None:
        for program in self.programs:
            program.start()

    def end(self) -> None:
        """With the ends of their logs, for a test that failed."""
        for number, program in enumerate(self.programs):
            running = program.process is not None and program.process.popen.poll() is None
            print(f"replica {number}, {running=}:", *program.log().splitlines()[-8:], sep="\n")
            program.kill()

    def supervise(self) -> None:
        """A start while the database is gone ends with a message: it is made again."""
        for program in self.programs:
            if program.process is not None and (code := program.process.popen.poll()) is not None:
                last = program.log().splitlines()[-1]
                assert (code, "/books: " in last) == (1, True), f"ended with {code}: {last}"
                program.kill()
                program.start()

    def look(self, number: int) -> Samples | None:
        self.supervise()
        samples = self.programs[number].samples() if self.programs[number].process else None
        if samples is None:
            return None
        self.scrapes += 1
        for name in NAMES:
            assert balanced(of_target(samples, name)), f"the books of {name} do not balance"
        for key, value in self.last[number].items():
            if key[0] in COUNTERS:
                assert samples.get(key, -1) >= value, f"{key} went back from {value} to {samples.get(key)}"
        self.last[number] = samples
        return samples

    def held(self) -> list[list[str]]:
        """By replica that answers: the targets that it polls."""
        return [
            sorted(name for name in NAMES if total(samples, "metastudio_exporter_lease_held", target=name))
            for number in range(len(self.programs))
            if (samples := self.look(number)) is not None
        ]

    def spread(self, *loads: int) -> bool:
        held = self.held()
        return sorted(map(len, held)) == sorted(loads) and sorted(chain(*held)) == list(NAMES)


def chaos(rng: random.Random, replicas: Replicas, postgres: PostgresServer) -> str:
    """One event, over when this returns."""
    number = rng.randrange(len(replicas.programs))
    program = replicas.programs[number]
    match rng.choice(("kill", "pause", "restart", "database")):
        case "kill":
            program.kill()
            time.sleep(rng.uniform(0.0, 1.5 * LEASE))
            program.start()
            return "kill"
        case "pause":
            wait_for("a replica that runs", lambda: replicas.look(number))
            assert program.process is not None
            program.process.popen.send_signal(signal.SIGSTOP)
            time.sleep(LEASE + rng.uniform(0.5, 2.5))
            program.process.popen.send_signal(signal.SIGCONT)
            return "pause"
        case "restart":
            wait_for("a replica that answers", lambda: replicas.look(number))
            assert program.stop() == 0
            program.start()
            return "restart"
        case event:
            postgres.stop()
            time.sleep(rng.uniform(0.0, 1.5 * LEASE))
            postgres.start()
            return event


@pytest.mark.e2e
def test_every_replica_ends_with_the_truth(tmp_path: Path, postgres: PostgresServer) -> None:
    """Killed, stopped for longer than a lease, restarted; the database crashes. No counter ever goes back."""
    seed = int(os.environ.get("REPLICAS_SEED", "1"))
    rng = random.Random(seed)
    url = postgres.tcp_url(postgres.empty_database())
    flags = ["--rate=0", f"--seed={seed}", "--history=0", f"--time-scale={SCALE}"]
    flags += [f"--epoch={time.time() - 7200}", f"--world={json.dumps(WORLD)}"]
    with simulator(tmp_path, *flags) as cloud:
        replicas = Replicas(tmp_path, cloud, url)
        replicas.start()
        try:
            wait_for("targets that are spread", lambda: replicas.spread(1, 2, 2), 60)
            wait_for("every baseline", lambda: all(settled(replicas.look(n)) for n in range(3)))
            post(f"{cloud}/simulator/rate", {"rate": 240.0})
            events: list[str] = []
            while len(set(events)) < 4 or len(events) < 6:
                events.append(chaos(rng, replicas, postgres))
                end = time.monotonic() + rng.uniform(0.5, 4.0)
                while time.monotonic() < end:
                    for number in range(3):
                        replicas.look(number)
            print(*events)
            wait_for("targets that are spread again", lambda: replicas.spread(1, 2, 2), 60)
            end_all(cloud, 240.0)
            last = float(json.loads(get(f"{cloud}/simulator") or "")["now"])
            wait_for("the end of every job", lambda: done(cloud, replicas, last), 90)
            truth = expected(cloud)
            for number in range(3):
                final: Any = replicas.look(number)
                for name in NAMES:
                    assert differences(counted(of_target(final, name)), truth) == [], (number, name)
            assert sum(truth["created"].values()) > 100
            assert replicas.scrapes > 50
        finally:
            replicas.end()


@pytest.mark.e2e
def test_wrong_keys_are_sent_four_times_at_most(tmp_path: Path, postgres: PostgresServer) -> None:
    """By all replicas together, which get them at once; corrected ones are used by all of them soon."""
    with simulator(tmp_path, "--rate=60") as cloud:
        replicas = Replicas(tmp_path, cloud, postgres.tcp_url(postgres.empty_database()))
        for program in replicas.programs:  # each target asks for another user: a refusal concerns it alone
            config = json.loads(program.config.read_text())
            good = config["targets"][0]["auth"]["aksk"]
            config["targets"] = [{**target, "app_user_id": target["name"]} for target in config["targets"]]
            program.config.write_text(json.dumps(config))
        replicas.start()
        try:
            wait_for("targets that are spread", lambda: replicas.spread(1, 2, 2), 60)
            wait_for("polls of all", lambda: fewest(replicas, "metastudio_up") == 1, 60)
            replicas.reload(secret_key="wrong")
            wait_for("polls that fail", lambda: fewest(replicas, FAILED) >= 2 * LEASE, 60)
            assert 1 <= sum(refused(replicas.last)) <= 4, refused(replicas.last)
            replicas.reload(**good)
            wait_for("polls that do not", lambda: fewest(replicas, "metastudio_up") == 1, 60)
            assert sum(refused(replicas.last)) <= 4, refused(replicas.last)
        finally:
            replicas.end()


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


def settled(samples: Samples | None) -> list[float]:
    """When every target has one: until when each is counted."""
    found = [value for (name, _), value in (samples or {}).items() if "counted_until" in name]
    return found if len(found) == len(NAMES) else []


def done(cloud: str, replicas: Replicas, last: float) -> bool:
    """No job is open on any replica, and what may be listed late is settled on all."""
    if json.loads(get(f"{cloud}/simulator/truth", timeout=20) or "")["expected"]["open"]:
        return False
    for number in range(3):
        samples = replicas.look(number)
        if samples is None or total(samples, "metastudio_tts_open_jobs"):
            return False
        if min(settled(samples), default=0.0) <= last + 60:
            return False
    return True
