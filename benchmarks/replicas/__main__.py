"""Three replicas with 20 and 200 targets: python -m benchmarks.replicas [--targets=20,200] [--replicas=3].

The real exporters, the simulator and a PostgreSQL server of their own, each a process: half a job a second
and a poll every 15 s a target, signed requests over HTTP, ``fsync`` on. Measured from one checkpoint on, for
as long as the server lets pass between two (five minutes): so the log has its share of whole pages. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.process_cost import pid_of, resident
from benchmarks.replicas.commits import DURABLE, server_cpu
from benchmarks.targets.__main__ import (
    HISTORY,
    INTERVAL,
    PER_MINUTE,
    compile_modules,
    configured,
    cpu_seconds,
    polls_of,
    private_mib,
)
from testkit.postgres import PostgresServer, postgres_server, server_programs
from testkit.processes import Exporter, simulator, total, wait_for

SIZES: Final = (20, 200)
REPLICAS: Final = 3
WARM_UP: Final = 30.0
MEASURED: Final = 300.0
"""``checkpoint_timeout``."""
DAY: Final = 86_400.0
OURS: Final = "FROM pg_stat_activity WHERE application_name = 'metastudio-tts-exporter'"


class ReplicasCost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one number of targets."""

    targets: int
    replicas: int
    cpu_percent: float
    """Of a core, the mean of the replicas."""
    server_cpu_percent: float
    rss_mib: float
    private_mib: float
    """The largest of them."""
    connections: int
    """The most of all replicas together."""
    polls: int
    due: int
    wal_mib_a_minute: float
    wal_gib_a_day: float
    size_mib: float
    """Of the database at the end."""
    load: float
    """Of the machine, afterwards."""


def measure(targets: int, replicas: int, folder: Path, server: PostgresServer) -> ReplicasCost:
    projects = [f"{number:032x}" for number in range(1, targets + 1)]
    flags = [f"--rate={PER_MINUTE}", f"--history={HISTORY}", "--seed=targets", "--no-auth"]
    flags += ['--world={"rhythm": 0}', *(f"--project={project}" for project in projects)]
    database = server.new_database()
    with simulator(folder, *flags, module="benchmarks.simulator") as url:
        programs = []
        for number in range(replicas):
            own = folder / f"{targets}-{number}"
            own.mkdir()
            config = configured(own, url, projects, INTERVAL, keys=1)
            parsed = msgspec.json.decode(config.read_bytes())
            parsed["storage"] = {"url": server.url(database)}
            config.write_bytes(msgspec.json.encode(parsed))
            programs.append(Exporter(config, own))
        try:
            for program in programs:
                program.start()
            wait_for("the targets to be spread", lambda: spread_over(programs, targets) or None, seconds=300)
            wait_for("first polls", lambda: polls_of(programs[0]) >= targets or None, seconds=300)
            time.sleep(WARM_UP)
            server.execute("CHECKPOINT")
            pids = [pid_of(program) for program in programs]
            before = sum(map(cpu_seconds, pids)), server_cpu(server), polls_of(programs[0]), written(server)
            begun, most = time.monotonic(), 0
            while (seconds := time.monotonic() - begun) < MEASURED:
                most = max(most, number_of(server, f"SELECT count(*) {OURS}"))
                time.sleep(1)
            wal = written(server) - before[3]
            return ReplicasCost(
                targets=targets,
                replicas=replicas,
                cpu_percent=100 * (sum(map(cpu_seconds, pids)) - before[0]) / seconds / replicas,
                server_cpu_percent=100 * (server_cpu(server) - before[1]) / seconds,
                rss_mib=max(resident(pid)[0] for pid in pids),
                private_mib=max(map(private_mib, pids)),
                connections=most,
                polls=polls_of(programs[0]) - before[2],
                due=round(targets * seconds / INTERVAL),
                wal_mib_a_minute=60 * wal / seconds / 2**20,
                wal_gib_a_day=DAY * wal / seconds / 2**30,
                size_mib=number_of(server, f"SELECT pg_database_size('{database}')") / 2**20,
                load=os.getloadavg()[0],
            )
        finally:
            for program in programs:
                program.kill()


def spread_over(programs: list[Exporter], targets: int) -> bool:
    """All are held, by all replicas."""
    held = [
        total(samples, "metastudio_exporter_lease_held")
        for program in programs
        if (samples := program.samples()) is not None
    ]
    return sum(held) == targets and len(held) == len(programs) and max(held) - min(held) < 2


def written(server: PostgresServer) -> int:
    """Bytes of the log since the server was made."""
    return number_of(server, "SELECT pg_current_wal_insert_lsn() - '0/0'")


def number_of(server: PostgresServer, query: str, database: str = "postgres") -> int:
    """What the query gives."""
    return int(str(server.execute(query, database)[0][0]))


HEADER: Final = (
    "| targets, replicas | CPU of a core, each | CPU of the server | RSS (private), each | connections |"
    " polls | WAL a minute | WAL a day | database |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def row(cost: ReplicasCost) -> str:
    cells = (
        f"{cost.targets}, {cost.replicas}",
        f"{cost.cpu_percent:.1f} %",
        f"{cost.server_cpu_percent:.1f} %",
        f"{cost.rss_mib:.0f} ({cost.private_mib:.0f}) MiB",
        f"{cost.connections}",
        f"{cost.polls} of {cost.due}",
        f"{cost.wal_mib_a_minute:.1f} MiB",
        f"{cost.wal_gib_a_day:.1f} GiB",
        f"{cost.size_mib:.0f} MiB",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.replicas")
    flags.add_argument("--targets", default=",".join(map(str, SIZES)), help="numbers of targets")
    flags.add_argument("--replicas", type=int, default=REPLICAS)
    flags.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of the server")
    arguments = flags.parse_args()
    programs = server_programs()
    if programs is None:
        raise SystemExit("no PostgreSQL server is installed")
    results = []
    settings = {**DURABLE, **dict(setting.split("=", 1) for setting in arguments.set)}
    with tempfile.TemporaryDirectory() as compiled, postgres_server(programs, **settings) as server:
        compile_modules(Path(compiled))
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}\n\n{HEADER}", flush=True)
        for targets in map(int, arguments.targets.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                results.append(measure(targets, arguments.replicas, Path(folder), server))
            print(row(results[-1]), flush=True)
    print(f"\n{msgspec.json.encode(results).decode()}")


if __name__ == "__main__":
    main()
