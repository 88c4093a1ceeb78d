"""The whole program with few files to open, flooded: it answers, and forgets nothing of its own."""

from __future__ import annotations

import contextlib
import resource
import socket
from pathlib import Path

from tests import processes


def test_a_flood_beyond_the_limit_of_files_stops_nobody(tmp_path: Path) -> None:
    """With 64 files, 200 connections that say nothing: scrapes and polls go on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with processes.simulator(tmp_path) as cloud, contextlib.ExitStack() as flood:
        exporter = processes.Exporter(processes.write_config(tmp_path, cloud), tmp_path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))  # the child's, as it begins
        try:
            exporter.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        try:
            processes.wait_for("an answer", exporter.samples)
            for _ in range(200):
                stranger = socket.create_connection(
                    ("127.0.0.1", exporter.port), timeout=5, source_address=("127.0.0.2", 0)
                )
                flood.enter_context(stranger)
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
