"""Whatever blocks (a reader of the log, a secret file, a disk), the program answers, and ends in time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exporter.app import LAST_COMMIT_SECONDS
from exporter.cli import DRAIN_SECONDS
from testkit.processes import (
    ROOT,
    Exporter,
    exporter,
    free_port,
    get,
    simulator,
    total,
    wait_for,
    write_config,
)

BOUND = LAST_COMMIT_SECONDS + DRAIN_SECONDS + 4.0
"""Seconds that the end may take; the rest is for a busy machine."""

SLOW_DISK = """
#include <unistd.h>
int fsync(int fd) { sleep(30); return 0; }
int fdatasync(int fd) { sleep(30); return 0; }
"""


def end(program: Exporter) -> float:
    """Seconds from SIGTERM to the end."""
    begun = time.monotonic()
    assert program.stop(signal.SIGTERM) == 0
    return time.monotonic() - begun


def up(program: Exporter) -> bool:
    return total(program.samples() or {}, "metastudio_up") == 1


@pytest.mark.e2e
@pytest.mark.parametrize("secret", ["access_key", "secret_key"])
def test_a_secret_that_becomes_a_fifo_stops_only_its_target(tmp_path: Path, secret: str) -> None:
    """Opening a FIFO waits for its writer, for ever."""
    with simulator(tmp_path) as cloud:
        config = write_config(tmp_path, cloud)
        text = config.read_text()
        start = text.index('"', text.index(f'"{secret}": ') + len(secret) + 3)
        value = text[start + 1 : text.index('"', start + 1)]
        file = tmp_path / "secret"
        file.write_text(value)
        config.write_text(text.replace(f'"{secret}": "{value}"', f'"{secret}_file": "{file}"'))
        with exporter(config, tmp_path) as program:
            wait_for("a good poll", lambda: up(program))
            file.unlink()
            os.mkfifo(file)
            wait_for("the bad file to be noticed", lambda: "is not a regular file" in program.log())
            assert get(f"{program.url}/-/healthy") is not None
            assert end(program) < BOUND


@pytest.fixture
def slow_disk(tmp_path: Path) -> str:
    """A library before which every fsync takes half a minute."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_DISK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


@pytest.mark.e2e
def test_a_slow_disk_does_not_hold_up_the_end(
    tmp_path: Path, slow_disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit under way is given up, as the log says; it is made again after the next start."""
    with simulator(tmp_path, "--rate=600") as cloud:
        config = write_config(tmp_path, cloud)
        with exporter(config, tmp_path) as program:
            wait_for("a good poll", lambda: up(program))
            assert end(program) < BOUND
        monkeypatch.setenv("LD_PRELOAD", slow_disk)
        with exporter(config, tmp_path) as program:
            wait_for("an answer", lambda: get(f"{program.url}/-/healthy"))
            wait_for("a request", lambda: "listening" in program.log())
            time.sleep(2.0)  # into the commit of the first poll
            assert end(program) < BOUND


@pytest.mark.e2e
def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """A pipe holds 64 KiB; what waits is bounded, what was dropped is counted, and the end is in time."""
    port = free_port()
    config = write_config(tmp_path, "http://127.0.0.1:9", poll={"interval": "1s"})
    read, write = os.pipe()
    arguments = [f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=debug"]
    os.set_blocking(write, False)
    filled = 0
    while True:
        try:
            filled += os.write(write, b"#" * 1024)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    with subprocess.Popen([sys.executable, "-m", "exporter", *arguments], cwd=ROOT, stderr=write) as process:
        os.close(write)
        wait_for("an answer", lambda: get(f"http://127.0.0.1:{port}/metrics"))
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 0
        assert time.monotonic() - begun < BOUND
    os.close(read)


@pytest.mark.e2e
def test_lines_before_the_end_are_there_and_in_order(tmp_path: Path) -> None:
    """The thread that writes them is waited for as long as somebody reads."""
    with simulator(tmp_path) as cloud, exporter(write_config(tmp_path, cloud), tmp_path) as program:
        wait_for("a good poll", lambda: up(program))
        end(program)
        log = program.log()
    stamps = [line.split()[0] for line in log.splitlines()]
    assert stamps == sorted(stamps)
    assert "msg=stopping" in log.splitlines()[-1]
