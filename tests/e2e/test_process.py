"""The program as its users run it: commands, flags, exit codes, signals, a real Prometheus."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter import __version__
from exporter.simulator.auth import ACCESS_KEY
from testkit.processes import (
    ROOT,
    Exporter,
    Process,
    exporter,
    free_port,
    get,
    parse,
    post,
    simulator,
    total,
    wait_for,
    write_config,
)
from tests.conftest import Tool

CREATED = "metastudio_tts_jobs_created_total"
UNUSED = "http://127.0.0.1:9"


def run(arguments: Sequence[str], cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """The program, to its end."""
    command = [sys.executable, "-m", "exporter", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


def requests(cloud: str) -> dict[tuple[str, str], int]:
    """What the simulator was asked, by operation and status."""
    told = json.loads(get(f"{cloud}/simulator") or "")["requests"]
    return {(operation, status): number for operation, status, number in told}


def created(program: Exporter) -> float | None:
    return total(program.samples() or {}, CREATED) or None


# --- flags, files, exit codes -------------------------------------------------------------------------------


@pytest.mark.program
def test_the_version_is_printed() -> None:
    """What a bug report begins with."""
    done = run(["--version"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"metastudio-tts-exporter {__version__} ")


@pytest.mark.program
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--no-such-flag"], id="unknown"),
        pytest.param(["--log.level=loud"], id="bad-choice"),
        pytest.param(["--shard=3/3"], id="bad-shard"),
        pytest.param(["--shard=\uff11/\uff12"], id="full-width-digits"),
        pytest.param(["dance"], id="unknown-command"),
        pytest.param(["check", "--config.fil=x"], id="abbreviated"),
    ],
)
def test_wrong_flags_end_with_two(arguments: list[str]) -> None:
    """So that a supervisor can tell them from a failure; nothing is started."""
    done = run(arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error:" in done.stderr.splitlines()[-1]


@pytest.mark.program
@pytest.mark.parametrize("command", [["check"], []], ids=["check", "serve"])
@pytest.mark.parametrize("name", ["", "keys"], ids=["not-writable", "writable"])
def test_no_secrets_of_tls_are_written_to_disk(command: list[str], name: str, tmp_path: Path) -> None:
    """Python would do it for whoever can set SSLKEYLOGFILE, and fail where the file cannot be opened."""
    config = write_config(tmp_path, UNUSED, storage={"url": f"sqlite:///{tmp_path}/missing/books.db"})
    arguments = [*command, f"--config.file={config}", "--web.listen-address=127.0.0.1:0"]
    done = run(arguments, SSLKEYLOGFILE=str(tmp_path / name))
    assert done.returncode == 1
    said, *_ = done.stderr.splitlines()
    assert "the environment variable SSLKEYLOGFILE is ignored" in said
    assert "SSL_CERT_FILE" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "keys").exists()


@pytest.mark.program
def test_a_configuration_pipe_without_a_writer_is_reported(tmp_path: Path) -> None:
    """It waits, as for a slow writer, whose configuration is read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = Process(["-m", "exporter", "check", f"--config.file={pipe}"], tmp_path / "log")
    try:
        wait_for(
            "a hint",
            lambda: f"{pipe}: waiting for somebody to write to this pipe" in (tmp_path / "log").read_text(),
        )
        pipe.write_text("targets: [{name: a, region: r}]")
        assert program.popen.wait(20) == 0
    finally:
        program.kill()


@pytest.mark.program
def test_a_configuration_from_standard_input_is_read(tmp_path: Path) -> None:
    """Also a pipe, and its writer is there."""
    store = f"storage: {{url: 'sqlite:///{tmp_path}/books.db'}}\n"
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "check", "--config.file=/dev/stdin"],
        cwd=ROOT,
        input=store + "targets: [{name: a, region: r, auth: {agency: {}}}]",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "/dev/stdin: valid, 1 target" in done.stdout


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.program
def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    """One line, exit code 1."""
    assert "exporter.yaml: " in one_line(run([], cwd=tmp_path))


@pytest.mark.program
def test_every_problem_of_a_configuration_is_reported_at_once(tmp_path: Path) -> None:
    """By the start and by ``check`` alike, each with file and line."""
    config = tmp_path / "bad.yaml"
    config.write_text("poll: {interval: never}\nbogus: 1\ntargets: []\n")
    started, checked = run([f"--config.file={config}"]), run(["check", f"--config.file={config}"])
    assert (started.returncode, checked.returncode) == (1, 1)
    problems = checked.stdout.splitlines()
    assert len(problems) == 3
    assert all(problem.startswith(f"{config}:") and problem in started.stderr for problem in problems)
    assert "Traceback" not in started.stderr


@pytest.mark.program
def test_check_accepts_a_good_configuration(tmp_path: Path) -> None:
    """Without starting anything, and without a store."""
    done = run(["check", "--estimate", f"--config.file={write_config(tmp_path, UNUSED)}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid, 1 target" in done.stdout
    assert not (tmp_path / "books.db").exists()


@pytest.mark.program
def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """One line, exit code 1, no store left locked."""
    config = write_config(tmp_path, UNUSED)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = one_line(run([f"--config.file={config}", f"--web.listen-address={address}"]))
    assert address in line
    assert "in use" in line


@pytest.mark.program
def test_simulate_prints_its_address_and_answers(tmp_path: Path) -> None:
    """For game days: only the simulator, ended by a signal with 0."""
    process = Process(["-m", "exporter", "simulate", "--rate=60"], tmp_path / "log")
    try:
        address = process.first_line()
        assert json.loads(get(f"{address}/simulator") or "")["projects"]
    finally:
        assert process.stop() == 0


# --- signals ------------------------------------------------------------------------------------------------


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[str]:
    """A simulator in which nothing happens yet."""
    with simulator(tmp_path, "--rate=0", "--history=0", "--seed=4") as address:
        yield address


def stop_in_time(program: Exporter, number: int) -> None:
    begun = time.monotonic()
    assert program.stop(number) == 0
    assert time.monotonic() - begun < 3.0  # two seconds, and one for a machine busy with other tests
    assert "Traceback" not in program.log()


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("moment", ["polling", "hanging", "catching-up"])
def test_a_signal_ends_it_in_two_seconds_and_nothing_is_lost(
    tmp_path: Path, cloud: str, number: int, moment: str
) -> None:
    """Whatever it is doing; what was counted stays counted, what was not is counted after the next start."""
    config = write_config(tmp_path, cloud, poll={"interval": "1s", "overlap": "10s", "timeout": "20s"})
    with exporter(config, tmp_path) as program:
        wait_for("the first start", lambda: counted_until(program))
        post(f"{cloud}/simulator/rate", {"rate": 600.0})
        seen = wait_for("some jobs", lambda: created(program))
        if moment == "hanging":
            before = sum(requests(cloud).values())
            post(f"{cloud}/simulator/faults", {"kind": "hang"})
            time.sleep(1.5)  # real processes: the next poll has to come and hang
            assert sum(requests(cloud).values()) <= before + 30
        if moment == "catching-up":
            program.kill()
            post(f"{cloud}/simulator/rate", {"rate": 60_000})
            wait_for("a backlog of 60 pages", lambda: everything(cloud) > 6000)
            post(f"{cloud}/simulator/rate", {"rate": 600})
            program.start()
            wait_for("the catch-up to begin", lambda: (created(program) or 0) > seen + 100)
        seen = max(seen, created(program) or 0)
        stop_in_time(program, number)
        for fault in json.loads(get(f"{cloud}/simulator/faults") or "")["faults"]:
            clear(cloud, fault[0])
        post(f"{cloud}/simulator/rate", {"rate": 0.0})
        post(f"{cloud}/simulator/clock", {"jump": 60.0})
        program.start()
        wait_for("every job to be counted", lambda: created(program) == everything(cloud), 180.0)
        assert (created(program) or 0) >= seen


def counted_until(program: Exporter) -> float | None:
    return total(program.samples() or {}, "metastudio_tts_counted_until_timestamp_seconds") or None


def clear(cloud: str, fault: int) -> None:
    request = urllib.request.Request(f"{cloud}/simulator/faults?id={fault}", method="DELETE")  # noqa: S310 - loopback only
    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - loopback only


def everything(cloud: str) -> int:
    """All jobs created since counting began, as the simulator knows them."""
    told = json.loads(get(f"{cloud}/simulator/truth", timeout=20) or "")["expected"]["created"]
    return sum(int(row[-1]) for row in told)


# --- refused credentials ------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_wrong_secret_key_is_tried_once_also_across_a_kill(tmp_path: Path, cloud: str) -> None:
    """Five bad signatures lock the key, and production may be using it."""
    aksk: dict[str, Any] = {"access_key": ACCESS_KEY, "secret_key": "wrong" * 8}
    config = write_config(tmp_path, cloud, target={"auth": {"aksk": aksk}})

    def refused() -> int:
        return sum(number for (_, status), number in requests(cloud).items() if status == "401")

    def told(program: Exporter) -> bool:
        return total(program.samples() or {}, "metastudio_api_credentials_rejected") == 1

    with exporter(config, tmp_path) as program:
        wait_for("the refusal", lambda: told(program))
        time.sleep(2.5)  # two more polls, and the refusal is stored
        first = refused()
        assert 1 <= first <= 2
        program.kill()
        program.start()
        wait_for(
            "polls after the restart",
            lambda: total(program.samples() or {}, "metastudio_exporter_polls_total", outcome="failed") >= 4,
        )
        assert told(program)
        assert refused() == first
        assert "wrong" * 8 not in program.log()


# --- the demo and Prometheus --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo, started as its users do; gives its address."""
    port = free_port()
    process = Process(
        ["-m", "exporter", "demo", f"--web.listen-address=127.0.0.1:{port}"],
        tmp_path_factory.mktemp("demo") / "log",
    )
    try:
        process.first_line()
        yield f"http://127.0.0.1:{port}"
    finally:
        assert process.stop() == 0


@pytest.mark.program
def test_the_demo_shows_living_counters_within_seconds(demo: str) -> None:
    """A visitor waits no longer."""

    def count() -> float | None:
        text = get(f"{demo}/metrics")
        return total(parse(text), CREATED) or None if text else None

    first = wait_for("the first jobs", count, 15.0)
    wait_for("more of them", lambda: (count() or 0) > first, 20.0)


@pytest.mark.program
def test_promtool_finds_nothing_wrong_with_the_metrics(demo: str, tool: Tool) -> None:
    """Names, help, types and units as Prometheus wants them."""
    text = wait_for("metrics", lambda: get(f"{demo}/metrics"))
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.e2e
def test_a_real_prometheus_scrapes_it_and_answers(demo: str, tool: Tool, tmp_path: Path) -> None:
    """From the demo to a query, with nothing in between."""
    job = {"job_name": "tts", "scrape_interval": "1s", "static_configs": [{"targets": [demo[7:]]}]}
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    url = f"http://127.0.0.1:{free_port()}"
    command = [str(tool("prometheus")), f"--config.file={tmp_path}/prometheus.yml"]
    command += [
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address={url[7:]}",
        "--log.level=error",
    ]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as prometheus,
    ):
        try:
            query = f"{url}/api/v1/query?query=sum({CREATED})"

            def answer() -> float | None:
                told = get(query)
                result = json.loads(told)["data"]["result"] if told else []
                return float(result[0]["value"][1]) or None if result else None

            assert wait_for("an answer", answer, 40.0) > 0
        finally:
            prometheus.terminate()
            prometheus.wait(20)
