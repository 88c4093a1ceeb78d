"""How long a target waits when its replica is gone: python -m benchmarks.replicas.failover [--rounds=50].

Three replicas with fifteen targets: in each round one of them is killed, or asked to end, at some moment
of an interval, and started again. Measured for each of its targets: from then to the first commit of another
replica, which has polled it; and when that was so for the last of them. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.replicas.commits import DURABLE
from testkit.postgres import PostgresServer, postgres_server, server_programs
from testkit.processes import Exporter, simulator, total, wait_for, write_config

TARGETS: Final = 15
REPLICAS: Final = 3
STEP: Final = 0.05
HELD: Final = "metastudio_exporter_lease_held"

_Commits = dict[str, tuple[str, int]]
"""By target: its holder and its version."""


def commits(server: PostgresServer, database: str) -> _Commits:
    rows = server.execute("SELECT name, holder, version FROM metastudio_tts_exporter.targets", database)
    return {str(name): (str(holder), int(str(version))) for name, holder, version in rows}


def spread(now: _Commits) -> bool:
    """Has each replica its part, and each target a commit?"""
    holders = [holder for holder, version in now.values() if holder and version]
    loads = [holders.count(holder) for holder in set(holders)]
    return sorted(loads) == [TARGETS // REPLICAS] * REPLICAS


def settled(server: PostgresServer, database: str) -> _Commits | None:
    now = commits(server, database)
    return now if spread(now) else None


def waits(server: PostgresServer, database: str, before: _Commits, gone: str) -> list[float]:
    """Seconds until another replica commits to each target of the one that is gone."""
    begun, left, found = time.monotonic(), {n for n, (holder, _) in before.items() if holder == gone}, []
    while left:
        for name, (holder, version) in commits(server, database).items():
            if name in left and holder not in ("", gone) and version > before[name][1]:
                left.remove(name)
                found.append(time.monotonic() - begun)
        time.sleep(STEP)
        if time.monotonic() - begun > 120:
            raise AssertionError(f"nobody polls {sorted(left)}")
    return found


def measure(rounds: int, lease: int, interval: int, *, planned: bool) -> list[list[float]]:
    """Of each round: the seconds that each target waited."""
    with (
        tempfile.TemporaryDirectory() as name,
        postgres_server(server_programs() or Path(), **DURABLE) as server,
        simulator(Path(name), "--rate=60", "--history=0") as url,
    ):
        database, found = server.new_database(), list[list[float]]()
        programs = [replica(Path(name) / str(number), url, server.url(database), lease, interval)
                    for number in range(REPLICAS)]  # fmt: skip
        try:
            for program in programs:
                program.start()
            for program in programs:
                wait_for("a scrape", program.samples, 60)
            for number in range(rounds):
                wait_for("the targets to be spread", lambda: settled(server, database), 120)
                time.sleep(interval * (number * 0.618 % 1))  # spread over it
                before = wait_for("the targets to be spread", lambda: settled(server, database), 120)
                program = programs[number % REPLICAS]
                samples = wait_for("a scrape", program.samples)
                held = next(name for name in before if total(samples, HELD, target=name))
                holder = before[held][0]
                if planned:
                    program.stop()
                else:
                    program.kill()
                found.append(waits(server, database, before, holder))
                program.start()
            return found
        finally:
            for program in programs:
                program.kill()


def replica(folder: Path, api: str, store: str, lease: int, interval: int) -> Exporter:
    folder.mkdir()
    path = write_config(
        folder, api, storage={"url": store, "lease": f"{lease}s"}, poll={"interval": f"{interval}s"}
    )
    config = msgspec.json.decode(path.read_bytes())
    (target,) = config["targets"]
    config["targets"] = [{**target, "name": f"t{number:02}"} for number in range(TARGETS)]
    path.write_bytes(msgspec.json.encode(config))
    return Exporter(path, folder)


def print_row(what: str, waited: list[float]) -> None:
    found = sorted(waited)
    share = found[min(len(found) - 1, round(0.95 * len(found)))]
    numbers = (found[0], statistics.median(found), share, found[-1])
    print(f"| {what} | {len(found)} | {' | '.join(f'{number:.1f} s' for number in numbers)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--lease", type=int, default=15)
    parser.add_argument("--interval", type=int, default=15)
    flags = parser.parse_args()
    print(f"lease {flags.lease} s, poll.interval {flags.interval} s\n")
    print("| | number | shortest | median | 95 % | longest |")
    print("| --- | --- | --- | --- | --- | --- |")
    for text, planned in (("killed", False), ("stopped", True)):
        rounds = measure(flags.rounds, flags.lease, flags.interval, planned=planned)
        print_row(f"{text}: each target", [wait for waited in rounds for wait in waited])
        print_row(f"{text}: the last of a replica", [max(waited) for waited in rounds])
    print(f"\nLoad of the machine afterwards: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
