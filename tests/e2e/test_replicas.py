"""Three replicas on one database, with all that can happen to them: each shows the truth at the end.

``REPLICAS_SEED`` is another run, ``REPLICAS_SECONDS`` a longer one.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from testkit.postgres import PostgresServer
from testkit.processes import Exporter, Samples, end_all, get, post, simulator, total, wait_for, write_config
from testkit.tcp_proxy import TcpProxy, tcp_proxy
from tests.e2e.test_differential import (
    COUNTERS,
    SCALE,
    WIRE_FAULTS,
    WORLD,
    balanced,
    counted,
    differences,
    expected,
)
from tests.e2e.test_reload import of_target

NAMES = ("t0", "t1", "t2", "t3", "t4")
LEASE = 5.0


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""Steps the clock of a program, where it is installed."""

SECONDS = float(os.environ.get("REPLICAS_SECONDS", "0"))
CLOCKS = FAKETIME is not None and SECONDS > 0
"""Programs are slower with it: in long runs only."""
FAULTS = [fault for fault in WIRE_FAULTS if fault["kind"] != "date_skew"]
"""Of the API. A false ``Date`` may make signatures that are refused, which all replicas count together: they
wait for five minutes then (docs/high-availability.md), longer than this test.
"""
KINDS = ("kill", "pause", "restart", "database", "cut", "swallow", *(["clock"] if CLOCKS else []))


class ReplicaProgram(Exporter):
    """One whose clock can be set, with a network of its own to the database."""

    def __init__(self, config: Path, folder: Path, network: TcpProxy) -> None:
        super().__init__(config, folder)
        self.network = network
        self._clock = folder / "clock"
        self.set_clock("+0")

    def set_clock(self, offset: str) -> None:
        self._clock.write_text(offset)

    def start(self, *flags: str) -> None:
        environ = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items() if CLOCKS else ():
                patch.setenv(name, value)
            super().start(*flags)


class Replicas:
    """Processes with the same configuration. Each scrape is checked against the one before."""

    def __init__(self, folder: Path, cloud: str, postgres: PostgresServer, stack: ExitStack) -> None:
        self.postgres = postgres
        database = postgres.empty_database()
        self.programs = []
        for number in range(3):
            own = folder / f"replica{number}"
            own.mkdir()
            network = stack.enter_context(tcp_proxy(postgres.port))
            url = postgres.tcp_url(database, port=network.port)
            storage = {"url": url, "lease": f"{LEASE:.0f}s"}
            path = write_config(own, cloud, storage=storage)
            config = json.loads(path.read_text())
            config["targets"] = [{**config["targets"][0], "name": name} for name in NAMES]
            path.write_text(json.dumps(config))
            self.programs.append(ReplicaProgram(path, own, network))
        stack.callback(self.end)
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
        return sorted(map(len, held)) == sorted(loads) and sorted(itertools.chain(*held)) == list(NAMES)


def chaos(rng: random.Random, replicas: Replicas, event: str) -> None:
    """One event, over when this returns."""
    number = rng.randrange(len(replicas.programs))
    program = replicas.programs[number]
    wait_for("a replica that answers", lambda: replicas.look(number), 60)
    assert program.process is not None
    match event:
        case "kill":
            program.kill()
            time.sleep(rng.uniform(0.0, 1.5 * LEASE))
            program.start()
        case "pause":
            program.process.popen.send_signal(signal.SIGSTOP)
            time.sleep(LEASE + rng.uniform(0.5, 2.5))
            program.process.popen.send_signal(signal.SIGCONT)
        case "restart":
            assert program.stop() == 0
            program.start()
        case "database":
            replicas.postgres.stop()
            wait_for("a scrape without the database", lambda: replicas.look(number))
            time.sleep(rng.uniform(0.0, 1.5 * LEASE))
            replicas.postgres.start()
        case "cut":
            program.network.cut()
        case "swallow":
            program.network.swallows = True
            time.sleep(rng.uniform(0.0, 2 * LEASE))
            program.network.swallows = False
            program.network.cut()  # what it swallowed is gone
        case "clock":
            program.set_clock(rng.choice(("+0", "-20m", "+20m", "-2d", "+2d")))


# Written by a trigger: every commit, with who made it in which lease.
COMMITS = """
CREATE SCHEMA seen;
CREATE TABLE seen.commits (name text, version bigint, fence bigint, holder text);
CREATE FUNCTION seen.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seen.commits VALUES (NEW.name, NEW.version, NEW.fence, NEW.holder); RETURN NEW;
END $$;
CREATE TRIGGER note AFTER UPDATE ON metastudio_tts_exporter.targets FOR EACH ROW
    WHEN (NEW.version <> OLD.version) EXECUTE FUNCTION seen.note();
"""


def check_commits(postgres: PostgresServer) -> None:
    """Of a target, one after the other: a lease is one replica's, none commits after the next began."""
    rows: list[Any] = postgres.execute("SELECT * FROM seen.commits ORDER BY name, version", "books")
    holders: dict[tuple[str, int], str] = {}
    for former, row in itertools.pairwise([(None, 0, 0, ""), *rows]):
        name, version, fence, holder = row
        if former[0] == name:
            assert (version, fence >= former[2]) == (former[1] + 1, True), (former, row)
        assert holders.setdefault((name, fence), holder) == holder, row
    assert len(holders) > len(NAMES)


@pytest.mark.e2e
def test_every_replica_ends_with_the_truth(tmp_path: Path, postgres: PostgresServer) -> None:
    """Killed, stopped for longer than a lease, restarted; the database crashes, the network swallows, clocks
    jump, the API fails. No counter ever goes back.
    """
    seed = int(os.environ.get("REPLICAS_SEED", "1"))
    rng = random.Random(seed)
    flags = ["--rate=0", f"--seed={seed}", "--history=0", f"--time-scale={SCALE}"]
    flags += [f"--epoch={time.time() - 7200}", f"--world={json.dumps(WORLD)}"]
    with simulator(tmp_path, *flags) as cloud, ExitStack() as stack:
        replicas = Replicas(tmp_path, cloud, postgres, stack)
        replicas.start()
        wait_for("targets that are spread", lambda: replicas.spread(1, 2, 2), 60)
        wait_for("every baseline", lambda: all(settled(replicas.look(n)) for n in range(3)))
        postgres.execute(COMMITS, "books")
        post(f"{cloud}/simulator/faults", FAULTS)
        post(f"{cloud}/simulator/rate", {"rate": 240.0})
        begun, events = time.monotonic(), rng.sample(KINDS, len(KINDS))
        while events or time.monotonic() - begun < SECONDS:
            event = events.pop() if events else rng.choice(KINDS)
            print(f"{time.monotonic() - begun:.0f}", event)
            chaos(rng, replicas, event)
            end = time.monotonic() + rng.uniform(0.5, 4.0)
            while time.monotonic() < end:
                for number in range(3):
                    replicas.look(number)
        for program in replicas.programs:
            program.set_clock("+0")
        post(f"{cloud}/simulator/faults", None, method="DELETE")
        wait_for("targets that are spread again", lambda: replicas.spread(1, 2, 2), 60)
        end_all(cloud, 240.0)
        last = float(json.loads(get(f"{cloud}/simulator") or "")["now"])
        wait_for("the end of every job", lambda: done(cloud, replicas, last), 120)
        truth = expected(cloud)
        for number in range(3):
            final: Any = replicas.look(number)
            for name in NAMES:
                assert differences(counted(of_target(final, name)), truth) == [], (number, name)
        check_commits(postgres)
        assert sum(truth["created"].values()) > 100
        assert replicas.scrapes > 50


@pytest.mark.e2e
def test_wrong_keys_are_sent_four_times_at_most(tmp_path: Path, postgres: PostgresServer) -> None:
    """By all replicas together, which get them at once; corrected ones are used by all of them soon."""
    with simulator(tmp_path, "--rate=60") as cloud, ExitStack() as stack:
        replicas = Replicas(tmp_path, cloud, postgres, stack)
        for program in replicas.programs:  # each target asks for another user: a refusal concerns it alone
            config = json.loads(program.config.read_text())
            good = config["targets"][0]["auth"]["aksk"]
            config["targets"] = [{**target, "app_user_id": target["name"]} for target in config["targets"]]
            program.config.write_text(json.dumps(config))
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
