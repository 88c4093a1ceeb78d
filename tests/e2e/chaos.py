"""Three replicas on one database, with all that can happen to them, and the truth at the end.

``make chaos`` plays as many minutes of it with as many seeds as asked for, and prints a line for each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from testkit.postgres import PostgresServer, postgres_server, server_programs
from testkit.processes import Exporter, Samples, end_all, get, post, simulator, total, wait_for, write_config
from testkit.set_clock import CLOCK_FILE
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

NAMES: Final = ("t0", "t1", "t2", "t3", "t4")
LEASE: Final = 5.0
HOUR: Final = 3600
INTERVAL: Final = 1.0
"""Of polls, as ``write_config`` has it."""
REQUESTS: Final = 4
"""That one poller makes here for each poll that is due, on an average at most: news, what settles, rechecks,
and again what failed, about a quarter.
"""
QUIET_REQUESTS: Final = 2
"""The same once the API does not fail any more and no job is new."""
HANDOVER: Final = 8
"""Requests more for each taking, and for each event that stops polls for a while: what was not committed is
read again, what was missed is caught up on.
"""
PAUSE: Final = 300
"""Seconds. A replica that begins with a wrong clock sends a signature that is refused; where the API fails
the corrected one as well, all replicas may wait for so long (``shared_breaker.py``).
"""
KINDS: Final = (
    "kill",
    "pause",
    "restart",
    "rolling",
    "database",
    "cut",
    "swallow",
    "late",
    "clock",
    "reload",
)
LEAVES_A_REQUEST: Final = frozenset({"pause", "swallow", "late", "database", "clock"})
"""A replica that loses its targets by these may have a request under way when another one polls."""


class ReplicaProgram(Exporter):
    """One whose clock can be set, with a network of its own to the database."""

    def __init__(self, config: Path, folder: Path, network: TcpProxy) -> None:
        super().__init__(config, folder, module="testkit.set_clock")
        self.network = network
        self._clock = folder / "clock"
        self.set_clock(0)

    def set_clock(self, seconds: int) -> None:
        """How far it is ahead."""
        self._clock.write_text(f"{seconds:<20}")

    def start(self, *flags: str) -> None:
        os.environ[CLOCK_FILE] = str(self._clock)
        super().start(*flags)


class RequestLog:
    """Which replica asked for which target, in order of time."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str]] = []

    def of(self, replica: int) -> Callable[[bytes], None]:
        """Gets what that replica sends to the API."""

        def note(data: bytes) -> None:
            names = re.findall(rb"(?i)x-app-userid: *(t\d)", data)
            self.entries.extend((replica, name.decode()) for name in names)

        return note

    def requests(self) -> Counter[str]:
        """By target."""
        return Counter(name for _, name in self.entries)

    def changes(self) -> Counter[str]:
        """By target: how often another replica asked than the one before."""
        last: dict[str, int] = {}
        changes: Counter[str] = Counter()
        for replica, name in tuple(self.entries):
            changes[name] += last.setdefault(name, replica) != replica
            last[name] = replica
        return changes


class Replicas:
    """Processes with the same configuration. Each scrape is checked against the one before."""

    def __init__(self, folder: Path, cloud: str, postgres: PostgresServer, stack: ExitStack) -> None:
        self.postgres = postgres
        self.log = RequestLog()
        database = postgres.empty_database()
        self.programs = []
        for number in range(3):
            own = folder / f"replica{number}"
            own.mkdir()
            network = stack.enter_context(tcp_proxy(postgres.port))
            port = int(cloud.rpartition(":")[2])
            heard = stack.enter_context(tcp_proxy(port, self.log.of(number)))
            url = f"{postgres.tcp_url(database, port=network.port)}?application_name=replica{number}"
            storage = {"url": url, "lease": f"{LEASE:.0f}s"}
            path = write_config(own, f"http://127.0.0.1:{heard.port}", storage=storage)
            config = json.loads(path.read_text())
            # Each target asks for another user: so its requests are known, and a refusal concerns it alone.
            config["targets"] = [
                {**config["targets"][0], "name": name, "app_user_id": name} for name in NAMES
            ]
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

    def ready(self, program: ReplicaProgram) -> bool:
        """While it becomes ready, all are looked at."""
        for number in range(len(self.programs)):
            self.look(number)
        return get(f"{program.url}/-/ready") is not None

    def held(self) -> list[list[str]]:
        """By replica that answers: the targets that it polls."""
        return [
            polled(samples)
            for number in range(len(self.programs))
            if (samples := self.look(number)) is not None
        ]

    def spread(self, *loads: int) -> bool:
        held = self.held()
        return sorted(map(len, held)) == sorted(loads) and sorted(itertools.chain(*held)) == list(NAMES)


def polled(samples: Samples) -> list[str]:
    return [name for name in NAMES if total(samples, "metastudio_exporter_lease_held", target=name)]


def fences(postgres: PostgresServer) -> dict[object, object]:
    """By target."""
    return dict(postgres.execute("SELECT name, fence FROM metastudio_tts_exporter.targets", "books"))  # type: ignore[arg-type]


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
        case "rolling":
            for one in replicas.programs:
                wait_for("a replica that is ready", partial(replicas.ready, one), 60)
                assert one.stop() == 0
                one.start()
                wait_for("a replica that is ready", partial(replicas.ready, one), 60)
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
        case "late":
            # A commit that was sent in time arrives when another replica has the target.
            mine, before = polled(replicas.last[number]), fences(replicas.postgres)
            program.network.hold()
            wait_for(
                "another holder",
                lambda: not mine or any(fences(replicas.postgres)[name] != before[name] for name in mine),
                60,
            )
            program.network.deliver()
        case "clock":
            program.set_clock(rng.choice((0, -3 * HOUR, 3 * HOUR, -48 * HOUR, 48 * HOUR)))
        case "reload":
            config = json.loads(program.config.read_text())
            config["poll"]["window"] = rng.choice(("10m", "11m"))
            program.config.write_text(json.dumps(config))
            program.process.popen.send_signal(signal.SIGHUP)


# Written by a trigger: every taking and every commit, with the replica that made it.
COMMITS = """
CREATE SCHEMA seen;
CREATE TABLE seen.commits (name text, version bigint, fence bigint, replica text, taking boolean);
CREATE FUNCTION seen.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seen.commits VALUES (NEW.name, NEW.version, NEW.fence, current_setting('application_name'),
        NEW.fence <> OLD.fence);
    RETURN NEW;
END $$;
CREATE TRIGGER note AFTER UPDATE ON metastudio_tts_exporter.targets FOR EACH ROW
    WHEN (NEW.version <> OLD.version OR NEW.fence <> OLD.fence) EXECUTE FUNCTION seen.note();
"""


def takings(postgres: PostgresServer) -> Counter[str]:
    """How often each target was taken by a replica that committed then; its commits are one after the other.

    Each is made by the replica that took the target last, and none in an earlier lease than the one before.
    """
    query = "SELECT * FROM seen.commits ORDER BY name, fence, NOT taking, version"
    rows: list[Any] = postgres.execute(query, "books")
    takers = {(name, fence): replica for name, _, fence, replica, taking in rows if taking}
    commits = [row[:4] for row in rows if not row[4]]
    for former, row in itertools.pairwise([(None, 0, 0, ""), *commits]):
        name, version, fence, replica = row
        if former[0] == name:
            assert version == former[1] + 1, (former, row)
        taker = takers.setdefault((name, fence), replica)  # of those taken before the first row
        assert taker == replica, f"{row} was committed in the lease of {taker}"
    return Counter(name for name, _ in {(name, fence) for name, _, fence, _ in commits})


class SeedResult(NamedTuple):
    """Of one run, which ended with the truth."""

    seconds: float
    """Of events."""
    end: float
    """Seconds after them until all was counted and shown: what is listed late takes time."""
    events: int
    jobs: int
    commits: int
    takings: int
    """Of all targets together, by replicas that committed."""
    changes: int
    """Of the replica that asks for a target, in the order of requests."""
    requests: int
    bound: int
    """What one poller would make, and ``HANDOVER`` more for each taking and each event that stops polls."""
    scrapes: int


def run(seed: int, seconds: float, folder: Path, postgres: PostgresServer) -> SeedResult:
    """Each kind of event once, and more for so many seconds. AssertionError when anything is wrong."""
    rng = random.Random(seed)
    flags = ["--rate=0", f"--seed={seed}", "--history=0", f"--time-scale={SCALE}"]
    flags += [f"--world={json.dumps(WORLD)}"]
    with simulator(folder, *flags) as cloud, ExitStack() as stack:
        replicas = Replicas(folder, cloud, postgres, stack)
        replicas.start()
        wait_for("targets that are spread", lambda: replicas.spread(1, 2, 2), 60)
        wait_for("every baseline", lambda: all(settled(replicas.look(n)) for n in range(3)))
        postgres.execute(COMMITS, "books")
        post(f"{cloud}/simulator/faults", WIRE_FAULTS)
        post(f"{cloud}/simulator/rate", {"rate": 240.0})
        replicas.log.entries.clear()
        begun, first, played = time.monotonic(), rng.sample(KINDS, len(KINDS)), []
        while first or time.monotonic() - begun < seconds:
            played.append(first.pop() if first else rng.choice(KINDS))
            print(f"{time.monotonic() - begun:.0f}", played[-1], file=sys.stderr)
            chaos(rng, replicas, played[-1])
            end = time.monotonic() + rng.uniform(0.5, 4.0)
            while time.monotonic() < end:
                for number in range(3):
                    replicas.look(number)
        spent = time.monotonic() - begun
        for program in replicas.programs:
            program.set_clock(0)
        post(f"{cloud}/simulator/faults", None, method="DELETE")
        wait_for("targets that are spread again", lambda: replicas.spread(1, 2, 2), 60)
        end_all(cloud, 240.0)
        last = float(json.loads(get(f"{cloud}/simulator") or "")["now"])
        wait_for("the end of every job", lambda: done(cloud, replicas, last), PAUSE + 120)
        passed, log = time.monotonic() - begun, replicas.log
        truth = expected(cloud)
        for number in range(3):
            final: Any = replicas.look(number)
            for name in NAMES:
                assert differences(counted(of_target(final, name)), truth) == [], (number, name)
        taken = takings(postgres)
        late = sum(event in LEAVES_A_REQUEST for event in played)
        requests, changes = log.requests(), log.changes()
        one_poller = (REQUESTS * spent + QUIET_REQUESTS * (passed - spent)) / INTERVAL
        bounds = {name: int(one_poller + HANDOVER * (taken[name] + late)) for name in NAMES}
        for name in NAMES:
            # Whoever takes a target asks for it from then on; who lost it may ask once more, and be followed.
            assert changes[name] <= taken[name] + 2 * late, (name, changes, taken, late)
            assert requests[name] <= bounds[name], (name, requests, bounds)
        commits: Any = postgres.execute("SELECT count(*) FROM seen.commits", "books")
        return SeedResult(
            spent,
            passed - spent,
            len(played),
            int(sum(truth["created"].values())),
            commits[0][0],
            taken.total(),
            changes.total(),
            requests.total(),
            sum(bounds.values()),
            replicas.scrapes,
        )


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


HEADER: Final = (
    "| seed | seconds | then | events | jobs | commits | takings | changes | requests | / bound | |\n"
    "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


def row(seed: int, seconds: float, postgres: PostgresServer) -> str:
    """The result of one run."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            seen = run(seed, seconds, Path(folder), postgres)
    except AssertionError as error:
        return f"| {seed} |{' |' * 9} **failed**: {error} |"
    times, counts = (
        (round(seen.seconds), round(seen.end)),
        (seen.events, seen.jobs, seen.commits, seen.takings),
    )
    requests = (seen.changes, seen.requests, f"{seen.requests / seen.bound:.2f}")
    return f"| {' | '.join(map(str, (seed, *times, *counts, *requests)))} | exact |"


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m tests.e2e.chaos", description=__doc__)
    flags.add_argument("--seeds", default="1-5", help="1-5, or one number (default: %(default)s)")
    flags.add_argument("--minutes", type=float, default=2.0, help="of events, each (default: %(default)s)")
    arguments = flags.parse_args()
    first, _, last = arguments.seeds.partition("-")
    programs = server_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian package postgresql)")
    rows: list[str] = []
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}\n\n{HEADER}", flush=True)
    for seed in range(int(first), int(last or first) + 1):
        with postgres_server(programs) as postgres:
            rows.append(row(seed, 60 * arguments.minutes, postgres))
        print(rows[-1], flush=True)
    if failed := sum("failed" in text for text in rows):
        raise SystemExit(f"{failed} of {len(rows)} runs failed")


if __name__ == "__main__":
    main()
