"""Two PostgreSQL servers, one a standby of the other, and a URL that names both."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from testkit.postgres import PostgresServer, postgres_server, server_programs, standby_server
from testkit.processes import Exporter, end_all, post, simulator, total, wait_for, write_config
from tests.conftest import Tool
from tests.e2e.test_differential import (
    SCALE,
    WORLD,
    Witness,
    counted,
    differences,
    expected,
    wait_for_the_end,
)

LOST = "the database cannot be used: what was committed is still served"
FOUND = "the database can be used again"


class Servers(NamedTuple):
    primary: PostgresServer
    standby: PostgresServer


@pytest.fixture
def servers(tool: Tool) -> Iterator[Servers]:
    """A commit returns when the standby has it, too."""
    programs = server_programs() or tool("initdb").parent
    with postgres_server(programs) as primary, standby_server(programs, primary) as standby:
        primary.execute("CREATE DATABASE books TEMPLATE template0")
        wait_for("a standby that follows", lambda: primary.execute("SELECT 1 FROM pg_stat_replication"))
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        replicates = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_for("a standby that commits wait for", lambda: primary.execute(replicates))
        yield Servers(primary, standby)


def replica(folder: Path, number: int, cloud: str, *servers: PostgresServer) -> Exporter:
    own = folder / f"replica{number}"
    own.mkdir()
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    storage = {"url": f"postgresql://postgres@{hosts}/books", "lease": "3s"}
    return Exporter(write_config(own, cloud, storage=storage, poll={"overlap": "30s"}), own)


@pytest.mark.e2e
def test_replicas_go_on_with_the_standby_that_was_promoted(tmp_path: Path, servers: Servers) -> None:
    """By themselves; no counter goes back, and each is what the API did in the end."""
    flags = [
        "--rate=0",
        "--history=0",
        f"--time-scale={SCALE}",
        f"--world={json.dumps({**WORLD, 'late': 0.0})}",
    ]
    with simulator(tmp_path, *flags, f"--epoch={time.time() - 7200}") as cloud, ExitStack() as stack:
        witnesses = []
        for number in range(2):
            program = replica(tmp_path, number, cloud, *servers)
            stack.callback(program.kill)
            program.start()
            witnesses.append(Witness(program))

        def created(witness: Witness) -> float:
            return total(witness.look() or {}, "metastudio_tts_jobs_created_total")

        def polls() -> bool:
            """Exactly one of them does, and its last poll was complete."""
            seen = [witness.look() or {} for witness in witnesses]
            held = [total(samples, "metastudio_exporter_lease_held") for samples in seen]
            return sorted(held) == [0, 1] and total(seen[held.index(1)], "metastudio_up") == 1

        wait_for("a first poll", polls, 60)
        post(f"{cloud}/simulator/rate", {"rate": 360.0})
        wait_for("jobs on both", lambda: min(map(created, witnesses)) > 20)
        servers.primary.stop()
        wait_for("lines that say so", lambda: all(LOST in witness.program.log() for witness in witnesses))
        before = [created(witness) for witness in witnesses]
        servers.standby.promote()
        wait_for(
            "lines that it is over", lambda: all(FOUND in witness.program.log() for witness in witnesses)
        )
        wait_for(
            "new jobs on both", lambda: all(created(w) > n for w, n in zip(witnesses, before, strict=True))
        )
        wait_for("polls of one of them", polls, 60)
        end_all(cloud, 360.0)
        wait_for_the_end(cloud, witnesses[0])
        truth = expected(cloud)
        wait_for(
            "the truth", lambda: all(differences(counted(w.look() or {}), truth) == [] for w in witnesses)
        )
        for witness in witnesses:
            for line in (LOST, FOUND):
                assert 1 <= witness.program.log().count(line) <= 6, witness.program.log()


@pytest.mark.e2e
def test_a_standby_alone_is_refused_in_one_line(tmp_path: Path, servers: Servers) -> None:
    """Until it is promoted: then the same command starts."""
    with simulator(tmp_path, "--rate=0") as cloud, ExitStack() as stack:
        program = replica(tmp_path, 0, cloud, servers.standby)
        stack.callback(program.kill)
        program.start()
        assert program.process is not None
        assert program.process.popen.wait(30) == 1
        program.kill()
        (line,) = program.log().splitlines()
        assert "session is read-only: this server is read-only (a standby?): name the primary" in line
        servers.standby.promote()
        servers.primary.stop()
        program.start()
        wait_for("its first poll", lambda: total(program.samples() or {}, "metastudio_up") == 1)
