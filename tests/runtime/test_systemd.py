"""What systemd is told, over a real datagram socket."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.runtime import systemd
from testkit import processes


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1))
        sock.settimeout(20)
        yield sock


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where systemd listens: a file, or a name without one."""
    return str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"


def test_states_arrive_as_one_message(address: str) -> None:
    """A line each."""
    with listening(address) as sock:
        systemd.notify({"NOTIFY_SOCKET": address}, systemd.READY, "STATUS=x")
        assert sock.recv(100) == b"READY=1\nSTATUS=x"


def test_a_reload_says_when_it_began(address: str) -> None:
    """On the monotonic clock, in microseconds."""
    with listening(address) as sock:
        systemd.reloading({"NOTIFY_SOCKET": address}, lambda: 123_456_789)
        assert sock.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=123456"


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "@" + "x" * 300])
def test_nobody_to_tell_is_no_error(address: str | None) -> None:
    """Without systemd, or with one that does not listen, the program goes on."""
    systemd.notify({} if address is None else {"NOTIFY_SOCKET": address}, systemd.READY)


@pytest.mark.program
def test_the_program_tells_its_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready once it answers, reloading and ready again at SIGHUP, stopping at SIGTERM."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address) as sock, processes.simulator(tmp_path) as cloud:
        exporter = processes.Exporter(processes.write_config(tmp_path, cloud), tmp_path)
        exporter.start()
        try:
            assert sock.recv(100) == b"READY=1"
            assert processes.wait_for("an answer", lambda: processes.get(f"{exporter.url}/-/ready"), 5)
            assert exporter.process is not None
            os.kill(exporter.process.popen.pid, signal.SIGHUP)
            state, began = sock.recv(100).decode().split("\n")
            assert (state, began.partition("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")
            assert sock.recv(100) == b"READY=1"
            assert exporter.stop() == 0
            assert sock.recv(100) == b"STOPPING=1"
        finally:
            exporter.kill()
