"""The whole program with few files to open, flooded: it answers, and forgets nothing of its own."""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
from pathlib import Path

import pytest

from exporter import cli
from exporter.web.connections import Limits
from testkit import processes


@pytest.mark.e2e
def test_a_flood_beyond_the_limit_of_files_stops_nobody(tmp_path: Path) -> None:
    """With 64 files, 200 connections that say nothing: scrapes and polls go on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with processes.simulator(tmp_path) as cloud, contextlib.ExitStack() as flood:
        exporter = processes.Exporter(processes.write_config(tmp_path, cloud), tmp_path)
        exporter.start()
        assert exporter.process is not None
        resource.prlimit(exporter.process.popen.pid, resource.RLIMIT_NOFILE, (64, hard))  # before it looks
        try:
            processes.wait_for("an answer", exporter.samples)
            for _ in range(200):
                connection = socket.create_connection(
                    ("127.0.0.1", exporter.port), timeout=5, source_address=("127.0.0.2", 0)
                )
                flood.enter_context(connection)
            samples = exporter.samples()
            assert samples is not None
            assert processes.total(samples, "process_open_fds") < 60

            def polled() -> bool:
                later = exporter.samples()
                name = "metastudio_exporter_polls_total"
                return later is not None and processes.total(later, name, outcome="complete") > before

            before = processes.total(samples, "metastudio_exporter_polls_total", outcome="complete")
            processes.wait_for("another poll", polled, 15)
            assert "Too many open files" not in exporter.log()
        finally:
            exporter.kill()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], 40), (["--web.max-requests=7"], 7), (["serve", "--web.max-requests=0"], 0)],
    ids=["default", "given", "any-number"],
)
def test_the_flag_bounds_scrapes_at_a_time(
    arguments: list[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty unless said otherwise, as in node_exporter."""
    found: list[argparse.Namespace] = []

    def serve(flags: argparse.Namespace) -> int:
        found.append(flags)
        return 0

    monkeypatch.setattr(cli, "serve", serve)
    assert cli.main(arguments) == 0
    assert found[0].max_requests == expected
    assert Limits().requests == 40


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "", "1" * 10])
def test_what_is_no_number_of_requests_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2 and a line that says what is one."""
    with pytest.raises(SystemExit) as ended:
        cli.main([f"--web.max-requests={value}"])
    assert ended.value.code == 2
    assert (
        f"{value!r} is not a number of requests, such as 40, or 0 for any number" in capsys.readouterr().err
    )
